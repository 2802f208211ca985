//! RectifiedAdam keeps every law, repeats every recorded run, and agrees with the textbook.

use std::collections::BTreeSet;

use opt_conformance::conformance;
use opt_conformance::problem::{Gradient, Problem};
use opt_conformance::textbook::{self, options};
use opt_core::config::{Config, ConfigError, Configurable, FromFields};
use opt_core::state::StateValue;
use opt_core::{Error, Hyper, Optimizer, OptimizerBuilder, Registry, UpdateRule, Variable};
use opt_radam::{EpsilonPlacement, RectifiedAdam};
use opt_schedules::{CosineDecay, ExponentialDecay, InverseTimeDecay};
use proptest::prelude::*;
use serde_json::{Value, json};

conformance! {
    class: RectifiedAdam,
    variants: {
        // The first rectified step is the sixth, in the middle of most runs.
        defaults: RectifiedAdam::new(0.125),
        amsgrad: RectifiedAdam::new(0.125).amsgrad(true).beta_1(0.5).beta_2(0.9375).weight_decay(0.0625),
        from_the_paper: RectifiedAdam::new(0.125).sma_threshold(4.0).epsilon(1e-3),
        scheduled: RectifiedAdam::new(CosineDecay::new(0.25, 9)).weight_decay(InverseTimeDecay::new(0.25, 3, 0.5)),
        warmed_up: RectifiedAdam::new(0.125).total_steps(9).warmup_proportion(0.25).min_lr(0.03125).decay(0.25),
        pytorch: RectifiedAdam::pytorch(0.125).weight_decay(0.0625),
        optax: RectifiedAdam::optax(0.125).epsilon_root(1e-3),
    },
    golden: ["radam.json", "dialects_radam.json"],
    laws: all, except: {
        // See `what_can_be_squared_stays_finite`.
        finite_stays_finite: "v holds squares, in 32 bits infinite from a gradient of 2e19 on, as in every Adam",
    },
}

/// Gradients of sizes whose squares are finite in both types leave only finite numbers behind.
#[test]
fn what_can_be_squared_stays_finite() {
    fn check<T: opt_core::Scalar>(scales: &[f64]) {
        let mut problem = Problem::dense(13, &[&[4], &[3, 5], &[1]], scales.len());
        for (step, scale) in problem.steps.iter_mut().zip(scales) {
            for gradient in step {
                if let Gradient::Dense(gradient) = gradient {
                    *gradient *= *scale;
                }
            }
        }
        let mut opt = Optimizer::new(RectifiedAdam::new(0.125).amsgrad(true)).unwrap();
        let mut variables = problem.start::<T>();
        for number in 0..scales.len() {
            problem.step(number, &mut opt, &mut variables).unwrap();
        }
        assert!(variables.0.iter().all(|(_, w)| w.iter().all(|w| T::is_finite(*w))), "{variables:?}");
        for weight in opt.weights() {
            if let StateValue::Array(array) = weight.value {
                assert!(array.iter().all(|s| T::is_finite(*s)), "{}: {array}", weight.name);
            }
        }
    }
    check::<f32>(&[1e-45, 1e18, 0.0, 1e-30, 1e18, 1.0, 1e18, 1e-38, 0.0, 1.0]);
    check::<f64>(&[1e-320, 1e25, 0.0, 1e-30, 1e150, 1.0, 1e150, 1e-38, 0.0, 1.0]);
}

fn close(got: f64, want: f64, tolerance: f64) -> bool {
    (got - want).abs() <= tolerance
}

/// How many steps those unit tests take.
fn steps(sparse: bool) -> u64 {
    if sparse { 200 } else { 100 }
}

/// Trains `[1, 2]` and `[3, 4]` with the gradients of the unit tests of TensorFlow Addons.
fn addons(rule: RectifiedAdam, sparse: bool) -> [f64; 4] {
    let (mut a, mut b) = ([1.0_f64, 2.0], [3.0_f64, 4.0]);
    let mut opt = Optimizer::new(rule).unwrap();
    for _ in 0..steps(sparse) {
        let (a, b) = (Variable::new("a", &mut a), Variable::new("b", &mut b));
        let step = if sparse {
            opt.apply_gradients([a.sparse_gradient(&[0_usize], &[0.1]), b.sparse_gradient(&[1_usize], &[0.04])])
        } else {
            opt.apply_gradients([a.gradient(&[0.1, 0.2]), b.gradient(&[0.03, 0.04])])
        };
        step.unwrap();
    }
    [a[0], a[1], b[0], b[1]]
}

