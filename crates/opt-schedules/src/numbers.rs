//! Calculations that several schedules share. None of them panics, whatever the numbers are.

use std::f64::consts::PI;

use opt_core::config::Steps;

/// `part / whole`.
pub(crate) fn fraction(part: impl Into<Steps>, whole: impl Into<Steps>) -> f64 {
    part.into().get() / whole.into().get()
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
    fn growth_stops_at_the_largest_number() {
        assert_eq!(power(2.0, 1e9), f64::MAX);
        assert_eq!(power(2.0, 3.0), 8.0);
        assert!(saturate(f64::NAN).is_nan());
    }
}
