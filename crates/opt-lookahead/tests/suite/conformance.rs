//! Lookahead keeps every law around every rule, repeats every recorded run, and agrees with the textbook.

use opt_conformance::golden::File;
use opt_conformance::problem::Problem;
use opt_conformance::replay::Registries;
use opt_conformance::textbook::{self, options};
use opt_conformance::{Verdict, conformance, golden_folder, replay};
use opt_core::config::FromConfig;
use opt_core::state::StateValue;
use opt_core::{Ema, Optimizer, OptimizerBuilder, Registry, Scalar, UpdateRule};
use opt_lookahead::Lookahead;
use opt_nadam::Nadam;
use opt_novograd::NovoGrad;
use opt_radam::RectifiedAdam;
use opt_schedules::CosineDecay;
use opt_sgd::Sgd;
use proptest::prelude::*;

mod laws {
    use super::*;

    conformance! {
        class: Lookahead<Sgd>,
        variants: {
            defaults: Lookahead::new(Sgd::new(0.125)),
            momentum: Lookahead::new(Sgd::new(CosineDecay::new(0.25, 9)).momentum(0.875)).sync_period(3).slow_step_size(0.75),
            legacy: Lookahead::new(Sgd::new(0.125).momentum(0.875).legacy().decay(0.25)).sync_period(2).slow_step_size(0.25),
            all_the_way: Lookahead::new(Sgd::new(0.125).momentum(0.875).nesterov(true)).sync_period(1).slow_step_size(1.0),
            nested: Lookahead::new(Lookahead::new(Sgd::new(0.125).momentum(0.5)).sync_period(2)).sync_period(3),
        },
        // Several classes: see `recorded_runs_around_every_rule`.
        golden: [],
        laws: all,
    }
}

mod laws_around {
    use super::*;

    conformance! {
        class: Lookahead<Nadam>,
        variants: {
            nadam: Lookahead::new(Nadam::new(0.0625).schedule_decay(0.25)).sync_period(3),
            keras_nadam: Lookahead::new(Nadam::keras(0.0625)).sync_period(3),
            ranger: Lookahead::new(RectifiedAdam::new(0.0625).beta_2(0.9375).weight_decay(0.0625).total_steps(9)).sync_period(4),
            novograd: Lookahead::new(NovoGrad::new(0.0625).grad_averaging(true).amsgrad(true)).sync_period(3).slow_step_size(0.25),
        },
        golden: [],
        laws: all, except: {
            finite_stays_finite: "v of Nadam holds squares, and they can be infinite",
            splitting_changes_nothing: "NovoGrad looks at a variable as a whole",
        },
    }
}

fn registry<T: Scalar>() -> Registry<T> {
    let mut registry = Registry::new();
    opt_schedules::register(registry.schedules_mut());
    registry.register::<Sgd>().register::<Nadam>().register::<RectifiedAdam>().register::<NovoGrad>();
    opt_lookahead::register(&mut registry);
    registry
}

#[test]
fn recorded_runs_around_every_rule() {
    let registries = Registries { float32: registry(), float64: registry() };
    let cases = File::read(&golden_folder().join("lookahead.json")).unwrap().cases;
    assert_eq!(cases.len(), 12);
    for case in cases {
        assert_eq!(replay(&case, &registries), Verdict::Passed, "{}", case.name());
    }
}

/// With k = 1 and alpha = 1, Lookahead is the rule inside: the same bits in variables, slots and shared numbers.
fn is_its_inner_rule<R: FromConfig<f32> + FromConfig<f64> + Clone>(rule: &R) {
    fn check<R: FromConfig<T> + Clone, T: Scalar>(rule: &R) {
        fn around<T: Scalar>(rule: Box<dyn UpdateRule<T>>) -> OptimizerBuilder<Box<dyn UpdateRule<T>>, T> {
            let builder = Optimizer::builder(rule).global_clipnorm(2.0).weight_decay(0.0625);
            builder.ema(Ema::new(0.75).overwrite_every(4))
        }
        let problem = Problem::varied(16, 12);
        let lookahead = Lookahead::new(rule.clone()).sync_period(1).slow_step_size(1.0);
        let mut inner = around(Box::new(rule.clone())).build().unwrap();
        let mut outer = around(Box::new(lookahead)).build().unwrap();
        let (mut want, mut got) = (problem.start::<T>(), problem.start::<T>());
        for number in 0..problem.steps.len() {
            problem.step(number, &mut inner, &mut want).unwrap();
            problem.step(number, &mut outer, &mut got).unwrap();
            assert_eq!(got.bits(), want.bits(), "step {number}, {:?}", T::DTYPE);
        }
        // By value: a slot of the inner rule may have another name outside.
        let others = outer.weights().into_iter().filter(|weight| !weight.name.ends_with("/slow"));
        let others: Vec<StateValue<'static, T>> = others.map(StateValue::from).collect();
        let own: Vec<StateValue<'static, T>> = inner.weights().into_iter().map(StateValue::from).collect();
        assert_eq!(others, own, "{:?}", T::DTYPE);
    }
    check::<R, f32>(rule);
    check::<R, f64>(rule);
}

#[test]
fn one_step_all_the_way_is_the_inner_rule() {
    is_its_inner_rule(&Sgd::new(0.125));
    is_its_inner_rule(&Sgd::new(0.125).momentum(0.875));
    is_its_inner_rule(&Sgd::new(0.125).momentum(0.875).nesterov(true).legacy());
    is_its_inner_rule(&Nadam::new(0.125));
    is_its_inner_rule(&Nadam::keras(0.125));
    is_its_inner_rule(&RectifiedAdam::new(0.125).amsgrad(true).weight_decay(0.125));
    is_its_inner_rule(&NovoGrad::new(0.125).amsgrad(true).grad_averaging(true));
    is_its_inner_rule(&Lookahead::new(Sgd::new(0.125).momentum(0.5)).sync_period(2));
}

proptest! {
    /// Engine and rule together agree with naive loops, whatever the options.
    #[test]
    fn the_textbook_agrees(
        seed in any::<u64>(),
        eta in 0.0..1.0_f64,
        mu in prop_oneof![Just(0.0), 0.0..=1.0_f64],
        lazy in any::<bool>(),
        [k, outer_k] in [1..5_u64, 1..5_u64],
        alpha in 0.01..=1.0_f64,
        outer_alpha in prop_oneof![Just(1.0), 0.01..=1.0_f64],
        naive in options(),
    ) {
        let problem = Problem::varied(seed, 9);
        let sgd = Sgd::new(eta).momentum(mu);
        let sgd = if lazy { sgd.legacy() } else { sgd };
        let lookahead = Lookahead::new(sgd).sync_period(k).slow_step_size(alpha);
        let nested = Lookahead::new(lookahead.clone()).sync_period(outer_k).slow_step_size(outer_alpha);
        let formula = || {
            let sgd = textbook::Sgd { mu, lazy, ..textbook::Sgd::default() };
            textbook::Lookahead::new(sgd, k, alpha, &problem)
        };
        let close = |got: f64, want: f64| (got - want).abs() <= 1e-13 * want.abs().max(1.0);
        naive.agrees(&problem, Box::new(lookahead), &|_| eta, &mut formula(), &close)?;
        let mut around = textbook::Lookahead::new(formula(), outer_k, outer_alpha, &problem);
        naive.agrees(&problem, Box::new(nested), &|_| eta, &mut around, &close)?;
    }
}