/// What `rectified_adam_test.py` asserts. Its numbers are of 32 bits: each step rounds a variable by up to half an ulp.
#[test]
fn unit_tests_of_addons() {
    let check = |rule: RectifiedAdam, sparse: bool, want: [f64; 4]| {
        let got = addons(rule, sparse);
        let tolerance = |want: f64| steps(sparse) as f64 * want * f64::from(f32::EPSILON) / 2.0;
        let all = got.iter().zip(want).all(|(got, want)| close(*got, want, tolerance(want)));
        assert!(all, "{got:?} instead of {want:?}");
    };
    let new = || RectifiedAdam::new(1e-3);
    let (dense, sparse) = ([0.985769, 1.985269, 2.986119, 3.986068], [0.959333, 2.0, 3.0, 3.959632]);
    check(new(), false, dense);
    check(new(), true, sparse);
    check(new().amsgrad(true), false, dense);
    check(new().amsgrad(true), true, sparse);
    check(new().weight_decay(0.01), false, [0.984775, 1.983276, 2.983125, 3.982076]);
    check(new().weight_decay(0.01), true, [0.957368, 2.0, 3.0, 3.951673]);
    let warmup = |sparse| new().total_steps(steps(sparse)).warmup_proportion(0.1).min_lr(1e-5);
    check(warmup(false), false, [0.994062, 1.993912, 2.994167, 3.994152]);
    check(warmup(true), true, [0.982629, 2.0, 3.0, 3.982674]);
    let scheduled =
        RectifiedAdam::new(ExponentialDecay::new(1e-3, 50, 0.5)).weight_decay(InverseTimeDecay::new(2e-3, 25, 0.25));
    check(scheduled, false, [0.993192, 1.992625, 2.993369, 3.993239]);
}

#[test]
fn rectification_is_as_in_the_paper() {
    let rule = RectifiedAdam::new(1e-3);
    for (step, rho) in [1.0, 1.9995, 2.9987, 3.9975, 4.9960, 5.9942].into_iter().enumerate() {
        assert!(close(rule.rho_at(step as u64), rho, 5e-5), "rho_{}", step + 1);
    }
    assert!((0..5).all(|step| rule.rectification_at(step).is_none()));
    let r = [
        (6, 0.025821),
        (7, 0.032739),
        (10, 0.048998),
        (50, 0.148152),
        (100, 0.215335),
        (500, 0.476493),
        (1_000, 0.645326),
        (5_000, 0.982878),
    ];
    for (t, r) in r {
        let got = rule.rectification_at(t - 1).unwrap();
        assert!(close(got, r, 5e-7), "r_{t} is {got}");
    }
    assert!(close(rule.rectification_at(1_000_000).unwrap(), 1.0, 1e-15));
    let first = |rule: RectifiedAdam| (0..1_000).find(|step| rule.rectification_at(*step).is_some());
    assert_eq!(first(RectifiedAdam::new(1e-3).sma_threshold(4.0)), Some(4));
    assert_eq!(first(RectifiedAdam::new(1e-3).beta_2(0.98)), Some(5));
    assert_eq!(first(RectifiedAdam::new(1e-3).beta_2(0.9)), Some(5));
    assert_eq!(first(RectifiedAdam::new(1e-3).beta_2(0.75)), Some(7));
    assert_eq!(first(RectifiedAdam::new(1e-3).beta_2(0.5)), None);
    assert_eq!(first(RectifiedAdam::new(1e-3).beta_2(0.0)), None);
}

/// A threshold that is met exactly is enough, unless it is strict.
#[test]
fn a_strict_threshold_has_to_be_passed() {
    let rule = RectifiedAdam::new(1e-3);
    let met = rule.rho_at(7);
    let first = |rule: RectifiedAdam| (0..20).find(|step| rule.rectification_at(*step).is_some());
    assert_eq!(first(rule.clone().sma_threshold(met)), Some(7));
    assert_eq!(first(rule.sma_threshold(met).strict_threshold(true)), Some(8));
}

/// Learning rates with an `eta` of 1.
fn rates(rule: &RectifiedAdam, steps: u64) -> Vec<f64> {
    (0..steps).map(|step| UpdateRule::<f64>::learning_rate_at(rule, step)).collect()
}

