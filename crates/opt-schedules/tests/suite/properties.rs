//! What holds for all steps and all settings.

use std::f64::consts::PI;

use opt_schedules::{
    Anneal, Constant, CosineDecay, CosineDecayRestarts, ExponentialCyclicalLearningRate, ExponentialDecay,
    InverseTimeDecay, Join, LinearWarmup, OneCycle, PiecewiseConstantDecay, PolynomialDecay, ScaleMode, Schedule,
    Triangular2CyclicalLearningRate, TriangularCyclicalLearningRate,
};
use proptest::prelude::*;

/// Steps of every size, and with them lengths.
fn steps() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(bits, shift)| bits >> shift)
}

fn lengths() -> impl Strategy<Value = u64> {
    steps().prop_map(|steps| steps.max(1))
}

/// Finite numbers of at least 0, of every size.
fn rates() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(f64::MAX), 0.0..1.0, (-300.0..300.0_f64).prop_map(|power| 10.0_f64.powf(power))]
}

fn parts() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]
}

fn factors() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1.0), 1.0..1.000001, 1.0..4.0, (0.0..300.0_f64).prop_map(|power| 10.0_f64.powf(power))]
}

type Settings = ((f64, f64, f64, f64, f64), u64, u64, bool);

/// Settings that `validate` accepts.
fn settings() -> impl Strategy<Value = Settings> {
    ((rates(), rates(), rates(), parts(), factors()), lengths(), lengths(), any::<bool>())
}

