//! Numbers in 24 bits: one in 16 bits, and 8 bits more.
//!
//! The magnitude of a number in 16 bits, read as an integer, counts the numbers of its type from 0 on. 8 binary digits
//! behind that integer are 255 numbers more between each of them and the next. A master in 24 bits is such an integer;
//! the variable is this integer rounded to 16 bits, ties away from 0, and the *correction* is what the rounding took
//! away or added: -128 to 127 units of 1/256. So every master has one variable and one correction, and the other way
//! round: whatever number somebody else writes into the variable beside an old correction is its master, rounded. (With
//! ties to even, a master halfway between would have a correction of 128 or of -128, and one of 128 that is cut to 127
//! holds up small steps for ever.)

use half::{bf16, f16};

use super::nearest::HalfFloat;
use super::stochastic::Sequences;
use crate::loops::dispatched;
use crate::real::Scalar;

/// A type of 16 bits as a part of a number in 24 bits, which is a part of a number in 32 bits.
pub(crate) trait Extended: HalfFloat {
    /// The digits of 32 bits that 24 bits do not have.
    const DROPPED: u32;
    /// The magnitude from which on numbers are not finite.
    const INFINITY: u32;
    /// The digit that makes a NaN quiet.
    const QUIET: u32;
    /// A factor that gives a number in 32 bits the exponent that it has in this type, and its inverse.
    const FACTORS: [f32; 2];

    fn from_pattern(bits: u16) -> Self;
    fn pattern(self) -> u16;
    /// The nearest number, ties to even.
    fn nearest(x: f32) -> Self;
    /// The exact number.
    fn wide(self) -> f32;
}

impl Extended for bf16 {
    const DROPPED: u32 = 8;
    const INFINITY: u32 = 0x7F80;
    const QUIET: u32 = 0x0040;
    const FACTORS: [f32; 2] = [1.0; 2];

    #[inline(always)]
    fn from_pattern(bits: u16) -> Self {
        Self::from_bits(bits)
    }

    #[inline(always)]
    fn pattern(self) -> u16 {
        self.to_bits()
    }

    fn nearest(x: f32) -> Self {
        Self::from_f32(x)
    }

    fn wide(self) -> f32 {
        self.to_f32()
    }
}

impl Extended for f16 {
    const DROPPED: u32 = 5;
    const INFINITY: u32 = 0x7C00;
    const QUIET: u32 = 0x0200;
    // 2^-112 and 2^112: exponents in 32 bits are larger by 127 - 15.
    const FACTORS: [f32; 2] = [f32::from_bits(15 << 23), f32::from_bits(239 << 23)];

    #[inline(always)]
    fn from_pattern(bits: u16) -> Self {
        Self::from_bits(bits)
    }

    #[inline(always)]
    fn pattern(self) -> u16 {
        self.to_bits()
    }