#[test]
fn warmup_rises_from_the_first_step_on_and_falls_to_the_end() {
    let rule =
        |total, proportion, end| RectifiedAdam::new(1.0).total_steps(total).warmup_proportion(proportion).min_lr(end);
    let check = |rule: RectifiedAdam, want: &[f64]| {
        let got = rates(&rule, want.len() as u64);
        assert!(got.iter().zip(want).all(|(got, want)| close(*got, *want, 5e-7)), "{got:?} instead of {want:?}");
    };
    let (first, second) = (1.0 / 3.0, 2.0 / 3.0);
    let long = [first, second, 1.0, 0.858571, 0.717143, 0.575714, 0.434286, 0.292857, 0.151429, 0.01, 0.01, 0.01];
    check(rule(10, 0.3, 0.01), &long);
    check(rule(5, 0.5, 0.0), &[0.4, 0.8, 0.8, 0.4, 0.0, 0.0]);
    check(rule(4, 1.0, 0.0), &[0.25, 0.5, 0.75, 1.0, 0.0, 0.0]);
    check(rule(4, 0.0, 0.0), &[0.75, 0.5, 0.25, 0.0]);
    check(rule(1, 0.1, 0.1), &[0.19, 0.1]);
    check(rule(1, 0.1, 0.0), &[0.1, 0.0]);
    check(rule(0, 0.5, 0.1), &[1.0, 1.0, 1.0]);
    // On top of the inverse-time decay: 1, 1 / 2, 1 / 3, 1 / 4, each warmed up.
    check(rule(4, 0.5, 0.0).decay(1.0), &[0.5, 0.5, 1.0 / 6.0, 0.0]);
    // On top of a schedule: 1, 1 / 2, 1 / 4, 1 / 8.
    let halved = RectifiedAdam::new(ExponentialDecay::new(1.0, 1, 0.5)).total_steps(4).warmup_proportion(0.5);
    check(halved.min_lr(0.0625), &[0.5, 0.5, (0.25 + 0.0625) / 2.0, 0.0625, 0.0625]);
}

/// Reports, and the engine's weight decay, see the learning rate that the rule really uses.
#[test]
fn the_engine_sees_the_warmed_up_learning_rate() {
    let rule = RectifiedAdam::new(1.0).total_steps(4).warmup_proportion(1.0);
    let mut opt = Optimizer::builder(rule).weight_decay(0.5).build().unwrap();
    let mut w = [1.0_f64];
    for want in [0.25, 0.5, 0.75, 1.0, 0.0] {
        assert_eq!(opt.learning_rate(), want);
        let before = w[0];
        let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
        assert_eq!(report.learning_rate, want);
        assert_eq!(w[0], before - before * (0.5 * want));
    }
}

/// Addons ignores such changes.
#[test]
fn hyperparameters_may_change_after_construction() {
    let mut opt = Optimizer::new(RectifiedAdam::new(1.0)).unwrap();
    let mut w = [0.0_f64];
    let mut step = |opt: &mut Optimizer<RectifiedAdam, f64>| {
        let before = w[0];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
        before - w[0]
    };
    let tolerance = 8.0 * f64::EPSILON;
    assert!(close(step(&mut opt), 1.0, tolerance));
    // The second of eight steps of warmup.
    opt.set_rule(RectifiedAdam::new(1.0).total_steps(8).warmup_proportion(1.0)).unwrap();
    assert!(close(step(&mut opt), 0.25, tolerance));
    // The third of four.
    opt.set_rule(RectifiedAdam::new(1.0).total_steps(8).warmup_proportion(0.5)).unwrap();
    assert!(close(step(&mut opt), 0.75, tolerance));
    opt.set_rule(RectifiedAdam::new(1.0).weight_decay(0.5)).unwrap();
    assert!(close(step(&mut opt), 1.0 + 0.5 * -2.0, tolerance));
    opt.set_rule(RectifiedAdam::new(1.0).decay(0.25)).unwrap();
    assert!(close(step(&mut opt), 1.0 / 2.0, tolerance));

    // The largest v so far: of all steps from now on.
    opt.set_rule(RectifiedAdam::new(1.0).amsgrad(true)).unwrap();
    assert_eq!(slot(&opt, "vhat"), [0.0]);
    let before = opt.to_config().unwrap();
    for bad in [RectifiedAdam::new(1.0).sma_threshold(3.0), RectifiedAdam::new(1.0).min_lr(-1.0)] {
        assert!(matches!(opt.set_rule(bad), Err(Error::Hyperparameter(_))));
    }
    assert!(matches!(opt.set_rule(RectifiedAdam::new(1.0)), Err(Error::Slots { .. })));
    assert_eq!(opt.to_config().unwrap(), before);
}