/// Every class.
fn schedules(((l, h, r, part, factor), n, w, flag): Settings) -> Vec<Box<dyn Schedule>> {
    let mode = if flag { ScaleMode::Cycle } else { ScaleMode::Iterations };
    let anneal = if flag { Anneal::Cosine } else { Anneal::Linear };
    let gamma = if h < l { 1.0 / factor } else { factor };
    let cosine = CosineDecay::new(l, n).alpha(part).warmup(h, w);
    // Lengths that are not whole, unless they are large.
    let (n_part, w_part) = (n as f64 + part, w as f64 + part);
    vec![
        Box::new(ExponentialDecay::new(l, n_part, r).staircase(flag)),
        Box::new(InverseTimeDecay::new(l, n_part, r).staircase(flag)),
        Box::new(PiecewiseConstantDecay::new([n_part], [l, h])),
        Box::new(PolynomialDecay::new(l, n_part).end_learning_rate(h).power(r).cycle(flag)),
        Box::new(CosineDecay::new(l, n_part).alpha(part).warmup(h, w_part)),
        Box::new(CosineDecayRestarts::new(l, n_part).t_mul(factor).m_mul(r).alpha(part)),
        Box::new(CosineDecayRestarts::new(l, n_part).t_mul(1.0).m_mul(r).alpha(part)),
        Box::new(TriangularCyclicalLearningRate::new(l, h, n_part)),
        Box::new(ExponentialCyclicalLearningRate::new(l, h, n_part).gamma(gamma).scale_mode(mode)),
        Box::new(Constant::new(l)),
        Box::new(ExponentialDecay::new(l, n, r).staircase(flag)),
        Box::new(InverseTimeDecay::new(l, n, r).staircase(flag)),
        Box::new(PiecewiseConstantDecay::new([n], [l, h])),
        Box::new(PolynomialDecay::new(l, n).end_learning_rate(h).power(r).cycle(flag)),
        Box::new(cosine.clone()),
        Box::new(CosineDecayRestarts::new(l, n).t_mul(factor).m_mul(r).alpha(part)),
        Box::new(TriangularCyclicalLearningRate::new(l, h, n)),
        Box::new(Triangular2CyclicalLearningRate::new(l, h, n).scale_mode(mode)),
        Box::new(ExponentialCyclicalLearningRate::new(l, h, n).gamma(gamma).scale_mode(mode)),
        Box::new(OneCycle::new(l, n).pct_start(part).div_factor(factor).anneal_strategy(anneal)),
        Box::new(OneCycle::new(l, n).pct_start(part).final_div_factor(factor).three_phase(true)),
        Box::new(LinearWarmup::new(cosine.clone(), w).start_value(r).delay_inner(flag)),
        Box::new(Join::new(l).then(w, cosine)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn every_value_is_finite_and_not_negative(settings in settings(), step in steps()) {
        for schedule in schedules(settings) {
            prop_assert_eq!(schedule.validate(), Ok(()), "{:?}", schedule);
            for step in [step, 0, 1, u64::MAX] {
                let value = schedule.value(step);
                prop_assert!((0.0..=f64::MAX).contains(&value), "{:?} at {} is {}", schedule, step, value);
            }
        }
    }

    #[test]
    fn values_stay_between_their_bounds(
        l in 0.0..1.0, h in 0.0..1.0, part in parts(), n in lengths(), step in steps()
    ) {
        let between = |value: f64, a: f64, b: f64| (a.min(b)..=a.max(b)).contains(&value);
        let polynomial = PolynomialDecay::new(l, n).end_learning_rate(h);
        prop_assert!(between(polynomial.value(step), l, h));
        prop_assert!(between(polynomial.cycle(true).value(step), l, h));
        prop_assert!(between(CosineDecay::new(l, n).alpha(part).value(step), l * part, l));
        prop_assert!(between(CosineDecayRestarts::new(l, n).alpha(part).value(step), l * part, l));
        prop_assert!(between(TriangularCyclicalLearningRate::new(l, h, n).value(step), l, h));
        prop_assert!(between(Triangular2CyclicalLearningRate::new(l, h, n).value(step), l, h));
        prop_assert!(between(LinearWarmup::new(l, n).start_value(h).value(step), l, h));
        prop_assert!(between(OneCycle::new(l, n).pct_start(part).value(step), l / 25.0 / 1e4, l));
        prop_assert!(ExponentialDecay::new(l, n, part).value(step) <= l);
        prop_assert!(InverseTimeDecay::new(l, n, h).value(step) <= l);
    }

    #[test]
    fn decays_never_rise(n in lengths(), part in parts(), step in steps(), more in steps()) {
        let later = step.saturating_add(more);
        let decays: [Box<dyn Schedule>; 4] = [
            Box::new(ExponentialDecay::new(1.0, n, part)),
            Box::new(InverseTimeDecay::new(1.0, n, part).staircase(true)),
            Box::new(PolynomialDecay::new(1.0, n).power(1.5)),
            Box::new(CosineDecay::new(1.0, n).alpha(part)),
        ];
        for decay in decays {
            prop_assert!(decay.value(later) <= decay.value(step), "{:?} from {} to {}", decay, step, later);
        }
    }

    #[test]
    fn restarts_follow_a_walk_through_all_periods(
        first in 1_u64..50, t_mul in 1_u64..5, m_mul in 0.5..1.0, alpha in parts(), step in 0_u64..2_000_000
    ) {
        let rate = CosineDecayRestarts::new(0.7, first).t_mul(t_mul as f64).m_mul(m_mul).alpha(alpha);
        let (mut start, mut length, mut height) = (0, first, 1.0);
        while step >= start + length {
            (start, length, height) = (start + length, length * t_mul, height * m_mul);
        }
        let x = (step - start) as f64 / length as f64;
        let want = 0.7 * ((1.0 - alpha) * 0.5 * height * (1.0 + (PI * x).cos()) + alpha);
        let got = rate.value(step);
        // The naive product of up to two million factors rounds at each.
        let tolerance = 1e-12 + want.abs() * 1e-9;
        prop_assert!((got - want).abs() <= tolerance, "{got} instead of {want}");
    }

    #[test]
    fn equal_periods_repeat(first in lengths(), step in steps(), periods in steps()) {
        let rate = CosineDecayRestarts::new(1.0, first).t_mul(1.0);
        let wave = TriangularCyclicalLearningRate::new(0.0, 1.0, first);
        let later = periods.checked_mul(first).and_then(|length| length.checked_add(step));
        if let Some(later) = later {
            prop_assert_eq!(rate.value(later), rate.value(step));
            let turned = if periods % 2 == 0 { wave.value(step) } else { 1.0 - wave.value(step) };
            prop_assert!((wave.value(later) - turned).abs() <= 1e-15);
        }
    }

    #[test]
    fn a_join_is_the_schedule_of_its_part(boundary in lengths(), step in steps()) {
        let (before, after) = (ExponentialDecay::new(1.0, 100, 0.5), InverseTimeDecay::new(0.5, 10, 0.5));
        let joined = Join::new(before.clone()).then(boundary, after.clone());
        let want = if step < boundary { before.value(step) } else { after.value(step - boundary) };
        prop_assert_eq!(joined.value(step), want);
    }
}
