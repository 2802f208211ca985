//! Groups that a common scale does not fit.

use super::codes::{decoded, decoding, encoded, power};
use super::{Format, GROUPS, Scalar, WILD, nearest, parts};

/// The largest number of a group with the largest scale.
const LARGEST: f32 = f32::from_bits(0x7F70_0000);

/// The codes of NaN, and of the largest finite number.
const fn reserved(format: Format) -> (u8, u8) {
    match format {
        Format::Signed => (0x80, 0x7E),
        Format::Unsigned => (0xFE, 0xFD),
    }
}

/// Encodes the wild groups of a tile again. Large finite numbers are cut off. If a number is not finite, it is
/// kept, and the others become powers of two (second moments) or of four: the code is the sign, if there is one,
/// and the first bits of the exponent.
#[cold]
#[inline(never)]
pub(super) fn encode(format: Format, tile: &mut [u8], numbers: &[f32]) {
    let (scales, codes) = parts(tile);
    for (group, scale) in scales.iter_mut().enumerate() {
        let of_group = || numbers.iter().skip(group).step_by(GROUPS);
        if of_group().all(|x| x.abs() <= LARGEST) {
            continue;
        }
        let are_finite = of_group().all(|x| x.is_finite());
        *scale = if are_finite { WILD - 1 } else { WILD };
        for (code, x) in codes.iter_mut().skip(group).step_by(GROUPS).zip(of_group()) {
            *code = if are_finite { largest(format, *x) } else { alone(format, *x) };
        }
    }
}

/// The code of a number in a group with the largest scale, rounded to nearest.
fn largest(format: Format, x: f32) -> u8 {
    let (x, factor) = (x.clamp(-LARGEST, LARGEST), power(255 + format.octaves() - u32::from(WILD)));
    match format {
        Format::Signed => encoded::<true>(x, factor, |bits| nearest(0, 0, bits)),
        Format::Unsigned => encoded::<false>(x, factor, |bits| nearest(0, 0, bits)),
    }
}

/// The code of a number that stands alone.
fn alone(format: Format, x: f32) -> u8 {
    let (nan, largest) = reserved(format);
    let bits = x.to_bits();
    let (sign, exponent, least) = match format {
        Format::Signed => ((bits >> 24) as u8 & 0x80, (bits >> 24) as u8 & 0x7F, 0),
        Format::Unsigned => (0, (bits >> 23) as u8, u8::from(x >= f32::MIN_POSITIVE)),
    };
    match if x.is_finite() { exponent.clamp(least, largest) } else { exponent } {
        _ if x.is_nan() => nan,
        _ if format == Format::Unsigned && x < 0.0 => 0,
        0 => 0,
        exponent => sign | exponent,
    }
}

/// Widens a tile with wild groups.
#[cold]
#[inline(never)]
pub(super) fn decode<T: Scalar>(format: Format, to: &mut [T], scales: &[u8], codes: &[u8]) {
    let (nan, _) = reserved(format);
    for ((to, &code), &scale) in to.iter_mut().zip(codes).zip(scales.iter().cycle()) {
        let (sign, exponent, infinite, shift) = match format {
            Format::Signed => (u32::from(code & 0x80) << 24, code & 0x7F, 0x7F, 24),
            Format::Unsigned => (0, code, 0xFF, 23),
        };
        let magnitude = match u32::from(exponent) << shift {
            _ if exponent == infinite => f32::INFINITY.to_bits(),
            magnitude => magnitude,
        };
        *to = T::from_f32(match scale {
            WILD if code == nan => f32::NAN,
            WILD => f32::from_bits(sign | magnitude),
            _ => decoded(code, format, decoding(format)(scale)),
        });
    }
}