/// The numbers of a slot.
fn slot(opt: &Optimizer<RectifiedAdam, f64>, slot: &str) -> Vec<f64> {
    opt.slot("w", slot).unwrap().to_f64()
}

/// Whichever way weights decay, they and their moments do so in touched rows only; moments fade in all.
#[test]
fn untouched_rows_only_forget() {
    for rule in [RectifiedAdam::new(0.5), RectifiedAdam::pytorch(0.5)] {
        let rule = rule.beta_1(0.5).beta_2(0.5).weight_decay(0.25).amsgrad(true);
        let mut opt = Optimizer::new(rule).unwrap();
        let mut w = [1.0, 2.0, 3.0];
        let variable = Variable::new("w", &mut w).sparse_gradient(&[2_usize, 0, 2], &[1.0, 4.0, 1.0]);
        opt.apply_gradients([variable]).unwrap();
        let (first, m, v, vhat) = (w, slot(&opt, "m"), slot(&opt, "v"), slot(&opt, "vhat"));
        assert!(close(w[0], 1.0 - 0.5 * (4.0 + 0.25 * 1.0), 1e-15), "{w:?}");
        assert!(close(w[2], 3.0 - 0.5 * (2.0 + 0.25 * 3.0), 1e-15), "{w:?}");
        assert_eq!([w[1], m[1], v[1], vhat[1]], [2.0, 0.0, 0.0, 0.0]);

        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[1_usize], &[1.0])]).unwrap();
        assert_eq!([w[0], w[2]], [first[0], first[2]]);
        for row in [0, 2] {
            assert_eq!([slot(&opt, "m")[row], slot(&opt, "v")[row]], [m[row] / 2.0, v[row] / 2.0]);
            assert_eq!(slot(&opt, "vhat")[row], vhat[row]);
        }
        assert!(w[1] < 2.0);
    }
}

#[test]
fn a_slot_more_for_amsgrad() {
    let bytes = |rule: RectifiedAdam| {
        let opt = Optimizer::<_, f32>::new(rule).unwrap();
        opt.state_bytes_of([&[3, 4][..], &[5]])
    };
    assert_eq!(bytes(RectifiedAdam::new(0.1)), 2 * 17 * 4);
    assert_eq!(bytes(RectifiedAdam::new(0.1).amsgrad(true)), 3 * 17 * 4);
}

#[test]
fn hyperparameters_out_of_range_are_refused() {
    let refused = |rule: RectifiedAdam, name: &str| match Optimizer::<_, f32>::new(rule) {
        Err(Error::Hyperparameter(error)) => assert_eq!(error.name, name),
        other => panic!("{name}: {other:?}"),
    };
    let new = || RectifiedAdam::new(0.1);
    for bad in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(RectifiedAdam::new(bad), "learning_rate");
        refused(new().beta_1(bad), "beta_1");
        refused(new().beta_2(bad), "beta_2");
        refused(new().epsilon(bad), "epsilon");
        refused(new().epsilon_root(bad), "epsilon_root");
        refused(new().weight_decay(bad), "weight_decay");
        refused(new().sma_threshold(bad), "sma_threshold");
        refused(new().warmup_proportion(bad), "warmup_proportion");
        refused(new().total_steps(10).warmup_proportion(bad), "warmup_proportion");
        refused(new().min_lr(bad), "min_lr");
        refused(new().decay(bad), "decay");
    }
    refused(new().beta_1(1.0), "beta_1");
    refused(new().beta_2(1.0), "beta_2");
    refused(new().warmup_proportion(1.5), "warmup_proportion");
    refused(RectifiedAdam::new(CosineDecay::new(0.1, 0)), "decay_steps");
    refused(new().weight_decay(CosineDecay::new(0.1, 0)), "weight_decay.decay_steps");
}