    fn nearest(x: f32) -> Self {
        Self::from_f32(x)
    }

    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// The magnitude of a number as an integer of its type, of which `dropped` last bits are rounded away, by random bits
/// that are added to them.
#[inline(always)]
fn magnitude<H: Extended>(x: f32, dropped: u32, random: u32) -> u32 {
    let bits = (x.abs() * H::FACTORS[0]).to_bits();
    (bits + (random & ((1 << dropped) - 1))) >> dropped
}

/// A magnitude in 16 bits, with the sign of `x`. What is too large becomes infinite; NaN stays NaN.
#[inline(always)]
fn signed<H: Extended>(x: f32, magnitude: u32) -> H {
    let magnitude = if x.is_nan() { H::INFINITY | H::QUIET } else { magnitude.min(H::INFINITY) };
    H::from_pattern((magnitude | (x.to_bits() >> 16 & 0x8000)) as u16)
}

/// A number in 32 bits as a variable and its correction.
#[inline(always)]
pub(crate) fn parted<H: Extended>(x: f32, random: u32) -> (H, i8) {
    let wide = magnitude::<H>(x, H::DROPPED, random);
    let half = (wide + 0x80) >> 8;
    // The last 8 bits, with their sign.
    (signed(x, half), if half < H::INFINITY { wide as i8 } else { 0 })
}

/// The number that a variable and its correction are. A variable that is not finite has none.
#[inline(always)]
pub(crate) fn joined<H: Extended>(half: H, correction: i8) -> f32 {
    let bits = u32::from(half.pattern());
    let magnitude = bits & 0x7FFF;
    // Below 0 there is 0: somebody may have written it beside an old correction.
    let wide = ((magnitude << 8) as i32 + i32::from(correction)).max(0) as u32;
    let finite = (f32::from_bits(wide << H::DROPPED) * H::FACTORS[1]).to_bits();
    let infinite = 0x7F80_0000 | magnitude << (8 + H::DROPPED);
    f32::from_bits((if magnitude < H::INFINITY { finite } else { infinite }) | (bits & 0x8000) << 16)
}

/// A number in 32 bits as a variable without a master.
#[inline(always)]
pub(crate) fn alone<H: Extended>(x: f32, random: u32) -> H {
    let rounded = magnitude::<H>(x, 8 + H::DROPPED, random);
    // Only what rounding to nearest makes infinite becomes infinite.
    let nearest = magnitude::<H>(x, 8 + H::DROPPED, 1 << (7 + H::DROPPED));
    signed(x, if nearest < H::INFINITY { rounded.min(H::INFINITY - 1) } else { nearest })
}

dispatched! {
    /// The masters of variables in 24 bits.
    pub(super) fn join<T: Scalar, H: Extended>(to: &mut [T], half: &[H], corrections: &[i8]) {
        for ((to, half), correction) in to.iter_mut().zip(half).zip(corrections) {
            *to = T::from_f32(joined(*half, *correction));
        }
    }
}

dispatched! {
    /// Rounds masters to variables in 24 bits: stochastically, or else to nearest.
    pub(super) fn split<T: Scalar, H: Extended; RANDOM: bool>(
        half: &mut [H], corrections: &mut [i8], from: &[T], sequences: Sequences,
    ) {
        let len = half.len();
        let (corrections, from) = (&mut corrections[..len], &from[..len]);
        for i in 0..len {
            let random = if RANDOM { sequences.bits(0, i) } else { 1 << (H::DROPPED - 1) };
            (half[i], corrections[i]) = parted(from[i].to_f32(), random);
        }
    }
}

dispatched! {
    /// Rounds stochastically to variables that have no master.
    pub(super) fn round<T: Scalar, H: Extended>(half: &mut [H], from: &[T], sequences: Sequences) {
        let len = half.len();
        let from = &from[..len];
        for i in 0..len {
            half[i] = alone(from[i].to_f32(), sequences.bits(0, i));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::super::stochastic::Noise;
    use super::*;

    const SOME: [i8; 9] = [-128, -127, -64, -1, 0, 1, 64, 126, 127];

    /// Every number of a type; some of them under Miri.
    fn numbers<H: Extended>() -> impl Iterator<Item = H> {
        (0..=u16::MAX).step_by(if cfg!(miri) { 251 } else { 1 }).map(H::from_pattern)
    }

    /// Whatever correction stands beside a variable, the variable is its master rounded to nearest, and both come back
    /// from the master: nobody can write a number that the next step would not start from.
    fn masters_round_to_their_variables<H: Extended + Debug>(nearest: fn(f32) -> H, wide: fn(H) -> f32) {
        for half in numbers::<H>() {
            for correction in SOME {
                let master = joined(half, correction);
                let is_finite = wide(half).is_finite();
                if wide(half).is_nan() {
                    assert!(master.is_nan());
                    continue;
                }
                // A tie, which `half` rounds to even.
                if correction != -128 {
                    assert_eq!(nearest(master).pattern(), half.pattern(), "{half:?} {correction}: {master}");
                }
                for random in [0, 1 << (H::DROPPED - 1), 0xFFFF] {
                    let (back, again) = parted::<H>(master, random);
                    // What is not finite has no correction; 0 has none below it.
                    let kept = is_finite && (wide(half) != 0.0 || correction > 0);
                    assert_eq!((back.pattern(), again), (half.pattern(), if kept { correction } else { 0 }));
                }
            }
            let alone = joined(half, 0);
            assert!(alone.to_bits() == wide(half).to_bits() || alone.is_nan() && wide(half).is_nan());
        }
    }

    #[test]
    fn a_variable_is_its_master_rounded() {
        masters_round_to_their_variables(bf16::from_f32, bf16::to_f32);
        masters_round_to_their_variables(f16::from_f32, f16::to_f32);
    }

    /// The master is off by at most half of 1/256 of the variable's unit, or, rounded stochastically, by less than one.
    fn masters_are_close<H: Extended>(numbers: &[f32], unit: impl Fn(f32) -> f32) {
        for &x in numbers {
            for (random, units) in [(1 << (H::DROPPED - 1), 0.5), (0, 1.0), (0xFFFF, 1.0)] {
                let (half, correction) = parted::<H>(x, random);
                let master = joined(half, correction);
                assert!((master - x).abs() <= units * unit(x), "{x:e}: {master:e}, {correction}, {random}");
            }
        }
    }

    #[test]
    fn masters_have_16_and_19_digits() {
        let numbers: Vec<f32> = (0..1000).map(|i| (1.0 + i as f32 * 9.77e-4) * [1.0, -1.0][i % 2]).collect();
        masters_are_close::<bf16>(&numbers, |x| 2.0_f32.powi(x.abs().log2().floor() as i32 - 15));
        masters_are_close::<f16>(&numbers, |x| 2.0_f32.powi(x.abs().log2().floor() as i32 - 18));
        // Below the normal numbers of f16 the unit does not become smaller. There, numbers are rounded twice.
        let small: Vec<f32> = numbers.iter().map(|x| x * 2.0_f32.powi(-20)).collect();
        masters_are_close::<f16>(&small, |_| 2.0_f32.powi(-32) * (1.0 + 1.0 / 32.0));
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for x in [f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(parted::<bf16>(x, 0xFFFF), (bf16::from_f32(x), 0));
            assert_eq!(parted::<f16>(x, 0xFFFF), (f16::from_f32(x), 0));
        }
        for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7F80_0001), f32::from_bits(0xFFFF_FFFF)] {
            assert!(parted::<bf16>(nan, 0xFFFF).0.is_nan() && parted::<f16>(nan, 0xFFFF).0.is_nan());
            assert!(signed::<bf16>(nan, magnitude::<bf16>(nan, 16, 0xFFFF)).is_nan());
        }
        let mut alone = [f16::ZERO; 100];
        round(&mut alone, &[65_519.0_f32; 100], Noise::new(1, 2, 3).at(0));
        assert!(alone.iter().all(|x| *x == f16::MAX));
        round(&mut alone, &[-65_521.0_f32; 100], Noise::new(1, 2, 3).at(0));
        assert!(alone.iter().all(|x| *x == f16::NEG_INFINITY));
        assert_eq!(parted::<f16>(1e6, 0), (f16::INFINITY, 0));
        assert_eq!(parted::<bf16>(-f32::MAX, 0), (bf16::NEG_INFINITY, 0));
    }

    /// The mean of many roundings is the number, within five standard deviations.
    fn rounding_is_right_on_average<H: Extended>(x: f32, wide: fn(H) -> f32) {
        let count = if cfg!(miri) { 200 } else { 100_000 };
        let (numbers, sequences) = (vec![x; count], Noise::new(1, 2, 3).at(0));
        let (mut half, mut corrections) = (vec![H::default(); count], vec![0; count]);
        let near = |mean: f64, unit: f64| {
            let deviation = unit / 2.0 / (count as f64).sqrt();
            assert!((mean - f64::from(x)).abs() < 5.0 * deviation, "{mean}, not {x}");
        };
        split::<f32, H, true>(&mut half, &mut corrections, &numbers, sequences);
        let masters = half.iter().zip(&corrections).map(|(half, correction)| f64::from(joined(*half, *correction)));
        let unit = f64::from(x) * 2.0_f64.powi(-(23 - H::DROPPED as i32));
        near(masters.sum::<f64>() / count as f64, unit);
        round(&mut half, &numbers, sequences);
        near(half.iter().map(|half| f64::from(wide(*half))).sum::<f64>() / count as f64, 256.0 * unit);
    }

    #[test]
    fn stochastic_rounding_is_right_on_average() {
        rounding_is_right_on_average(1.234_567, bf16::to_f32);
        rounding_is_right_on_average(1.234_567, f16::to_f32);
    }
}
