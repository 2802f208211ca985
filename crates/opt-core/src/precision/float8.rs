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

mod wild;

use std::{array, iter};

use half::bf16;

use super::stochastic::Noise;
use crate::loops::{BLOCK, dispatched, prefetch};
use crate::real::Scalar;
use crate::rule::Constants;

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

    /// The bit of a code that is a sign.
    #[inline(always)]
    const fn sign(self) -> u32 {
        match self {
            Self::Signed => 0x80,
            Self::Unsigned => 0,
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
            room.numbers.as_flattened_mut().fill_with(|| numbers.next().unwrap_or_default());
            room.encode(self.format, tile, nearest);
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

/// Whether a group has a number that is infinite or NaN.
pub(crate) fn has_wild(tiles: &[u8]) -> bool {
    // A byte of ones is a byte of zeros in the complement, the only one from which the subtraction borrows.
    let (ones, tops) = (u128::from_ne_bytes([1; GROUPS]), u128::from_ne_bytes([0x80; GROUPS]));
    tiles.chunks(BYTES).any(|tile| {
        let complement = !u128::from_ne_bytes(scales(tile));
        complement.wrapping_sub(ones) & !complement & tops != 0
    })
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

/// 2 to the power of `exponent - 127`; a normal number.
#[inline(always)]
fn power(exponent: u32) -> f32 {
    f32::from_bits(exponent << 23)
}

/// The factors of the elements of a row.
#[inline(always)]
fn spread(factors: &mut [f32; ROW], of: impl Fn(u8) -> f32, scales: [u8; GROUPS]) {
    for factors in factors.as_chunks_mut::<GROUPS>().0 {
        for group in 0..GROUPS {
            factors[group] = of(scales[group]);
        }
    }
}

/// The scales of a tile, where a group that does not exist has any.
#[inline(always)]
fn scales(tile: &[u8]) -> [u8; GROUPS] {
    match tile.first_chunk() {
        Some(scales) if tile.len() >= 2 * GROUPS => *scales,
        _ => array::from_fn(|group| tile[..groups(tile)].get(group).copied().unwrap_or(SMALLEST)),
    }
}

/// What codes of groups with this scale are multiplied by. Wild groups have any factor.
#[inline(always)]
fn decoding(format: Format) -> impl Fn(u8) -> f32 {
    // The first octave, that of ZERO, starts at 2^1, and the last at 2^octaves.
    move |scale| power(u32::from(scale) - format.octaves())
}

/// The number of a code.
#[inline(always)]
fn decoded(code: u8, sign: u32, factor: f32) -> f32 {
    let code = u32::from(code);
    let magnitude = code & !sign;
    let number = f32::from_bits((magnitude << CUT) + ZERO) * factor;
    let number = if magnitude == 0 { 0.0 } else { number };
    f32::from_bits(number.to_bits() | (code & sign) << 24)
}

/// The code of a number, with what is added below the last digit that is kept.
#[inline(always)]
fn encoded<const SIGNED: bool>(x: f32, factor: f32, random: impl Fn(u32) -> u32) -> u8 {
    let y = f32::from_bits(x.to_bits() & MAGNITUDE) * factor;
    let bits = y.to_bits() + random(y.to_bits());
    // The bits of ZERO above the cut are a multiple of 256.
    let code = if SIGNED {
        (bits.max(ZERO) >> CUT) | (x.to_bits() >> 24) & 0x80
    } else if x >= f32::MIN_POSITIVE {
        bits.max(ZERO + (1 << CUT)) >> CUT
    } else {
        0
    };
    code as u8
}

/// Buffers for one slot of a tile. They are made once for many tiles: clearing them takes time.
#[derive(Clone, Copy)]
struct Room {
    numbers: [[f32; ROW]; ROWS],
    codes: [[u8; ROW]; ROWS],
    factors: [f32; ROW],
    largest: [u32; ROW],
}

impl Room {
    const EMPTY: Self =
        Self { numbers: [[0.0; ROW]; ROWS], codes: [[0; ROW]; ROWS], factors: [0.0; ROW], largest: [0; ROW] };

    /// Rounds the numbers. `random` gives, for a row, an element of it and its bits, what is added below the last digit
    /// that is kept. Numbers behind the last element of the tile are 0.
    #[inline(always)]
    fn encode(&mut self, format: Format, tile: &mut [u8], random: impl Fn(usize, usize, u32) -> u32) {
        let (to_scales, to_codes) = parts(tile);
        let rows = to_codes.len().div_ceil(ROW);
        let Self { numbers, factors, codes, largest } = self;
        let numbers = &numbers[..rows];
        // The bits of NaN are larger than those of infinity.
        largest.fill(0);
        for numbers in numbers {
            for i in 0..ROW {
                largest[i] = largest[i].max(numbers[i].to_bits() & MAGNITUDE);
            }
        }
        let (mut exponents, mut scales, mut above) = ([0; GROUPS], [0; GROUPS], 0);
        for group in 0..GROUPS {
            let mut of_group = largest[group];
            for row in largest.as_chunks::<GROUPS>().0 {
                of_group = row[group].max(of_group);
            }
            // One less than the last digit of a code: a mantissa of more than 7/8 belongs to the next power of two.
            let exponent = (of_group + ((1 << CUT) - 1)) >> 23;
            above |= exponent + 1;
            exponents[group] = exponent.clamp(u32::from(SMALLEST), u32::from(WILD) - 1);
            scales[group] = exponents[group] as u8;
        }
        for factors in factors.as_chunks_mut::<GROUPS>().0 {
            for group in 0..GROUPS {
                factors[group] = power(254 + format.octaves() - exponents[group]);
            }
        }
        for (row, (codes, numbers)) in codes.iter_mut().zip(numbers).enumerate() {
            match format {
                Format::Signed => {
                    for i in 0..ROW {
                        codes[i] = encoded::<true>(numbers[i], factors[i], |bits| random(row, i, bits));
                    }
                }
                Format::Unsigned => {
                    for i in 0..ROW {
                        codes[i] = encoded::<false>(numbers[i], factors[i], |bits| random(row, i, bits));
                    }
                }
            }
        }
        to_scales.copy_from_slice(&scales[..to_scales.len()]);
        to_codes.copy_from_slice(&codes.as_flattened()[..to_codes.len()]);
        if above > u32::from(WILD) {
            wild::encode(format, tile, numbers.as_flattened());
        }
    }
}

dispatched! {
    /// Widens whole tiles, exactly; the last one may be shorter.
    pub(crate) fn widen<T: Scalar>(to: &mut [T], tiles: &[u8], format: Format) {
        let mut factors = [0.0; ROW];
        for (to, tile) in to.chunks_mut(TILE).zip(tiles.chunks(BYTES)) {
            let (scales, codes) = tile.split_at(groups(tile));
            if scales.contains(&WILD) {
                wild::decode(format, to, scales, codes);
                continue;
            }
            spread(&mut factors, decoding(format), self::scales(tile));
            for (to, codes) in to.chunks_mut(ROW).zip(codes.chunks(ROW)) {
                for ((to, &code), factor) in to.iter_mut().zip(codes).zip(factors) {
                    *to = T::from_f32(decoded(code, format.sign(), factor));
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
            numbers[from.len()..].fill(0.0);
            numbers.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
            room.encode(format, tile, stochastic(key));
        }
    }
}

dispatched! {
    /// Runs `element` over whole tiles without wild groups. `first` is the number of the
    /// first tile in the variable.
    #[expect(clippy::too_many_arguments, reason = "a loop over all that there is")]
    pub(crate) fn update<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]); N: usize>(
        k: &K,
        element: &F,
        value: &mut [T],
        gradient: &[T],
        mut state: [&mut [u8]; N],
        formats: [Format; N],
        constants: Constants<T>,
        noise: Noise,
        first: usize,
    ) {
        let mut rooms = [Room::EMPTY; N];
        let (values, gradients) = (value.as_chunks_mut::<TILE>().0, gradient.as_chunks::<TILE>().0);
        for (tile, (value, gradient)) in values.iter_mut().zip(gradients).enumerate() {
            let keys = keys(noise, first + tile);
            update_tile(k, element, value, gradient, &mut state, tile, formats, constants, keys, &mut rooms);
        }
    }
}

/// Runs `element` over one tile.
#[expect(clippy::too_many_arguments, reason = "a loop over all that there is")]
#[inline(always)]
fn update_tile<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]), const N: usize>(
    k: &K,
    element: &F,
    value: &mut [T; TILE],
    gradient: &[T; TILE],
    state: &mut [&mut [u8]; N],
    tile: usize,
    formats: [Format; N],
    constants: Constants<T>,
    keys: [u32; 4],
    rooms: &mut [Room; N],
) {
    let (start, end) = (tile * BYTES, (tile + 1) * BYTES);
    let mut signs = [0; N];
    for slot in 0..N {
        let tile = &state[slot][start..end];
        spread(&mut rooms[slot].factors, decoding(formats[slot]), scales(tile));
        rooms[slot].codes.as_flattened_mut().copy_from_slice(&tile[GROUPS..]);
        signs[slot] = formats[slot].sign();
        prefetch(state[slot], end, BYTES);
    }
    let rows = value.as_chunks_mut::<ROW>().0.iter_mut().zip(gradient.as_chunks::<ROW>().0);
    for (row, (value, gradient)) in rows.enumerate() {
        // The next tile, which is also there at the end of a block.
        prefetch(value, TILE, ROW);
        prefetch(gradient, TILE, ROW);
        for i in 0..ROW {
            let (w, g) = constants.before_any(value[i], gradient[i]);
            let before = array::from_fn(|slot| {
                let Room { codes, factors, .. } = &rooms[slot];
                T::from_f32(decoded(codes[row][i], signs[slot], factors[i]))
            });
            let (w, s) = element(k, w, g, before);
            value[i] = w;
            for slot in 0..N {
                rooms[slot].numbers[row][i] = s[slot].to_f32();
            }
        }
    }
    for slot in 0..N {
        rooms[slot].encode(formats[slot], &mut state[slot][start..end], stochastic(keys[slot]));
    }
}

#[cfg(test)]
mod tests;