#[test]
fn a_threshold_must_leave_r_defined() {
    let accepted = |threshold, beta_2, strict| {
        let rule = RectifiedAdam::new(0.1).sma_threshold(threshold).beta_2(beta_2).strict_threshold(strict);
        match Optimizer::<_, f64>::new(rule) {
            Ok(_) => true,
            Err(Error::Hyperparameter(error)) => {
                assert_eq!((error.name.as_str(), error.value), ("sma_threshold", threshold));
                false
            }
            Err(other) => panic!("{other}"),
        }
    };
    // rho is 1, 1.9995, 2.9987, 3.9975, 4.9960: a threshold in (3.9975, 4) is as good as 4.
    for (threshold, fine) in [(0.0, false), (1.0, false), (3.0, false), (3.9, false), (3.999, true), (4.0, true)] {
        assert_eq!(accepted(threshold, 0.999, false), fine, "{threshold}");
    }
    assert!(accepted(1e300, 0.999, false));
    let fourth = RectifiedAdam::new(0.1).rho_at(3);
    assert_eq!([false, true].map(|strict| accepted(fourth, 0.999, strict)), [false, true]);
    // rho_inf is 3, and 2.999 is passed.
    for (threshold, fine) in [(0.0, false), (2.999, false), (3.0, false), (3.001, true), (5.0, true)] {
        assert_eq!(accepted(threshold, 0.5, false), fine, "{threshold}");
    }
    assert!(accepted(3.0, 0.5, true));
    // rho_inf is 4: the denominator of r would be 0.
    assert_eq!([3.0, 4.0, 4.001].map(|threshold| accepted(threshold, 0.6, false)), [false, false, true]);
    assert!(accepted(4.0, 0.6, true));
    // rho is 1 all the time.
    assert_eq!([1.0, 1.001].map(|threshold| accepted(threshold, 0.0, false)), [false, true]);
}

fn registry() -> Registry<f64> {
    let mut registry = Registry::new();
    opt_schedules::register(registry.schedules_mut());
    registry
}

fn read(fields: &Value) -> Result<RectifiedAdam, ConfigError> {
    let config = json!({"class_name": "RectifiedAdam", "config": fields});
    let opt = OptimizerBuilder::<RectifiedAdam, f64>::from_config_of(&config, &registry())?;
    Ok(opt.build().map_err(|error| panic!("{error}")).unwrap().rule().clone())
}

fn written(rule: &RectifiedAdam) -> Config {
    rule.config().unwrap()
}

#[test]
fn a_configuration_has_the_keys_of_addons() {
    let want = json!({
        "learning_rate": 0.001, "decay": 0.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay": 0.0,
        "amsgrad": false, "sma_threshold": 5.0, "total_steps": 0, "warmup_proportion": 0.1, "min_lr": 0.0
    });
    assert_eq!(Value::Object(written(&RectifiedAdam::default())), want);
    assert_eq!(Value::Object(written(&read(&json!({})).unwrap())), want);
}

#[test]
fn every_field_is_read_and_written() {
    let all = json!({
        "learning_rate": 0.25, "decay": 0.5, "beta_1": 0.75, "beta_2": 0.875, "epsilon": 0.0, "weight_decay": 0.125,
        "amsgrad": true, "sma_threshold": 4.5, "total_steps": 10, "warmup_proportion": 0.625, "min_lr": 0.0625,
        "strict_threshold": true, "epsilon_placement": "before_correction", "epsilon_root": 0.375,
        "coupled_weight_decay": true
    });
    let rule = RectifiedAdam::new(0.25)
        .decay(0.5)
        .beta_1(0.75)
        .beta_2(0.875)
        .epsilon(0.0)
        .weight_decay(0.125)
        .amsgrad(true)
        .sma_threshold(4.5)
        .total_steps(10)
        .warmup_proportion(0.625)
        .min_lr(0.0625)
        .strict_threshold(true)
        .epsilon_placement(EpsilonPlacement::BeforeCorrection)
        .epsilon_root(0.375)
        .coupled_weight_decay(true);
    assert_eq!(Value::Object(written(&rule)), all);
    assert_eq!(Value::Object(written(&read(&all).unwrap())), all);
    let specs = RectifiedAdam::hyperparameters();
    let documented: BTreeSet<&str> = specs.iter().map(|spec| spec.name).collect();
    let dialect = [String::from("dialect")];
    assert_eq!(documented, all.as_object().unwrap().keys().chain(&dialect).map(String::as_str).collect());
    // What is documented as the default is the default.
    let defaults = specs.iter().map(|spec| (spec.name.to_owned(), spec.default.clone().unwrap()));
    let defaults = Value::Object(defaults.collect());
    assert_eq!(written(&read(&defaults).unwrap()), written(&RectifiedAdam::default()));
}

