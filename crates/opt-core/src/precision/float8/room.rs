//! Decodes and encodes a tile.

use super::codes::{decoded, decoding, encoded, is_wild, power, scales, spread};
use super::{CUT, Format, GROUPS, MAGNITUDE, ROW, ROWS, SMALLEST, WILD, parts, wild};

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
        let Self { numbers, codes, factors } = self;
        let (numbers, codes) = (&mut numbers[row], &codes[row]);
        for i in 0..ROW {
            numbers[i] = decoded(codes[i], format, factors[i]);
        }
    }

    /// Rounds the first `len` numbers. `random` gives, for a row, an element of it and its bits, what is added below
    /// the last digit that is kept.
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
