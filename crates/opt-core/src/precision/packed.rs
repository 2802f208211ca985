//! Slots in bfloat16: divided into blocks, lent to a rule in its element type, and rounded back.

use half::bf16;

use super::stochastic::{self, Noise, Sequences};
use crate::loops::Buffer;
use crate::loops::slices::{block_of, split_off};
use crate::moments::MAX_PACKED;
use crate::real::Scalar;

/// The slots of a slice of a variable that are stored in 16 bits.
pub(crate) struct PackedSlots<'a> {
    /// The slots in order; empty slices after the last one.
    slots: [&'a mut [bf16]; MAX_PACKED],
    /// The index of each of them among the array slots.
    indices: [usize; MAX_PACKED],
    noise: Noise,
    /// The place in the variable of the first element of the slice.
    pub(crate) first: usize,
}

impl<'a> PackedSlots<'a> {
    /// The slots of a whole variable. `arrays` are its array slots in order, `None` where a slot is stored in full.
    pub(crate) fn of(arrays: &'a mut [Option<Vec<bf16>>], noise: Noise) -> Self {
        let mut packed = Self { slots: Default::default(), indices: [usize::MAX; MAX_PACKED], noise, first: 0 };
        let arrays = arrays.iter_mut().enumerate().filter_map(|(index, array)| Some((index, array.as_mut()?)));
        for ((slot, of), (index, array)) in packed.slots.iter_mut().zip(&mut packed.indices).zip(arrays) {
            *slot = array;
            *of = index;
        }
        packed
    }

    /// The elements `at..at + n`.
    pub(crate) fn block(&mut self, at: usize, n: usize) -> PackedBlock<'_> {
        let slots = self.slots.each_mut().map(|slot| block_of(slot, at, n));
        PackedBlock { slots, indices: self.indices, sequences: self.noise.at(self.first + at) }
    }

    /// The number of elements from `at` on that can be rounded as one block.
    pub(crate) fn before_turn(&self, at: usize) -> usize {
        stochastic::before_turn(self.first + at)
    }

    /// Splits before an element.
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        let Self { mut slots, indices, noise, first } = self;
        let back = slots.each_mut().map(|slot| split_off(slot, at));
        (Self { slots, indices, noise, first }, Self { slots: back, indices, noise, first: first + at })
    }
}

/// The slots of a block that are stored in 16 bits.
#[derive(Debug)]
pub(crate) struct PackedBlock<'a> {
    /// The slots in order; empty slices after the last one.
    pub(crate) slots: [&'a mut [bf16]; MAX_PACKED],
    /// The index of each of them among the array slots of the block.
    indices: [usize; MAX_PACKED],
    pub(crate) sequences: Sequences,
}

impl PackedBlock<'_> {
    /// The same slots, borrowed for a shorter time, for a rule whose array slots are those from `start` on.
    pub(crate) fn from(&mut self, start: usize) -> PackedBlock<'_> {
        let slots = self.slots.each_mut().map(|slot| &mut **slot);
        let mut packed = PackedBlock { slots, indices: self.indices, sequences: self.sequences };
        packed.start_at(start);
        packed
    }

    /// Counts array slots from `start` on. (Slots before `start` get an index that no slot has.)
    #[inline]
    pub(crate) fn start_at(&mut self, start: usize) {
        self.indices = self.indices.map(|index| index.wrapping_sub(start));
    }

    /// Whether these are exactly the array slots `0..n`.
    pub(crate) fn are_first(&self, n: usize) -> bool {
        let len = self.slots.iter().take_while(|slot| !slot.is_empty()).count();
        len == n && self.indices[..n].iter().enumerate().all(|(i, &index)| i == index)
    }

    /// Whether one of them is among the array slots `0..n`.
    pub(crate) fn any_first(&self, n: usize) -> bool {
        self.slots.iter().zip(self.indices).any(|(slot, index)| !slot.is_empty() && index < n)
    }

    /// Lends the slots in the element type; [`round`](Self::round) takes them back after the rule.
    pub(crate) fn lend<'w, T: Scalar>(&self, wide: &'w mut WideSlots<T>, slots: &mut [&'w mut [T]]) {
        let WideSlots { buffers, are_lent } = wide;
        for ((packed, &index), buffer) in self.slots.iter().zip(&self.indices).zip(buffers) {
            if packed.is_empty() {
                continue;
            }
            let buffer = buffer.first(packed.len());
            if !*are_lent {
                stochastic::widen(buffer, packed);
            }
            // The slots of a wrapper come before the first slot of its inner rule.
            if let Some(slot) = slots.get_mut(index) {
                *slot = buffer;
            }
        }
        *are_lent = true;
    }

    /// Takes the lent slots back, and rounds them.
    pub(crate) fn round<T: Scalar>(&mut self, wide: &mut WideSlots<T>) {
        for (i, (packed, buffer)) in self.slots.iter_mut().zip(&mut wide.buffers).enumerate() {
            if !packed.is_empty() {
                stochastic::round(packed, buffer.first(packed.len()), i, self.sequences);
            }
        }
        wide.are_lent = false;
    }
}

/// The slots of the current block that are stored in 16 bits, in the element type.
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