#[test]
fn a_dialect_writes_what_it_adds() {
    let added = |rule: RectifiedAdam| {
        let (plain, fields) = (written(&RectifiedAdam::new(0.001)), written(&rule));
        Value::Object(fields.into_iter().filter(|(key, value)| plain.get(key) != Some(value)).collect())
    };
    assert_eq!(added(RectifiedAdam::optax(0.001)), json!({"epsilon": 1e-8, "dialect": "optax"}));
    let pytorch = json!({"epsilon": 1e-8, "dialect": "pytorch"});
    assert_eq!(added(RectifiedAdam::pytorch(0.001)), pytorch);
    let decoupled = json!({"epsilon": 1e-8, "dialect": "pytorch", "coupled_weight_decay": false});
    assert_eq!(added(RectifiedAdam::pytorch(0.001).coupled_weight_decay(false)), decoupled);
    for (dialect, rule) in [("pytorch", RectifiedAdam::pytorch(0.001)), ("optax", RectifiedAdam::optax(0.001))] {
        assert_eq!(format!("{:?}", read(&json!({"dialect": dialect})).unwrap()), format!("{rule:?}"));
    }
}

#[test]
fn a_configuration_of_wrong_types_is_refused() {
    let whole = written(&read(&json!({"total_steps": 10.0})).unwrap());
    assert_eq!(whole["total_steps"].as_u64(), Some(10));
    assert_eq!(written(&read(&json!({"total_steps": 2.5})).unwrap())["total_steps"].as_f64(), Some(2.5));
    let bad = [
        ("total_steps", json!("many")),
        ("epsilon_placement", json!("inside")),
        ("epsilon_placement", json!(1)),
        ("amsgrad", json!("false")),
        ("weight_decay", json!([0.1])),
        ("strict_threshold", json!(2)),
        ("coupled_weight_decay", json!("no")),
    ];
    for (key, value) in bad {
        match read(&json!({key: value})) {
            Err(ConfigError::WrongType { key: found, .. }) => assert_eq!(found, key),
            other => panic!("{key} = {value}: {other:?}"),
        }
    }
}

/// All that a rule may be asked for, with a textbook that does the same.
#[derive(Debug, Clone)]
struct Asked {
    betas: (f64, f64),
    epsilons: (f64, f64),
    threshold: f64,
    weight_decay: f64,
    amsgrad: bool,
    strict: bool,
    epsilon_first: bool,
    coupled: bool,
    warmup: (u64, f64, f64),
}

impl Asked {
    fn any() -> impl Strategy<Value = Self> {
        (
            (0.0..0.99_f64, prop_oneof![Just(0.999), 0.0..0.99_f64]),
            (1e-4..0.1_f64, prop_oneof![Just(0.0), 0.0..0.1_f64]),
            4.01..7.0_f64,
            prop_oneof![Just(0.0), 0.0..0.5_f64],
            any::<[bool; 4]>(),
            (0..15_u64, 0.0..=1.0_f64, 0.0..0.5_f64),
        )
            .prop_map(|(betas, epsilons, threshold, weight_decay, switches, warmup)| {
                let [amsgrad, strict, epsilon_first, coupled] = switches;
                Self { betas, epsilons, threshold, weight_decay, amsgrad, strict, epsilon_first, coupled, warmup }
            })
    }

    fn rule(&self, eta: f64, weight_decay: impl Into<Hyper>) -> RectifiedAdam {
        let placement =
            if self.epsilon_first { EpsilonPlacement::BeforeCorrection } else { EpsilonPlacement::AfterCorrection };
        RectifiedAdam::new(eta)
            .beta_1(self.betas.0)
            .beta_2(self.betas.1)
            .epsilon(self.epsilons.0)
            .epsilon_root(self.epsilons.1)
            .sma_threshold(self.threshold)
            .weight_decay(weight_decay)
            .amsgrad(self.amsgrad)
            .strict_threshold(self.strict)
            .epsilon_placement(placement)
            .coupled_weight_decay(self.coupled)
            .total_steps(self.warmup.0)
            .warmup_proportion(self.warmup.1)
            .min_lr(self.warmup.2)
    }

