//! Slots in fewer bits: divided into blocks, lent to a rule in its element type, and rounded back.

use std::{array, mem};

use half::bf16;

use super::float8::{self, Float8, Format, TILE};
use super::stochastic::{self, Noise};
use crate::loops::slices::{block_of, split_off};
use crate::loops::{BLOCK, Buffer};
use crate::moments::{MAX_PACKED, MomentStorage};
use crate::real::Scalar;
use crate::rule::SlotSpec;

/// A slot of a variable.
#[derive(Debug, Clone)]
pub(crate) enum PackedSlot {
    Bf16(Vec<bf16>),
    Float8(Float8),
}

impl PackedSlot {
    /// A slot filled with one number; `None` if the storage is the element type of the variable.
    pub(crate) fn filled(slot: &SlotSpec, storage: MomentStorage, number: bf16, len: usize) -> Option<Self> {
        let format = if slot.is_second_moment() { Format::Unsigned } else { Format::Signed };
        match storage {
            MomentStorage::Full => None,
            MomentStorage::Bf16 { .. } => Some(Self::Bf16(vec![number; len])),
            MomentStorage::Float8 { .. } => Some(Self::Float8(Float8::filled(format, number, len))),
        }
    }

    pub(crate) fn fill(&mut self, number: bf16) {
        match self {
            Self::Bf16(numbers) => numbers.fill(number),
            Self::Float8(slot) => slot.fill(number),
        }
    }

    /// Replaces the numbers, rounded to nearest.
    pub(crate) fn assign<T: Scalar>(&mut self, numbers: impl ExactSizeIterator<Item = T>) {
        match self {
            Self::Bf16(slot) => *slot = numbers.map(|number| bf16::from_f32(number.to_f32())).collect(),
            Self::Float8(slot) => slot.assign(numbers),
        }
    }

    /// Replaces the numbers by numbers in bfloat16.
    pub(crate) fn assign_bf16(&mut self, numbers: impl ExactSizeIterator<Item = bf16>) {
        match self {
            Self::Bf16(slot) => *slot = numbers.collect(),
            Self::Float8(slot) => slot.assign(numbers.map(bf16::to_f32)),
        }
    }
}

/// The number of bytes that a slot of moments takes.
pub(crate) fn bytes_of<T>(storage: MomentStorage, len: usize) -> usize {
    match storage {
        MomentStorage::Full => len * size_of::<T>(),
        MomentStorage::Bf16 { .. } => len * size_of::<bf16>(),
        MomentStorage::Float8 { .. } => float8::bytes_of(len),
    }
}

/// The numbers of slots of one storage. Empty slices after the last one.
#[derive(Debug)]
pub(crate) enum Narrow<'a> {
    Bf16([&'a mut [bf16]; MAX_PACKED]),
    /// Whole tiles, but for the last one of a slot.
    Float8([&'a mut [u8]; MAX_PACKED], [Format; MAX_PACKED]),
}

impl Narrow<'_> {
    /// The same numbers, borrowed for a shorter time.
    fn reborrow(&mut self) -> Narrow<'_> {
        match self {
            Self::Bf16(slots) => Narrow::Bf16(slots.each_mut().map(|slot| &mut **slot)),
            Self::Float8(slots, formats) => Narrow::Float8(slots.each_mut().map(|slot| &mut **slot), *formats),
        }
    }

    /// Whether there is a slot of this number.
    fn has(&self, slot: usize) -> bool {
        match self {
            Self::Bf16(slots) => !slots[slot].is_empty(),
            Self::Float8(slots, _) => !slots[slot].is_empty(),
        }
    }
}

/// The slots of a slice of a variable that are stored in fewer bits.
pub(crate) struct PackedSlots<'a> {
    /// The slots in order.
    slots: Narrow<'a>,
    /// The index of each of them among the array slots.
    indices: [usize; MAX_PACKED],
    noise: Noise,
    /// The place in the variable of the first element of the slice.
    pub(crate) first: usize,
}

