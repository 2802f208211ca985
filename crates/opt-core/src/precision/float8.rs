//! Moments in 8 bits: small floating-point numbers, which share a power of two with 31 others.
//!
//! A tile is 512 elements that follow each other, row by row, and element `i` of a tile belongs to group `i % 16`. (The
//! last tile of a slot may be shorter.) Each group has a scale, the smallest power of two `s` such that the largest
//! magnitude of the group is at most `15 s / 8`. Each element has a code, a floating-point number whose largest value
//! is `15 s / 8`, without gradual underflow:
//!
//! * first moments have a sign, 4 bits of exponent and 3 bits of mantissa;
//! * second moments are not negative: they have 5 bits of exponent and 3 bits of mantissa.
//!
//! Code 0 is 0, with any sign, so the smallest number is 9/8 of a power of two, with code 1. A second moment that is a
//! normal number is never rounded to 0: the rule divides by its root. All of these numbers are also numbers of
//! bfloat16, which is how the state is shown and saved.
//!
//! Groups with numbers that are not finite are [`wild`].

mod codes;
mod room;
mod update;
mod wild;

use std::iter;

use half::bf16;

pub(crate) use self::update::update;

use self::codes::{decoded, decoding, is_wild, scales, spread};
use self::room::Room;
use super::stochastic::Noise;
use crate::loops::{BLOCK, dispatched};
use crate::real::Scalar;

/// The number of elements that share a scale.
const GROUP: usize = 32;

/// The number of elements that are stored, and updated, together: first the scales of their groups, then their codes.
pub(crate) const TILE: usize = 512;

/// The number of rows of a tile.
const ROWS: usize = TILE / ROW;

/// The number of groups of a tile.
const GROUPS: usize = TILE / GROUP;

/// The number of bytes of a whole tile.
const BYTES: usize = GROUPS + TILE;

const _: () = assert!(BLOCK.is_multiple_of(TILE), "a block is whole tiles");

/// The number of elements that loops run over, long enough for the compiler to vectorise; a tile has a few rows.
const ROW: usize = 64;

/// The number of bits of an `f32` below the mantissa of a code.
const CUT: u32 = 20;

/// The bits of the number of code 0, where the loops compute.
const ZERO: u32 = 2.0_f32.to_bits();

/// The smallest scale: all numbers of its groups are 0 or normal numbers of 32 bits. A group of zeros has it, too.
const SMALLEST: u8 = 40;

/// The scale of groups in which every number stands alone.
const WILD: u8 = u8::MAX;

/// The magnitude of a number.
const MAGNITUDE: u32 = 0x7FFF_FFFF;

/// What tells the formats of first and second moments apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Numbers of any sign.
    Signed,
    /// Numbers that are not negative.
    Unsigned,
}

impl Format {
    /// The number of octaves that codes have.
    #[inline(always)]
    const fn octaves(self) -> u32 {
        match self {
            Self::Signed => 16,
            Self::Unsigned => 32,
        }
    }

    /// The bits that a code has in an `f32`: its magnitude above the [`CUT`], and its sign.
    #[inline(always)]
    const fn bits(self) -> u32 {
        match self {
            Self::Signed => 0x7F << CUT | 1 << 31,
            Self::Unsigned => 0xFF << CUT,
        }
    }
}

/// A slot of a variable: the bytes of its tiles.
#[derive(Debug, Clone)]
pub(crate) struct Float8 {
    format: Format,
    bytes: Vec<u8>,
}

impl Float8 {
    /// A slot filled with one number.
    pub(crate) fn filled(format: Format, number: bf16, len: usize) -> Self {
        let mut slot = Self { format, bytes: vec![0; bytes_of(len)] };
        slot.fill(number);
        slot
    }

    pub(crate) fn fill(&mut self, number: bf16) {
        self.assign(iter::repeat_n(number.to_f32(), len_of(&self.bytes)));
    }

    /// Replaces the numbers, rounded to nearest, ties to even.
    pub(crate) fn assign<T: Scalar>(&mut self, numbers: impl ExactSizeIterator<Item = T>) {
        self.bytes = vec![0; bytes_of(numbers.len())];
        let mut numbers = numbers.map(Scalar::to_f32);
        let mut room = Room::EMPTY;
        for tile in self.bytes.chunks_mut(BYTES) {
            let len = len_of(tile);
            room.numbers.as_flattened_mut()[..len].fill_with(|| numbers.next().unwrap_or_default());
            room.encode(self.format, tile, len, nearest);
        }
    }

