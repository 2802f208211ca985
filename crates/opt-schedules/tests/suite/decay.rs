//! Exponential and inverse-time decay.

use approx::assert_relative_eq;
use opt_schedules::{ExponentialDecay, InverseTimeDecay, Schedule};

#[test]
fn exponential_multiplies_once_per_decay_steps() {
    let rate = ExponentialDecay::new(0.5, 6, 0.65);
    assert_eq!(rate.value(0), 0.5);
    for (step, want) in [(6, 0.5 * 0.65), (12, 0.5 * 0.65 * 0.65), (3, 0.5 * 0.65_f64.sqrt())] {
        assert_relative_eq!(rate.value(step), want, max_relative = 1e-14);
    }
}

#[test]
fn inverse_time_divides() {
    let rate = InverseTimeDecay::new(0.5, 6, 0.65);
    for (step, want) in [(0, 0.5), (3, 0.5 / 1.325), (6, 0.5 / 1.65), (60, 0.5 / 7.5)] {
        assert_relative_eq!(rate.value(step), want, max_relative = 1e-14);
    }
}

#[test]
fn a_staircase_changes_at_multiples_alone() {
    let exponential = ExponentialDecay::new(0.5, 6, 0.65).staircase(true);
    let inverse = InverseTimeDecay::new(0.5, 6, 0.65).staircase(true);
    for step in 0..40 {
        let mut factor = 1.0;
        for _ in 0..step / 6 {
            factor *= 0.65;
        }
        assert_relative_eq!(exponential.value(step), 0.5 * factor, max_relative = 1e-14);
        assert_relative_eq!(inverse.value(step), 0.5 / (1.0 + 0.65 * (step / 6) as f64), max_relative = 1e-14);
    }
}

#[test]
fn a_staircase_is_exact_where_floats_are_not() {
    // 3 * 2^53 + 2 has no f64, and as an f64 would be 3 * 2^53 + 4; so would the steps around 2^24 in f32.
    for edge in [3 * ((1_u64 << 24) + 1), 3 * ((1_u64 << 53) + 1)] {
        let rate = InverseTimeDecay::new(1.0, edge, 1.0).staircase(true);
        assert_eq!([edge - 1, edge, 2 * edge - 1, 2 * edge].map(|step| rate.value(step)), [1.0, 0.5, 0.5, 1.0 / 3.0]);
    }
}

#[test]
fn growth_stops_before_infinity() {
    let sweep = ExponentialDecay::new(1e-7, 1, 2.0);
    assert_relative_eq!(sweep.value(10), 1024e-7, max_relative = 1e-14);
    assert_eq!(sweep.value(u64::MAX), 1e-7 * f64::MAX);
    assert_eq!(ExponentialDecay::new(2.0, 1, 2.0).value(u64::MAX), f64::MAX);
    assert_eq!(ExponentialDecay::new(0.0, 1, 2.0).value(u64::MAX), 0.0);
}

#[test]
fn a_rate_of_zero_is_gone_after_the_first_step() {
    let rate = ExponentialDecay::new(0.3, 2, 0.0);
    assert_eq!([0, 1, 2].map(|step| rate.value(step)), [0.3, 0.0, 0.0]);
    assert_eq!([0, 1, 2].map(|step| rate.clone().staircase(true).value(step)), [0.3, 0.3, 0.0]);
    assert_eq!(InverseTimeDecay::new(0.3, 2, 0.0).value(u64::MAX), 0.3);
}