impl<'a> PackedSlots<'a> {
    /// The slots of a whole variable. `arrays` are its array slots in order, `None` where a slot is stored in full.
    pub(crate) fn of(arrays: &'a mut [Option<PackedSlot>], noise: Noise) -> Self {
        let mut indices = [usize::MAX; MAX_PACKED];
        let (mut halves, mut tiles): ([&mut [bf16]; MAX_PACKED], [&mut [u8]; MAX_PACKED]) = Default::default();
        let mut formats = [Format::Signed; MAX_PACKED];
        let packed = arrays.iter_mut().enumerate().filter_map(|(index, array)| Some((index, array.as_mut()?)));
        let mut are_halves = false;
        for (i, (index, slot)) in packed.enumerate() {
            indices[i] = index;
            match slot {
                PackedSlot::Bf16(numbers) => (halves[i], are_halves) = (numbers, true),
                PackedSlot::Float8(slot) => (formats[i], tiles[i]) = (slot.format(), slot.bytes_mut()),
            }
        }
        let slots = if are_halves { Narrow::Bf16(halves) } else { Narrow::Float8(tiles, formats) };
        Self { slots, indices, noise, first: 0 }
    }

    /// The elements `at..at + n`.
    pub(crate) fn block(&mut self, at: usize, n: usize) -> PackedBlock<'_> {
        let slots = match &mut self.slots {
            Narrow::Bf16(slots) => Narrow::Bf16(slots.each_mut().map(|slot| block_of(slot, at, n))),
            Narrow::Float8(slots, formats) => {
                let (start, end) = (float8::bytes_before(at), float8::bytes_before(at + n + TILE - 1));
                let tiles = slots.each_mut().map(|slot| {
                    let end = end.min(slot.len());
                    if slot.is_empty() { &mut [][..] } else { &mut slot[start..end] }
                });
                Narrow::Float8(tiles, *formats)
            }
        };
        PackedBlock { slots, indices: self.indices, noise: self.noise, place: self.first + at, len: n }
    }

    /// The number of elements of `at..end` that can be rounded as one block.
    pub(crate) fn block_len(&self, at: usize, end: usize) -> usize {
        let left = end - at;
        match &self.slots {
            Narrow::Bf16(_) => left.min(BLOCK).min(stochastic::before_turn(self.first + at)),
            Narrow::Float8([slot, ..], _) if at.is_multiple_of(TILE) && end == float8::len_of(slot) => left.min(BLOCK),
            // Whole tiles, but for what is before the first one, and behind the last.
            Narrow::Float8(..) if at.is_multiple_of(TILE) && left >= TILE => (left / TILE * TILE).min(BLOCK),
            Narrow::Float8(..) => left.min(TILE - at % TILE),
        }
    }

    /// The number of elements that must stay together.
    pub(crate) fn width(&self) -> usize {
        match self.slots {
            Narrow::Bf16(_) => 1,
            Narrow::Float8(..) => TILE,
        }
    }

    /// Splits before an element, at a multiple of [`width`](Self::width).
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        let Self { mut slots, indices, noise, first } = self;
        let back = match &mut slots {
            Narrow::Bf16(slots) => Narrow::Bf16(slots.each_mut().map(|slot| split_off(slot, at))),
            Narrow::Float8(slots, formats) => {
                debug_assert_eq!(at % TILE, 0, "a tile stays together");
                let tiles = slots.each_mut().map(|slot| split_off(slot, float8::bytes_before(at)));
                Narrow::Float8(tiles, *formats)
            }
        };
        (Self { slots, indices, noise, first }, Self { slots: back, indices, noise, first: first + at })
    }
}

/// The slots of a block that are stored in fewer bits.
#[derive(Debug)]
pub(crate) struct PackedBlock<'a> {
    /// The slots in order; for slots in 8 bits, the tiles that have elements of the block.
    slots: Narrow<'a>,
    /// The index of each of them among the array slots of the block.
    indices: [usize; MAX_PACKED],
    noise: Noise,
    /// The place in the variable of the first element of the block.
    place: usize,
    /// The number of elements.
    len: usize,
}

