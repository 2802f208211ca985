//! Rounding to the nearest 16-bit number: for variables and gradients in `bf16` and `f16`, and the masters of
//! variables.

use std::array;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use multiversion::multiversion;

use super::stochastic;
use crate::real::Scalar;

/// The engine's conversions of 16-bit numbers, slice by slice.
pub(crate) trait HalfFloat: Copy + Default {
    /// Converts exactly.
    fn widen<T: Scalar>(to: &mut [T], from: &[Self]);

    /// Rounds to nearest, ties to even. A number that is too large becomes infinite; NaN stays NaN.
    fn round<T: Scalar>(to: &mut [Self], from: &[T]);

    /// Replaces each element of `master` that no longer rounds to `from`: the caller has changed the variable.
    fn take_changed<T: Scalar>(master: &mut [T], from: &[Self]);
}

impl HalfFloat for bf16 {
    fn widen<T: Scalar>(to: &mut [T], from: &[Self]) {
        stochastic::widen(to, from);
    }

    fn round<T: Scalar>(to: &mut [Self], from: &[T]) {
        round(to, from);
    }

    fn take_changed<T: Scalar>(master: &mut [T], from: &[Self]) {
        take_changed(master, from);
    }
}

/// The number of `f16` numbers that are converted at a time. `half` uses instructions of the processor, if it has any.
const CONVERTED: usize = 256;

impl HalfFloat for f16 {
    fn widen<T: Scalar>(to: &mut [T], from: &[Self]) {
        for (to, from) in to.chunks_mut(CONVERTED).zip(from.chunks(CONVERTED)) {
            let wide = widened(from);
            to.iter_mut().zip(wide).for_each(|(to, wide)| *to = T::from_f32(wide));
        }
    }

    fn round<T: Scalar>(to: &mut [Self], from: &[T]) {
        for (to, from) in to.chunks_mut(CONVERTED).zip(from.chunks(CONVERTED)) {
            to.convert_from_f32_slice(&single(from)[..to.len()]);
        }
    }

    fn take_changed<T: Scalar>(master: &mut [T], from: &[Self]) {
        let mut rounded = [Self::ZERO; CONVERTED];
        for (master, from) in master.chunks_mut(CONVERTED).zip(from.chunks(CONVERTED)) {
            rounded[..from.len()].convert_from_f32_slice(&single(master)[..from.len()]);
            let wide = widened(from);
            for (((master, from), rounded), wide) in master.iter_mut().zip(from).zip(&rounded).zip(wide) {
                *master = if from.to_bits() == rounded.to_bits() { *master } else { T::from_f32(wide) };
            }
        }
    }
}

/// At most [`CONVERTED`] numbers, widened; the rest is zeros.
fn widened(from: &[f16]) -> [f32; CONVERTED] {
    let mut wide = [0.0; CONVERTED];
    from.convert_to_f32_slice(&mut wide[..from.len()]);
    wide
}

/// At most [`CONVERTED`] numbers in 32 bits; the rest is zeros.
fn single<T: Scalar>(from: &[T]) -> [f32; CONVERTED] {
    array::from_fn(|i| from.get(i).map_or(0.0, |x| x.to_f32()))
}

/// Rounds to nearest, ties to even, without a branch.
#[inline(always)]
fn nearest(x: f32) -> u16 {
    const INFINITY: u32 = 0x7F80_0000;
    // Makes a NaN quiet, so that a NaN stays a NaN if all of its digits are cut off.
    const QUIET: u32 = 0x0040;
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    let cut = (bits >> 16) | QUIET;
    (if bits & 0x7FFF_FFFF > INFINITY { cut } else { rounded }) as u16
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
fn round<T: Scalar>(to: &mut [bf16], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = bf16::from_bits(nearest(from.to_f32())));
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
fn take_changed<T: Scalar>(master: &mut [T], from: &[bf16]) {
    for (master, &from) in master.iter_mut().zip(from) {
        let same = nearest(master.to_f32()) == from.to_bits();
        *master = if same { *master } else { stochastic::widened(from) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of every exponent: exact ones, their neighbours, and numbers halfway between.
    fn numbers() -> Vec<f32> {
        // Miri would take a minute for all of them.
        let every = if cfg!(miri) { 251 } else { 1 };
        let bits = (0..=u16::MAX).step_by(every).flat_map(|high| {
            [0, 1, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
                .map(|low| u32::from(high) << 16 | low)
        });
        bits.map(f32::from_bits).collect()
    }

    /// Checks against the conversion of single numbers by `half`.
    fn conversions_agree<H: HalfFloat + PartialEq + std::fmt::Debug>(one: fn(f32) -> H, back: fn(H) -> f32) {
        let from = numbers();
        let mut to = vec![H::default(); from.len()];
        H::round(&mut to, &from);
        let mut wide = vec![0.0_f32; from.len()];
        H::widen(&mut wide, &to);
        for ((&x, &rounded), &wide) in from.iter().zip(&to).zip(&wide) {
            if x.is_nan() {
                assert!(back(rounded).is_nan() && wide.is_nan(), "{x}");
            } else {
                assert_eq!((rounded, wide.to_bits()), (one(x), back(rounded).to_bits()), "{x:e}");
            }
        }
        // Nothing has been changed, so nothing is taken.
        let mut master = from.clone();
        H::take_changed(&mut master, &to);
        assert!(master.iter().zip(&from).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn rounding_is_to_the_nearest() {
        conversions_agree(bf16::from_f32, bf16::to_f32);
        conversions_agree(f16::from_f32, f16::to_f32);
    }

    fn changes_are_taken<H: HalfFloat>(one: fn(f32) -> H) {
        for len in [1, 7, 255, 256, 257, 1000] {
            let exact: Vec<f32> = (0..len).map(|i| 1.0 + (i % 100) as f32 * 1e-4).collect();
            let mut half = vec![H::default(); len];
            H::round(&mut half, &exact);
            for changed in (0..len).step_by(3) {
                half[changed] = one(-2.0);
            }
            let mut master = exact.clone();
            H::take_changed(&mut master, &half);
            for (i, (master, exact)) in master.iter().zip(exact).enumerate() {
                assert_eq!(*master, if i.is_multiple_of(3) { -2.0 } else { exact }, "{i} of {len}");
            }
        }
    }

    #[test]
    fn what_somebody_else_changed_is_taken() {
        changes_are_taken(bf16::from_f32);
        changes_are_taken(f16::from_f32);
        // A changed sign of 0 counts as a change, and so does NaN.
        let mut master = [0.0_f32, 1.0, 2.0];
        bf16::take_changed(&mut master, &[bf16::NEG_ZERO, bf16::NAN, bf16::INFINITY]);
        assert!(master[0].is_sign_negative() && master[1].is_nan() && master[2] == f32::INFINITY);
    }

    #[test]
    fn what_is_too_large_becomes_infinite() {
        let mut to = [f16::ZERO; 3];
        f16::round(&mut to, &[65_519.0_f32, 65_520.0, -1e6]);
        assert_eq!(to, [f16::MAX, f16::INFINITY, f16::NEG_INFINITY]);
        let mut to = [bf16::ZERO; 2];
        bf16::round(&mut to, &[f32::MAX, -f32::MAX]);
        assert_eq!(to, [bf16::INFINITY, bf16::NEG_INFINITY]);
    }
}
