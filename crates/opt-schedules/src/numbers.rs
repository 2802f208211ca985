//! Calculations that several schedules share. None of them panics, whatever the numbers are.

use std::f64::consts::PI;

/// The number of whole periods before a step, and the number of steps since; exact for every `u64`.
pub(crate) fn split(step: u64, period: u64) -> (u64, u64) {
    let period = period.max(1);
    (step / period, step % period)
}

/// `part / whole`.
pub(crate) fn fraction(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// `from + (to - from) * t`, exact at both ends: computed from the nearer end.
pub(crate) fn blend(from: f64, to: f64, t: f64) -> f64 {
    if t < 0.5 { from + (to - from) * t } else { to - (to - from) * (1.0 - t) }
}

/// `(1 + cos(pi x)) / 2`: 1 at 0, 0 at 1.
pub(crate) fn half_cosine(x: f64) -> f64 {
    0.5 * (1.0 + (PI * x).cos())
}

/// `base^exponent`, limited to the largest finite number.
pub(crate) fn power(base: f64, exponent: f64) -> f64 {
    saturate(base.powf(exponent))
}

/// The nearest finite number: unlimited growth stops at the largest finite number.
pub(crate) fn saturate(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blend_is_exact_at_both_ends_and_between_equal_ends() {
        for (from, to) in [(0.1, 1e-4), (1e-4, 0.1), (0.7, 0.1), (1e300, 1e-300)] {
            assert_eq!([blend(from, to, 0.0), blend(from, to, 1.0)], [from, to]);
        }
        assert_eq!([0.1, 0.5, 0.9].map(|t| blend(0.3, 0.3, t)), [0.3; 3]);
        assert_eq!(blend(1.0, 3.0, 0.25), 1.5);
        assert_eq!(blend(1.0, 3.0, 0.75), 2.5);
    }

    #[test]
    fn a_period_of_zero_does_not_panic() {
        assert_eq!(split(7, 0), (7, 0));
        assert_eq!(split(7, 3), (2, 1));
    }

    #[test]
    fn growth_stops_at_the_largest_number() {
        assert_eq!(power(2.0, 1e9), f64::MAX);
        assert_eq!(power(2.0, 3.0), 8.0);
        assert!(saturate(f64::NAN).is_nan());
    }
}
