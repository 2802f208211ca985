//! The arithmetic of a tile: decodes and encodes its numbers.

use std::array;

use super::{CUT, Format, GROUPS, MAGNITUDE, ROW, ROWS, SMALLEST, WILD, ZERO, groups, parts, wild};

/// 2 to the power of `exponent - 127`; a normal number.
#[inline(always)]
pub(super) fn power(exponent: u32) -> f32 {
    f32::from_bits(exponent << 23)
}

/// The factors of the elements of a row.
#[inline(always)]
pub(super) fn spread(factors: &mut [f32; ROW], of: impl Fn(u8) -> f32, scales: [u8; GROUPS]) {
    for factors in factors.as_chunks_mut::<GROUPS>().0 {
        for group in 0..GROUPS {
            factors[group] = of(scales[group]);
        }
    }
}

/// The scales of a tile, where a group that does not exist has any.
#[inline(always)]
pub(super) fn scales(tile: &[u8]) -> [u8; GROUPS] {
    match tile.first_chunk() {
        Some(scales) if tile.len() >= 2 * GROUPS => *scales,
        _ => array::from_fn(|group| tile[..groups(tile)].get(group).copied().unwrap_or(SMALLEST)),
    }
}

/// Whether a tile has a group with a number that is infinite or NaN.
#[inline(always)]
pub(super) fn is_wild(scales: [u8; GROUPS]) -> bool {
    scales.iter().fold(false, |is_wild, &scale| is_wild | (scale == WILD))
}

/// What codes of groups with this scale are multiplied by. Wild groups have any factor.
#[inline(always)]
pub(super) fn decoding(format: Format) -> impl Fn(u8) -> f32 {
    // The first octave, that of ZERO, starts at 2^1, and the last at 2^octaves.
    move |scale| power(u32::from(scale) - format.octaves())
}

/// The number of a code.
#[inline(always)]
pub(super) fn decoded(code: u8, format: Format, factor: f32) -> f32 {
    // The sign of the code fills the bits above it.
    let bits = ((i32::from(code.cast_signed()) << CUT) as u32) & format.bits();
    // No code has the bit of ZERO.
    let number = f32::from_bits(bits | ZERO) * factor;
    if bits & MAGNITUDE == 0 { 0.0 } else { number }
}

/// The code of a number, with what is added below the last digit that is kept.
#[inline(always)]
pub(super) fn encoded<const SIGNED: bool>(x: f32, factor: f32, random: impl Fn(u32) -> u32) -> u8 {
    let magnitude = if SIGNED { f32::from_bits(x.to_bits() & MAGNITUDE) } else { x };
    let y = (magnitude * factor).to_bits();
    let bits = y.wrapping_add(random(y));
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

/// Buffers for one slot of a tile, aligned so that no vector lies across two lines of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Room {
    pub(super) numbers: [[f32; ROW]; ROWS],
    codes: [[u8; ROW]; ROWS],
    factors: [f32; ROW],
}

impl Room {
    pub(super) const EMPTY: Self = Self { numbers: [[0.0; ROW]; ROWS], codes: [[0; ROW]; ROWS], factors: [0.0; ROW] };

    /// Prepares to decode a whole tile. Returns true if the numbers are all there, because the tile is wild.
    #[inline(always)]
    pub(super) fn begin(&mut self, format: Format, tile: &[u8]) -> bool {
        let scales = scales(tile);
        if is_wild(scales) {
            wild::decode(format, self.numbers.as_flattened_mut(), &scales, &tile[GROUPS..]);
            return true;
        }
        spread(&mut self.factors, decoding(format), scales);
        self.codes.as_flattened_mut().copy_from_slice(&tile[GROUPS..]);
        false
    }

    /// The numbers of a row.
    #[inline(always)]
    pub(super) fn decode(&mut self, format: Format, row: usize) {
        let Self { numbers, codes, factors, .. } = self;
        let (numbers, codes) = (&mut numbers[row], &codes[row]);
        for i in 0..ROW {
            numbers[i] = decoded(codes[i], format, factors[i]);
        }
    }

    /// Rounds the first `len` numbers. `random` gives, for a row, an element of it and its bits, what is added below the
    /// last digit that is kept.
    #[inline(always)]
    pub(super) fn encode(
        &mut self,
        format: Format,
        tile: &mut [u8],
        len: usize,
        random: impl Fn(usize, usize, u32) -> u32,
    ) {
        let (to_scales, to_codes) = parts(tile);
        let Self { numbers, factors, codes } = self;
        // All rows: loops over a constant number of them are faster.
        numbers.as_flattened_mut()[len..].fill(0.0);
        // The bits of NaN are larger than those of infinity.
        let mut largest = [0; ROW];
        for numbers in &*numbers {
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
        for (row, (codes, numbers)) in codes.iter_mut().zip(&*numbers).enumerate() {
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
