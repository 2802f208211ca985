//! What each schedule refuses, by name.

use opt_schedules::{
    Configurable, Constant, CosineDecay, CosineDecayRestarts, ExponentialCyclicalLearningRate, ExponentialDecay,
    InverseTimeDecay, Join, LinearWarmup, OneCycle, PiecewiseConstantDecay, PolynomialDecay, Schedule,
    Triangular2CyclicalLearningRate, TriangularCyclicalLearningRate,
};

/// Numbers that no rate may have.
const NO_RATES: [f64; 4] = [-1e-9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn assert_refused(schedule: &dyn Schedule, name: &str) {
    let error = schedule.validate().expect_err(name);
    assert_eq!(error.name, name, "{error}");
    // Evaluating it anyway must not panic or hang.
    for step in [0, 1, 7, 1 << 53, u64::MAX] {
        let _ = schedule.value(step);
    }
}

/// The numbers that are out of range, for a field that takes those in range.
fn assert_range<S: Schedule>(name: &str, with: impl Fn(f64) -> S, accepted: &[f64], refused: &[f64]) {
    for value in accepted {
        assert_eq!(with(*value).validate(), Ok(()), "{name} = {value}");
    }
    for value in refused.iter().chain(&NO_RATES) {
        assert_refused(&with(*value), name);
    }
}

#[test]
fn constants() {
    assert_range("value", Constant::new, &[0.0, 1.0, f64::MAX], &[]);
}

#[test]
fn decays() {
    assert_range("initial_learning_rate", |l| ExponentialDecay::new(l, 1, 0.5), &[0.0, 1.0], &[]);
    assert_range("decay_rate", |r| ExponentialDecay::new(1.0, 1, r), &[0.0, 0.5, 2.0], &[]);
    assert_refused(&ExponentialDecay::new(1.0, 0, 0.5), "decay_steps");
    assert_refused(&ExponentialDecay::new(1.0, 0, 0.5).staircase(true), "decay_steps");
    assert_range("initial_learning_rate", |l| InverseTimeDecay::new(l, 1, 0.5), &[0.0, 1.0], &[]);
    assert_range("decay_rate", |r| InverseTimeDecay::new(1.0, 1, r), &[0.0, 0.5, 2.0], &[]);
    assert_refused(&InverseTimeDecay::new(1.0, 0, 0.5), "decay_steps");
}

#[test]
fn polynomials() {
    assert_range("initial_learning_rate", |l| PolynomialDecay::new(l, 1), &[0.0, 1.0], &[]);
    let decay = PolynomialDecay::new(1.0, 4);
    assert_range("end_learning_rate", |e| decay.clone().end_learning_rate(e), &[0.0, 0.5, 2.0], &[]);
    assert_range("power", |q| decay.clone().power(q), &[0.0, 0.5, 3.0], &[]);
    assert_refused(&PolynomialDecay::new(1.0, 0), "decay_steps");
    assert_refused(&PolynomialDecay::new(1.0, 0).cycle(true), "decay_steps");
}

#[test]
fn pieces() {
    let refused = |boundaries: &[u64], values: &[f64], name| {
        assert_refused(&PiecewiseConstantDecay::new(boundaries.iter().copied(), values), name);
    };
    refused(&[], &[], "length of boundaries");
    refused(&[], &[1.0], "length of boundaries");
    refused(&[5, 10], &[1.0, 0.5], "length of values");
    refused(&[5, 10], &[1.0, 0.5, 0.25, 0.125], "length of values");
    refused(&[5, 10, 10], &[1.0; 4], "boundaries[2]");
    refused(&[10, 5, 20], &[1.0; 4], "boundaries[1]");
    refused(&[u64::MAX, u64::MAX], &[1.0; 3], "boundaries[1]");
    for value in NO_RATES {
        refused(&[5, 10], &[1.0, value, 0.5], "values[1]");
    }
    assert_eq!(PiecewiseConstantDecay::new([0, u64::MAX], [0.0; 3]).validate(), Ok(()));
}

#[test]
fn errors_carry_the_numbers() {
    let message = |schedule: &dyn Schedule| schedule.validate().unwrap_err().to_string();
    let pieces = |boundaries: &[u64]| message(&PiecewiseConstantDecay::new(boundaries.iter().copied(), [1.0, 0.5]));
    assert_eq!(pieces(&[5, 10]), "length of values is 2, expected 3, one more than boundaries");
    assert_eq!(pieces(&[5, 4]), "boundaries[1] is 4, expected more than the boundary before it, 5");
    assert_eq!(pieces(&[]), "length of boundaries is 0, expected at least 1");
    assert_eq!(message(&CosineDecay::new(1.0, 0)), "decay_steps is 0, expected a number in [1, inf)");
    let joined = Join::new(1.0).then(0, CosineDecay::new(1.0, 5));
    assert_eq!(message(&joined), "boundaries[0] is 0, expected a whole number of at least 1");
    let gamma = ExponentialCyclicalLearningRate::new(0.1, 1.0, 4).gamma(0.0);
    assert_eq!(message(&gamma), "gamma is 0, expected a number in (0, inf)");
}

#[test]
fn cosines() {
    assert_range("initial_learning_rate", |l| CosineDecay::new(l, 1), &[0.0, 1.0], &[]);
    let decay = CosineDecay::new(1.0, 4);
    assert_range("alpha", |a| decay.clone().alpha(a), &[0.0, 0.5, 1.0], &[1.000001]);
    assert_range("warmup_target", |t| decay.clone().warmup(t, 3), &[0.0, 0.5, 2.0], &[]);
    assert_refused(&CosineDecay::new(1.0, 0), "decay_steps");
    assert_refused(&CosineDecay::new(1.0, 0).warmup(2.0, 5), "decay_steps");
}

#[test]
fn restarts() {
    assert_range("initial_learning_rate", |l| CosineDecayRestarts::new(l, 1), &[0.0, 1.0], &[]);
    let decay = CosineDecayRestarts::new(1.0, 4);
    assert_range("t_mul", |t| decay.clone().t_mul(t), &[1.0, 1.5, 1e300], &[0.999999, 0.5, 0.0]);
    assert_range("m_mul", |m| decay.clone().m_mul(m), &[0.0, 0.5, 2.0], &[]);
    assert_range("alpha", |a| decay.clone().alpha(a), &[0.0, 0.5, 1.0], &[1.000001]);
    assert_refused(&CosineDecayRestarts::new(1.0, 0), "first_decay_steps");
    assert_refused(&CosineDecayRestarts::new(1.0, 0).t_mul(1.0), "first_decay_steps");
}

#[test]
fn waves() {
    assert_range("initial_learning_rate", |l| TriangularCyclicalLearningRate::new(l, 1.0, 1), &[0.0, 1.0, 2.0], &[]);
    assert_range("maximal_learning_rate", |h| TriangularCyclicalLearningRate::new(1.0, h, 1), &[0.0, 1.0, 2.0], &[]);
    assert_refused(&TriangularCyclicalLearningRate::new(0.0, 1.0, 0), "step_size");
    assert_refused(&Triangular2CyclicalLearningRate::new(0.0, 1.0, 0), "step_size");
    let up = ExponentialCyclicalLearningRate::new(0.0, 1.0, 4);
    assert_range("gamma", |g| up.clone().gamma(g), &[1e-300, 0.9, 1.0, 1.1], &[0.0]);
    let down = ExponentialCyclicalLearningRate::new(1.0, 0.5, 4);
    assert_range("gamma", |g| down.clone().gamma(g), &[0.9, 1.0], &[0.0, 1.1]);
    assert_refused(&ExponentialCyclicalLearningRate::new(0.0, 1.0, 0), "step_size");
}

#[test]
fn one_cycles() {
    assert_range("max_lr", |h| OneCycle::new(h, 9), &[0.0, 1.0], &[]);
    let cycle = OneCycle::new(1.0, 9);
    assert_range("pct_start", |p| cycle.clone().pct_start(p), &[0.0, 0.5, 1.0], &[1.000001]);
    assert_range("div_factor", |f| cycle.clone().div_factor(f), &[1.0, 2.0], &[0.0, 0.999999]);
    assert_range("final_div_factor", |g| cycle.clone().final_div_factor(g), &[0.04, 1.0, 1e6], &[0.0, 0.039]);
    assert_refused(&OneCycle::new(1.0, 0), "total_steps");
    assert_refused(&OneCycle::new(1.0, 0).three_phase(true), "total_steps");
}

#[test]
fn nested_schedules_say_where_they_are() {
    assert_range("start_value", |v| LinearWarmup::new(1.0, 4).start_value(v), &[0.0, 0.5, 2.0], &[]);
    assert_range("inner", |v| LinearWarmup::new(v, 4), &[0.0, 0.5], &[]);
    assert_range("schedules[1]", |v| Join::new(1.0).then(4, v), &[0.0, 0.5], &[]);

    let wrong = CosineDecay::new(1.0, 0);
    assert_refused(&LinearWarmup::new(wrong.clone(), 4), "inner.decay_steps");
    let joined = Join::new(1.0).then(4, LinearWarmup::new(wrong, 4));
    assert_refused(&joined, "schedules[1].inner.decay_steps");
}

#[test]
fn boundaries_of_joins() {
    assert_refused(&Join::new(1.0).then(0, 0.5), "boundaries[0]");
    assert_refused(&Join::new(1.0).then(5, 0.5).then(5, 0.25), "boundaries[1]");
    assert_refused(&Join::new(1.0).then(5, 0.5).then(4, 0.25), "boundaries[1]");
    assert_eq!(Join::new(1.0).then(1, 0.5).then(u64::MAX, 0.25).validate(), Ok(()));
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let mut registry = opt_core::config::ScheduleRegistry::new();
    opt_schedules::register(&mut registry);
    for (schedules, length) in [("[]", 0), ("[1.0]", 1), ("[1.0, 0.5, 0.25]", 3)] {
        let text = format!(r#"{{"class_name": "Join", "config": {{"schedules": {schedules}, "boundaries": [5]}}}}"#);
        let error = registry.hyper(&text.parse().unwrap()).unwrap_err();
        let want = format!("length of schedules is {length}, expected 2, one more than boundaries");
        assert_eq!(error.to_string(), want);
    }
}