/// The slots `0..N` of a block, for a loop over all of them.
pub(crate) enum Fusible<'a, const N: usize> {
    Bf16([&'a mut [bf16]; N], stochastic::Sequences),
    /// Tiles; the noise, and the number of the first tile.
    Float8([&'a mut [u8]; N], [Format; N], Noise, usize),
}

impl PackedBlock<'_> {
    /// The same slots, borrowed for a shorter time, for a rule whose array slots are those from `start` on.
    pub(crate) fn from(&mut self, start: usize) -> PackedBlock<'_> {
        let Self { slots, indices, noise, place, len } = self;
        let mut packed =
            PackedBlock { slots: slots.reborrow(), indices: *indices, noise: *noise, place: *place, len: *len };
        packed.start_at(start);
        packed
    }

    /// Counts array slots from `start` on. (Slots before `start` get an index that no slot has.)
    #[inline]
    pub(crate) fn start_at(&mut self, start: usize) {
        self.indices = self.indices.map(|index| index.wrapping_sub(start));
    }

    /// All slots, if they are exactly the array slots `0..N`, and the block is whole tiles; the last tile of a
    /// slot may be shorter.
    pub(crate) fn take_all<const N: usize>(&mut self) -> Option<Fusible<'_, N>> {
        let len = (0..MAX_PACKED).take_while(|&slot| self.slots.has(slot)).count();
        if len != N || !self.indices[..N].iter().enumerate().all(|(i, &index)| i == index) {
            return None;
        }
        match &mut self.slots {
            Narrow::Bf16(slots) => {
                Some(Fusible::Bf16(array::from_fn(|slot| mem::take(&mut slots[slot])), self.noise.at(self.place)))
            }
            Narrow::Float8(slots, formats) => {
                let is_whole = self.place.is_multiple_of(TILE) && self.len == float8::len_of(slots[0]);
                let take = |slot: usize| mem::take(&mut slots[slot]);
                is_whole.then(|| {
                    let formats = array::from_fn(|slot| formats[slot]);
                    Fusible::Float8(array::from_fn(take), formats, self.noise, self.place / TILE)
                })
            }
        }
    }

    /// Whether one of them is among the array slots `0..n`.
    pub(crate) fn any_first(&self, n: usize) -> bool {
        (0..MAX_PACKED).any(|slot| self.slots.has(slot) && self.indices[slot] < n)
    }

    /// Lends the slots in the element type; [`round`](Self::round) takes them back after the rule.
    pub(crate) fn lend<'w, T: Scalar>(&self, wide: &'w mut WideSlots<T>, slots: &mut [&'w mut [T]]) {
        let len = self.len;
        let WideSlots { buffers, are_lent } = wide;
        for (number, (&index, buffer)) in self.indices.iter().zip(buffers).enumerate() {
            if !self.slots.has(number) {
                continue;
            }
            let buffer = match &self.slots {
                Narrow::Bf16(slots) => {
                    let buffer = buffer.first(len);
                    if !*are_lent {
                        stochastic::widen(buffer, slots[number]);
                    }
                    buffer
                }
                Narrow::Float8(slots, formats) => {
                    let buffer = buffer.first(float8::len_of(slots[number]));
                    if !*are_lent {
                        float8::widen(buffer, slots[number], formats[number]);
                    }
                    &mut buffer[self.place % TILE..][..len]
                }
            };
            // The slots of a wrapper come before the first slot of its inner rule.
            if let Some(slot) = slots.get_mut(index) {
                *slot = buffer;
            }
        }
        *are_lent = true;
    }

    /// Takes the lent slots back, and rounds them.
    pub(crate) fn round<T: Scalar>(&mut self, wide: &mut WideSlots<T>) {
        let (noise, place) = (self.noise, self.place);
        match &mut self.slots {
            Narrow::Bf16(slots) => {
                for (i, (slot, buffer)) in slots.iter_mut().zip(&mut wide.buffers).enumerate() {
                    if !slot.is_empty() {
                        stochastic::round(slot, buffer.first(slot.len()), i, noise.at(place));
                    }
                }
            }
            Narrow::Float8(slots, formats) => {
                for (i, (slot, buffer)) in slots.iter_mut().zip(&mut wide.buffers).enumerate() {
                    let len = float8::len_of(slot);
                    if len > 0 {
                        float8::round(slot, buffer.first(len), formats[i], i, noise, place / TILE);
                    }
                }
            }
        }
        wide.are_lent = false;
    }
}

/// The slots of the current block that are stored in fewer bits, in the element type.
#[derive(Debug, Default)]
pub(crate) struct WideSlots<T> {
    buffers: [Buffer<T>; MAX_PACKED],
    /// Whether the current numbers are in the buffers, and not in the stored slots. A wrapper and its inner rule share
    /// a block, and neither may overwrite the other's changes.
    are_lent: bool,
}

impl<T> WideSlots<T> {
    /// Whether the slots of the current block have been lent.
    pub(crate) fn are_lent(&self) -> bool {
        self.are_lent
    }
}