    fn textbook(&self, weight_decay: Vec<f64>) -> textbook::RectifiedAdam {
        textbook::RectifiedAdam {
            beta_1: self.betas.0,
            beta_2: self.betas.1,
            epsilon: self.epsilons.0,
            epsilon_root: self.epsilons.1,
            epsilon_first: self.epsilon_first,
            weight_decay,
            coupled: self.coupled,
            amsgrad: self.amsgrad,
            threshold: self.threshold,
            strict: self.strict,
            ..textbook::RectifiedAdam::default()
        }
    }

    /// The learning rate as its documentation has it.
    fn eta(&self, eta: f64, t: u64) -> f64 {
        let (total, proportion, end) = (self.warmup.0 as f64, self.warmup.1, self.warmup.2);
        let (t, warmup) = ((t + 1) as f64, total * proportion);
        let fall = f64::max(total - warmup, 1.0);
        match total {
            0.0 => eta,
            _ if t <= warmup => eta * t / warmup,
            _ => eta + (end - eta) * f64::min(t - warmup, fall) / fall,
        }
    }
}

/// How far apart two orders of summation may end. The largest part is the error of `rho_t`, a few ulps of `rho_inf`
/// (199 for a `beta_2` of 0.99), divided by `rho_t - 4` or `rho_inf - 4`, at least 0.01 here: 1e-11.
const TEXTBOOK: f64 = 1e-11;

/// As TensorFlow Addons builds on Keras's legacy optimizers: clips may be combined, and averages are no field of
/// theirs.
#[test]
fn the_generation_is_the_legacy_one() {
    let opt = Optimizer::<_, f64>::builder(RectifiedAdam::new(0.5)).clipnorm(2.0).clipvalue(0.5).build().unwrap();
    let written = opt.to_config().unwrap();
    assert_eq!((&written["config"]["clipnorm"], &written["config"]["clipvalue"]), (&2.0.into(), &0.5.into()));
    assert!(written["config"].get("use_ema").is_none());
}

proptest! {
    /// Engine and rule together agree with naive loops, whatever the options.
    #[test]
    fn the_textbook_agrees(
        seed in any::<u64>(),
        eta in 0.0..1.0_f64,
        asked in Asked::any(),
        fading in any::<bool>(),
        naive in options(),
    ) {
        const STEPS: usize = 12;
        let problem = Problem::varied(seed, STEPS);
        let weight_decay = asked.weight_decay;
        let by_step = |t: usize| if fading { weight_decay / (1.0 + 0.5 * t as f64) } else { weight_decay };
        let rule = if fading {
            asked.rule(eta, InverseTimeDecay::new(weight_decay, 2, 1.0))
        } else {
            asked.rule(eta, weight_decay)
        };
        // Where a length is so near to the threshold that rounding decides, both are right.
        prop_assume!((0..STEPS as u64).all(|step| !close(rule.rho_at(step), asked.threshold, 1e-9)));

        let mut formula = asked.textbook((0..STEPS).map(by_step).collect());
        let close = |got: f64, want: f64| close(got, want, TEXTBOOK * want.abs().max(1.0));
        naive.agrees(&problem, Box::new(rule), &|t| asked.eta(eta, t), &mut formula, &close)?;
    }

    /// Every threshold that is accepted has a rectification in every step that it selects.
    #[test]
    fn accepted_thresholds_have_a_rectification(
        beta_2 in prop_oneof![
            0.0..1.0_f64,
            0.58..0.62_f64,
            0.99..1.0_f64,
            (0..=53).prop_map(|bits| 1.0 - f64::powi(0.5, bits)),
            (0..4_u64).prop_map(|ulps| f64::from_bits(0.6_f64.to_bits() - 2 + ulps)),
        ],
        threshold in prop_oneof![-1.0..8.0_f64, 3.9..4.1_f64, (1..8).prop_map(f64::from)],
        strict in any::<bool>(),
    ) {
        let rule = RectifiedAdam::new(0.1).beta_2(beta_2).sma_threshold(threshold).strict_threshold(strict);
        let accepted = Optimizer::<_, f64>::new(rule.clone()).is_ok();
        let mut all_defined = true;
        for step in 0..10_000 {
            if let Some(r) = rule.rectification_at(step) {
                all_defined &= rule.rho_at(step) >= 4.0 && rule.rho_inf() > 4.0;
                prop_assert!(!accepted || r.is_finite(), "t = {}: r is {r}", step + 1);
            }
        }
        prop_assert_eq!(accepted, all_defined);
    }
}
