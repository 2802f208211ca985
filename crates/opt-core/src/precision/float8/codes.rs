//! Numbers and their codes.

use std::array;

use super::{CUT, Format, GROUPS, MAGNITUDE, ROW, SMALLEST, WILD, ZERO, groups};

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
