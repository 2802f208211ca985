//! Schedules around and beside others: constants, warmup, joins, functions.

use approx::assert_relative_eq;
use opt_core::Hyper;
use opt_core::config::ConfigError;
use opt_schedules::{Configurable, Constant, CosineDecay, Join, LinearWarmup, PolynomialDecay, Schedule, schedule_fn};

/// A schedule whose value is the step that it sees.
fn clock() -> impl Schedule + 'static {
    schedule_fn(|step| step as f64)
}

#[test]
fn a_constant_is_constant() {
    assert_eq!([0, 1, u64::MAX].map(|step| Constant::new(0.3).value(step)), [0.3; 3]);
}

#[test]
fn the_inner_schedule_starts_when_the_warmup_ends() {
    let rate = LinearWarmup::new(clock(), 10);
    assert_eq!([10, 11, 500, u64::MAX].map(|step| rate.value(step)), [0.0, 1.0, 490.0, (u64::MAX - 10) as f64]);
}

#[test]
fn without_delay_the_inner_schedule_counts_from_the_first_step() {
    let rate = LinearWarmup::new(clock(), 10).delay_inner(false);
    for step in 0..10 {
        assert_relative_eq!(rate.value(step), (step * step) as f64 / 10.0, max_relative = 1e-14);
    }
    assert_eq!([10, 11, 500].map(|step| rate.value(step)), [10.0, 11.0, 500.0]);
}

#[test]
fn a_warmup_is_the_one_of_cosine_decay() {
    let rate = LinearWarmup::new(CosineDecay::new(0.7, 20).alpha(0.1), 10).start_value(0.1);
    let keras = CosineDecay::new(0.1, 20).alpha(0.1).warmup(0.7, 10);
    for step in 0..40 {
        assert_eq!(rate.value(step), keras.value(step), "step {step}");
    }
}

#[test]
fn a_warmup_may_fall_and_may_be_empty() {
    let falling = LinearWarmup::new(0.25, 4).start_value(1.25);
    assert_eq!([0, 1, 2, 3, 4].map(|step| falling.value(step)), [1.25, 1.0, 0.75, 0.5, 0.25]);
    assert_eq!(LinearWarmup::new(0.25, 0).start_value(9.0).value(0), 0.25);
}

#[test]
fn warmups_are_exact_where_floats_are_not() {
    for steps in [(1 << 24) + 1, (1 << 53) + 1, u64::MAX] {
        assert_eq!(LinearWarmup::new(0.7, steps).start_value(0.1).value(steps), 0.7);
        assert_eq!(LinearWarmup::new(clock(), steps - 2).value(steps), 2.0);
        assert_eq!(Join::new(9.0).then(steps - 2, clock()).value(steps), 2.0);
        assert_eq!(Join::new(9.0).then(steps, 1.0).value(steps - 1), 9.0);
    }
}

#[test]
fn each_joined_schedule_counts_from_its_own_boundary() {
    let joined = Join::new(clock()).then(3, clock()).then(4, 0.5).then(6, clock());
    let values = (0..9).map(|step| joined.value(step));
    assert_eq!(values.collect::<Vec<_>>(), [0.0, 1.0, 2.0, 0.0, 0.5, 0.5, 0.0, 1.0, 2.0]);
    assert_eq!(joined.value(u64::MAX), (u64::MAX - 6) as f64);
}

#[test]
fn a_single_schedule_may_be_joined_to_nothing() {
    let rate = Join::new(PolynomialDecay::new(1.0, 4).end_learning_rate(0.5));
    assert!(rate.validate().is_ok());
    assert_eq!([0, 2, 4].map(|step| rate.value(step)), [1.0, 0.75, 0.5]);
}

#[test]
fn joins_nest() {
    let inner = Join::new(1.0).then(2, 2.0);
    let joined = Join::new(LinearWarmup::new(inner, 2)).then(10, Join::new(3.0).then(1, 4.0));
    let steps = [0, 1, 2, 3, 4, 9, 10, 11];
    assert_eq!(steps.map(|step| joined.value(step)), [0.0, 0.5, 1.0, 1.0, 2.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_function_is_a_schedule_that_cannot_be_saved() {
    let half = 0.5;
    let rate = schedule_fn(move |step| half / (step as f64 + 1.0));
    assert_eq!([0, 1, 3].map(|step| rate.value(step)), [0.5, 0.25, 0.125]);
    assert_eq!(rate.class_name(), "Closure");
    assert_eq!(format!("{rate:?}"), "Closure { .. }");
    assert!(rate.validate().is_ok());
    assert!(matches!(rate.config(), Err(ConfigError::NotSerializable { reason: "it holds code", .. })));
    assert_eq!(Hyper::from(rate).at(1), 0.25);
}

#[test]
fn whatever_holds_a_function_cannot_be_saved_either() {
    let warmup = LinearWarmup::new(clock(), 3).config();
    assert!(matches!(warmup, Err(ConfigError::NotSerializable { .. })));
    let joined = Join::new(1.0).then(3, clock()).config();
    assert!(matches!(joined, Err(ConfigError::NotSerializable { .. })));
}
