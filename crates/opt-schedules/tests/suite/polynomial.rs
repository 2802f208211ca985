//! Polynomial decay.

use approx::assert_relative_eq;
use opt_schedules::{PolynomialDecay, Schedule};

#[test]
fn falls_along_the_polynomial_and_stays() {
    let rate = PolynomialDecay::new(0.5, 6).end_learning_rate(0.02).power(2.5);
    for step in 0..30 {
        let p = step.min(6) as f64 / 6.0;
        let want = (0.5 - 0.02) * (1.0 - p).powf(2.5) + 0.02;
        assert_relative_eq!(rate.value(step), want, max_relative = 1e-14);
    }
}

#[test]
fn both_ends_are_exact() {
    for (first, end) in [(0.1, 1e-4), (0.7, 0.3), (1e-4, 0.1)] {
        let rate = PolynomialDecay::new(first, 7).end_learning_rate(end).power(1.5);
        assert_eq!([0, 7, 8, u64::MAX].map(|step| rate.value(step)), [first, end, end, end]);
    }
    assert_eq!(PolynomialDecay::new(1.0, 7).value(7), 0.0001, "the default end");
}

#[test]
fn cycles_get_longer_and_start_lower() {
    let rate = PolynomialDecay::new(0.5, 6).end_learning_rate(0.02).power(1.5).cycle(true);
    for step in 0..60_u64 {
        let mut end = 6;
        while end < step {
            end += 6;
        }
        let want = (0.5 - 0.02) * (1.0 - step as f64 / end as f64).powf(1.5) + 0.02;
        assert_relative_eq!(rate.value(step), want, max_relative = 1e-13);
    }
}

#[test]
fn every_multiple_has_the_end_value_exactly() {
    for decay_steps in [1, 3, (1 << 24) + 1, (1 << 53) + 1, u64::MAX / 3, u64::MAX] {
        let rate = PolynomialDecay::new(0.5, decay_steps).end_learning_rate(0.02).cycle(true);
        for multiple in [1, 2, 3, u64::MAX / decay_steps] {
            let Some(step) = decay_steps.checked_mul(multiple) else { continue };
            assert_eq!(rate.value(step), 0.02, "{multiple} times {decay_steps}");
        }
        assert_eq!(rate.value(0), 0.5);
    }
}

#[test]
fn the_step_before_the_end_is_not_the_end_where_floats_are_not_exact() {
    // In f64, 2^53 + 1 is 2^53: the last step would already be the end.
    let n = (1_u64 << 53) + 1;
    let rate = PolynomialDecay::new(1.0, n).end_learning_rate(0.0);
    assert_eq!([n - 1, n].map(|step| rate.value(step)), [2.0_f64.powi(-53), 0.0]);
}

#[test]
fn a_power_of_zero_does_not_fall() {
    let rate = PolynomialDecay::new(0.5, 4).power(0.0);
    assert_eq!([0, 4, 5].map(|step| rate.value(step)), [0.5; 3]);
}