    /// The numbers, exactly.
    pub(crate) fn to_bf16(&self) -> Vec<bf16> {
        let mut wide = vec![0.0_f32; len_of(&self.bytes)];
        widen(&mut wide, &self.bytes, self.format);
        wide.into_iter().map(bf16::from_f32).collect()
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// The number of bytes that a slot of `len` elements takes.
pub(crate) fn bytes_of(len: usize) -> usize {
    len / TILE * BYTES + len % TILE + (len % TILE).min(GROUPS)
}

/// The number of elements that these bytes have.
pub(crate) fn len_of(tiles: &[u8]) -> usize {
    let rest = tiles.len() % BYTES;
    tiles.len() / BYTES * TILE + rest - groups(&tiles[tiles.len() - rest..])
}

/// The bytes before the tile with this element.
pub(crate) fn bytes_before(element: usize) -> usize {
    element / TILE * BYTES
}

/// The number of groups of a tile, whose scales are its first bytes.
#[inline(always)]
fn groups(tile: &[u8]) -> usize {
    // A shorter tile has as many groups as elements, if these are few.
    if tile.len() < 2 * GROUPS { tile.len() / 2 } else { GROUPS }
}

/// The scales and the codes of a tile, to change.
#[inline(always)]
fn parts(tile: &mut [u8]) -> (&mut [u8], &mut [u8]) {
    tile.split_at_mut(groups(tile))
}

/// Random numbers for the slots of a tile: a hash for each.
#[inline(always)]
fn keys(noise: Noise, tile: usize) -> [u32; 4] {
    let [a, b] = noise.of_tile(tile as u64);
    [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
}

/// The random bits for an element, below those that a code keeps: a sequence that fills the interval evenly, from a
/// random start.
#[inline(always)]
fn stochastic(key: u32) -> impl Fn(usize, usize, u32) -> u32 {
    const EVEN: [[u32; ROW]; ROWS] = {
        let mut even = [[0; ROW]; ROWS];
        let mut i = 0;
        while i < TILE {
            even[i / ROW][i % ROW] = (i as u32).reverse_bits();
            i += 1;
        }
        even
    };
    move |row, element, _| EVEN[row][element].wrapping_add(key) >> (u32::BITS - CUT)
}

/// Rounds to nearest, ties to even.
#[inline(always)]
fn nearest(_: usize, _: usize, bits: u32) -> u32 {
    (1 << (CUT - 1)) - 1 + ((bits >> CUT) & 1)
}

dispatched! {
    /// Widens whole tiles, exactly; the last one may be shorter.
    pub(crate) fn widen<T: Scalar>(to: &mut [T], tiles: &[u8], format: Format) {
        let mut factors = [0.0; ROW];
        for (to, tile) in to.chunks_mut(TILE).zip(tiles.chunks(BYTES)) {
            let (scales, codes) = tile.split_at(groups(tile));
            let all = self::scales(tile);
            if is_wild(all) {
                wild::decode(format, to, scales, codes);
                continue;
            }
            spread(&mut factors, decoding(format), all);
            for (to, codes) in to.chunks_mut(ROW).zip(codes.chunks(ROW)) {
                for ((to, &code), factor) in to.iter_mut().zip(codes).zip(factors) {
                    *to = T::from_f32(decoded(code, format, factor));
                }
            }
        }
    }
}

dispatched! {
    /// Rounds whole tiles stochastically. `first` is the number of the first tile in the variable.
    pub(crate) fn round<T: Scalar>(
        tiles: &mut [u8],
        from: &[T],
        format: Format,
        slot: usize,
        noise: Noise,
        first: usize,
    ) {
        let mut room = Room::EMPTY;
        for (number, (tile, from)) in tiles.chunks_mut(BYTES).zip(from.chunks(TILE)).enumerate() {
            let key = keys(noise, first + number)[slot];
            let numbers = room.numbers.as_flattened_mut();
            numbers.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
            room.encode(format, tile, from.len(), stochastic(key));
        }
    }
}

#[cfg(test)]
mod tests;
