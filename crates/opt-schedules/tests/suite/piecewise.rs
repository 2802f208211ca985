//! Constant values between boundaries.

use opt_schedules::{Configurable, PiecewiseConstantDecay, Schedule};

#[test]
fn a_boundary_has_the_value_on_its_left() {
    let rate = PiecewiseConstantDecay::new([3, 9, 17], [1.0, 0.5, 0.25, 0.125]);
    for step in 0..40 {
        let want = if step > 17 {
            0.125
        } else if step > 9 {
            0.25
        } else if step > 3 {
            0.5
        } else {
            1.0
        };
        assert_eq!(rate.value(step), want, "step {step}");
    }
}

#[test]
fn a_boundary_at_zero_leaves_one_step_on_its_left() {
    let rate = PiecewiseConstantDecay::new([0], [1.0, 0.5]);
    assert_eq!([0, 1].map(|step| rate.value(step)), [1.0, 0.5]);
    assert!(rate.validate().is_ok());
}

#[test]
fn boundaries_are_exact_where_floats_are_not() {
    for boundary in [(1 << 24) + 1, (1 << 53) + 1, u64::MAX - 1] {
        let rate = PiecewiseConstantDecay::new([boundary], [1.0, 0.5]);
        assert_eq!([boundary - 1, boundary, boundary + 1].map(|step| rate.value(step)), [1.0, 1.0, 0.5]);
    }
}

#[test]
fn a_list_that_is_too_short_gives_no_number() {
    let rate = PiecewiseConstantDecay::new([3], [1.0]);
    assert!(rate.value(4).is_nan());
    assert!(rate.validate().is_err());
}
