//! Differences in units in the last place.

use opt_core::state::DType;

/// How far a number is from the right one, in units in the last place of the larger one of the right number and the
/// number before the step: a result near 0 of a difference of two large numbers has the error of these.
///
/// Differences of a few of the smallest normal numbers do not count: drivers may take denormal numbers for 0.
pub(super) fn units(dtype: DType, got: f64, want: f64, before: f64) -> f64 {
    let is_same = got == want || (got.is_nan() && want.is_nan());
    if is_same {
        return 0.0;
    }
    if !got.is_finite() || !want.is_finite() {
        return f64::INFINITY;
    }
    let (digits, smallest) =
        if dtype == DType::F64 { (52, f64::MIN_POSITIVE) } else { (23, f64::from(f32::MIN_POSITIVE)) };
    let error = (got - want).abs();
    if error <= 4.0 * smallest {
        return 0.0;
    }
    let size = if before.is_finite() { before.abs().max(want.abs()) } else { want.abs() };
    // The exponent is that of a normal number: the error would not count otherwise.
    let power = f64::from_bits(size.max(smallest).to_bits() & !((1 << 52) - 1));
    error / power * 2_f64.powi(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_larger_number() {
        let next = |number: f32| f64::from(number.next_up());
        assert_eq!(units(DType::F32, next(1.0), 1.0, 0.0), 1.0);
        assert_eq!(units(DType::F32, next(1.5), 1.5, 0.0), 1.0);
        assert_eq!(units(DType::F32, next(-2.0), -2.0, 0.0), 0.5);
        assert_eq!(units(DType::F32, next(1.0), 1.0, -16.0), 1.0 / 16.0);
        assert_eq!(units(DType::F64, 3.0_f64.next_up(), 3.0, f64::NAN), 1.0);
        assert_eq!(units(DType::F64, 4.0, 4.0, f64::INFINITY), 0.0);
    }

    #[test]
    fn special_numbers_are_compared() {
        let of = |got, want| units(DType::F32, got, want, 0.0);
        assert_eq!(of(f64::NAN, f64::NAN), 0.0);
        assert_eq!(of(f64::INFINITY, f64::INFINITY), 0.0);
        for (got, want) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, f64::NEG_INFINITY), (0.0, f64::INFINITY)]
        {
            assert_eq!(of(got, want), f64::INFINITY);
        }
        assert_eq!((of(0.0, 1e-39), of(-0.0, 0.0)), (0.0, 0.0));
        assert!(of(0.0, 1e-36) > 1e6);
    }
}
