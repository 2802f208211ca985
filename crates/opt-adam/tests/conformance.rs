//! Adam and AdamW keep every law, repeat every recorded run, and agree with the textbook.

use opt_adam::{Adam, AdamW};
use opt_conformance::conformance;
use opt_conformance::problem::{Problem, Variables};
use opt_conformance::textbook::{self, all_close, options};
use opt_core::config::{ConfigError, Dialect, FromConfig, FromFields};
use opt_core::state::StateValue;
use opt_core::{DynOptimizer, Ema, Error, Optimizer, OptimizerBuilder, Registry, Scalar, UpdateRule, Variable};
use opt_schedules::CosineDecay;
use proptest::prelude::*;
use serde_json::{Value, json};

conformance! {
    class: Adam,
    variants: {
        every_field: Adam::new(0.0625).beta_1(0.75).beta_2(0.875).epsilon(0.25).amsgrad(true),
        legacy: Adam::new(0.125).legacy().decay(0.25).amsgrad(true),
        pytorch: Adam::pytorch(0.125).epsilon(0.0).amsgrad(true).weight_decay(0.0625),
        optax: Adam::optax(0.125).beta_1(0.75).beta_2(0.9375).epsilon_root(1e-3),
        optax_amsgrad: Adam::optax(0.125).amsgrad(true).epsilon(0.0),
    },
    golden: ["adam.json", "dialects_adam.json"],
    laws: all, except: {
        // See `finite_stays_finite_below_the_root` and `an_overflow_stops_the_element`.
        finite_stays_finite: "v holds squares, in 32 bits infinite from a gradient of 2e19 on; the law goes to 1e25",
    },
}

/// With betas that 32 bits do not have.
mod rounded {
    use super::{Adam, CosineDecay, conformance};

    conformance! {
        class: Adam,
        variants: {
            keras: Adam::new(0.125),
            scheduled: Adam::new(CosineDecay::new(0.25, 9)).epsilon(1e-3),
        },
        golden: [],
        laws: all, except: {
            finite_stays_finite: "v holds squares, see above",
            f32_follows_f64: "Keras rounds beta_2 in 1 - beta_2^t, and not in 1 - beta_2: early steps are 1e-5 off",
        },
    }
}

mod adamw {
    use super::{AdamW, conformance};

    conformance! {
        class: AdamW,
        variants: {
            keras: AdamW::new(0.125).beta_2(0.9375),
            every_field: AdamW::new(0.0625).beta_1(0.75).beta_2(0.875).epsilon(0.25).amsgrad(true),
            pytorch: AdamW::pytorch(0.125).beta_1(0.75).amsgrad(true),
            optax: AdamW::optax(0.125).beta_2(0.9375).epsilon_root(1e-3).amsgrad(true),
        },
        golden: ["adam.json", "dialects_adam.json"],
        laws: all, except: {
            finite_stays_finite: "v holds squares, as in Adam",
        },
    }
}

/// The values of a variable after each step.
fn trace<T: Scalar>(
    rule: impl UpdateRule<T> + 'static,
    start: &[f64],
    gradients: &[&[f64]],
) -> (DynOptimizer<T>, Vec<Vec<f64>>) {
    let cast = |values: &[f64]| values.iter().map(|&value| T::literal(value)).collect::<Vec<T>>();
    let mut opt = Optimizer::builder(rule).boxed().build().unwrap();
    let mut w = cast(start);
    let values = gradients.iter().map(|gradient| {
        opt.apply_gradients([Variable::new("w", w.as_mut_slice()).gradient(cast(gradient).as_slice())]).unwrap();
        w.iter().map(|w| w.as_()).collect()
    });
    let values = values.collect();
    (opt, values)
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64], tolerance: f64) {
    let close = got.len() == want.len() && got.iter().zip(want).all(|(got, want)| (got - want).abs() <= tolerance);
    assert!(close, "{got:?} instead of {want:?}");
}

const GRADIENTS: [&[f64]; 3] = [&[0.1, 0.2], &[0.3, -0.4], &[-0.05, 0.01]];

fn dialects(learning_rate: f64) -> [Adam; 4] {
    let new = Adam::new(learning_rate);
    [new.clone(), new.legacy(), Adam::pytorch(learning_rate), Adam::optax(learning_rate)]
}

/// Keras's own tests of Adam and AdamW. Its epsilon is added to the root of v before the correction, and so shortens
/// the first step by up to 3e-6 of itself. Its rounding of beta_2 makes it 6e-6 longer.
#[test]
fn unit_tests_of_keras() {
    let one_step: &[&[f64]] = &[&[1.0, 6.0, 7.0, 2.0]];
    for rule in dialects(0.5) {
        assert_close(&trace::<f32>(rule, &[1.0, 2.0, 3.0, 4.0], one_step).1[0], &[0.5, 1.5, 2.5, 3.5], 5e-6);
    }
    let (_, got) = trace::<f32>(AdamW::new(0.5), &[1.0, 2.0, 3.0, 4.0], one_step);
    assert_close(&got[0], &[0.4980, 1.4960, 2.494, 3.492], 5e-6);

    let rising: Vec<f64> = (1..=10).map(|tenths| 0.1 * f64::from(tenths)).collect();
    let gradients = [&[0.01; 10][..], &rising, &rising, &rising, &rising];
    let (_, got) = trace::<f64>(Adam::new(0.001).amsgrad(true), &[1.0; 10], &gradients);
    for (got, want) in got.iter().zip([0.999, 0.9982, 0.9974, 0.9965, 0.9955]) {
        assert_close(got, &[want; 10], 5e-4);
    }

    let mut opt = Optimizer::builder(AdamW::new(1.0).epsilon(2.0)).weight_decay(0.5).build().unwrap();
    let mut w = [1.0; 10];
    let want = [
        [0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998],
        [0.2486, 0.2475, 0.2463, 0.2451, 0.244, 0.2428, 0.2417, 0.2405, 0.2394, 0.2382],
        [0.1223, 0.1198, 0.1174, 0.1149, 0.1124, 0.11, 0.1075, 0.1051, 0.1027, 0.1003],
        [0.0586, 0.0549, 0.0512, 0.0475, 0.0439, 0.0402, 0.0366, 0.033, 0.0294, 0.0258],
        [0.0263, 0.0215, 0.0167, 0.012, 0.0073, 0.0026, -0.0021, -0.0067, -0.0113, -0.0159],
    ];
    for (gradient, want) in gradients.iter().zip(want) {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(*gradient)]).unwrap();
        assert_close(&w, &want, 1e-4);
    }
}

/// The examples in the documents of Keras's legacy generation (9.9) and of optax (the falling objective).
#[test]
fn examples_of_documents() {
    assert_close(&trace::<f64>(Adam::new(0.1).legacy(), &[10.0], &[&[10.0]]).1[0], &[9.9], 1e-7);

    let objective = |w: &[f64; 3]| w.iter().map(|w| w * w).sum::<f64>();
    let run = |rule: Box<dyn UpdateRule<f64>>| {
        let mut opt = Optimizer::new(rule).unwrap();
        let mut w = [1.0, 2.0, 3.0];
        let objectives = (0..5).map(|_| {
            let gradient = w.map(|w| 2.0 * w);
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&gradient)]).unwrap();
            format!("{:.1}", objective(&w))
        });
        objectives.collect::<Vec<String>>()
    };
    let want = ["14.0", "13.9", "13.9", "13.9", "13.8"];
    assert_eq!(run(Box::new(Adam::optax(0.003))), want);
    assert_eq!(run(Box::new(Adam::optax(0.003).amsgrad(true))), want);
    assert_eq!(run(Box::new(AdamW::optax(0.003))), want);
}

/// Without epsilon all libraries agree, and AdamW is Adam with weight decay.
#[test]
fn dialects_are_settings_of_one_formula() {
    let start = [1.0, 2.0];
    let [keras, others @ ..] = dialects(0.1).map(|rule| trace::<f64>(rule.epsilon(0.0), &start, &GRADIENTS).1.concat());
    for other in others {
        assert_close(&other, &keras, 4.0 * f64::EPSILON);
    }
    let tiny = 1e-3 * (1.0_f64 - 0.999).sqrt();
    let first = |rule: Adam| trace::<f64>(rule, &start, &GRADIENTS[..1]).1.concat();
    assert_close(&first(Adam::new(0.1).epsilon(tiny)), &first(Adam::pytorch(0.1).epsilon(1e-3)), 4.0 * f64::EPSILON);

    let run = |builder: OptimizerBuilder<Box<dyn UpdateRule<f64>>, f64>| {
        let (mut opt, mut w) = (builder.build().unwrap(), start);
        for gradient in GRADIENTS {
            opt.apply_gradients([Variable::new("w", &mut w).gradient(gradient)]).unwrap();
        }
        w
    };
    for (adamw, adam, decay) in [
        (AdamW::new(0.5), Adam::new(0.5), 0.004),
        (AdamW::pytorch(0.5), Adam::pytorch(0.5), 0.01),
        (AdamW::optax(0.5), Adam::optax(0.5), 1e-4),
    ] {
        let plain = || Optimizer::builder(adam.clone()).boxed();
        let decoupled = || Optimizer::builder(adamw.clone()).boxed();
        assert_eq!(run(decoupled()), run(plain().weight_decay(decay)));
        assert_eq!(run(decoupled().weight_decay(0.5)), run(plain().weight_decay(0.5)));
        assert_eq!(run(decoupled().weight_decay(0.0)), run(plain()));
        assert_ne!(run(decoupled()), run(plain()));
    }
}

/// Every form moves every row.
#[test]
fn sparse_gradients_are_dense() {
    for rule in dialects(0.1).into_iter().flat_map(|rule| [rule.clone(), rule.amsgrad(true)]) {
        let mut opt = Optimizer::<_, f64>::new(rule.clone()).unwrap();
        let mut w = [1.0, 1.0];
        let rows: [(&[usize], &[f64]); 3] = [(&[0, 1], &[0.1, 0.2]), (&[1, 1], &[0.25, 0.125]), (&[1], &[0.1])];
        for (rows, values) in rows {
            opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(rows, values)]).unwrap();
        }
        let (_, dense) = trace::<f64>(rule, &[1.0, 1.0], &[&[0.1, 0.2], &[0.0, 0.375], &[0.0, 0.1]]);
        assert_eq!(w, *dense[2]);
    }
}

/// A large gradient, then small ones: the largest v keeps the steps short. After t gradients of 0, `v` is `beta_2^t`
/// of its largest value.
#[test]
fn amsgrad_remembers_the_largest_second_moment() {
    let rule = |amsgrad| Adam::new(1.0).beta_1(0.0).beta_2(0.5).epsilon(0.0).amsgrad(amsgrad);
    let gradients: [&[f64]; 3] = [&[8.0], &[0.0], &[1.0]];
    let last = |values: Vec<Vec<f64>>| values[1][0] - values[2][0];
    let (opt, values) = trace::<f64>(rule(true), &[0.0], &gradients);
    assert_close(&[last(values)], &[(1.0_f64 - 0.125).sqrt() / 32.0_f64.sqrt()], 1e-15);
    let StateValue::Array(largest) = opt.slot("w", "vhat").unwrap() else { panic!("vhat is an array") };
    assert_eq!(largest[[0]], 32.0);
    assert_close(&[last(trace::<f64>(rule(false), &[0.0], &gradients).1)], &[0.875_f64.sqrt() / 8.5_f64.sqrt()], 1e-15);

    // optax: 64 is the largest corrected v, already corrected.
    let optax = Adam::optax(1.0).beta_1(0.0).beta_2(0.5).epsilon(0.0).amsgrad(true);
    let (opt, values) = trace::<f64>(optax, &[0.0], &gradients);
    assert_close(&[last(values)], &[1.0 / 8.0], 1e-15);
    let StateValue::Array(largest) = opt.slot("w", "vhat").unwrap() else { panic!("vhat is an array") };
    assert_eq!(largest[[0]], 64.0);
}

#[test]
fn a_changed_learning_rate_acts_at_once() {
    for rule in dialects(0.5) {
        let run = |change: bool| {
            let (mut opt, before) = trace::<f64>(rule.clone(), &[1.0], &[&[0.5], &[0.25]]);
            if change {
                opt.set_learning_rate(0.125).unwrap();
            }
            let mut w = [before[1][0]];
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.5])]).unwrap();
            before[1][0] - w[0]
        };
        assert_close(&[4.0 * run(true)], &[run(false)], 4.0 * f64::EPSILON);
    }
}

/// Gradients whose squares are finite leave everything finite, with and without epsilon.
#[test]
fn finite_stays_finite_below_the_root() {
    fn check<T: Scalar>(scales: [f64; 8]) {
        let rules = dialects(0.125).into_iter().flat_map(|rule| [rule.clone(), rule.epsilon(0.0)]);
        for rule in rules.flat_map(|rule| [rule.clone(), rule.amsgrad(true)]) {
            let problem = Problem::dense(13, &[&[4], &[3, 5], &[1]], 1);
            let Variables(variables) = problem.start::<f64>();
            let start: Vec<f64> = variables.iter().flat_map(|(_, value)| value.iter().copied()).collect();
            let gradients: Vec<Vec<f64>> =
                scales.iter().map(|scale| start.iter().map(|w| w * scale).collect()).collect();
            let gradients: Vec<&[f64]> = gradients.iter().map(Vec::as_slice).collect();
            let (opt, values) = trace::<T>(rule, &start, &gradients);
            assert!(values.concat().iter().all(|w| w.is_finite()), "{values:?}");
            for weight in opt.weights() {
                let finite = match &weight.value {
                    StateValue::Bf16(_) => unreachable!("weights are widened"),
                    StateValue::Array(array) => array.iter().all(|&element| Scalar::is_finite(element)),
                    StateValue::Scalar(number) => number.is_finite(),
                    StateValue::Iterations(_) => true,
                };
                assert!(finite, "{weight:?}");
            }
        }
    }
    check::<f32>([0.0, 1e18, 0.0, 1e-15, 1e18, 1.0, 1e17, 1e-38]);
    check::<f64>([1e-45, 1e25, 0.0, 1e-30, 1e18, 1.0, 1e25, 1e-38]);
}

/// A square that overflows makes v infinite: the element stays where it is, as in PyTorch and optax; no other is
/// harmed. (In Keras it is NaN one step later.)
#[test]
fn an_overflow_stops_the_element() {
    for rule in dialects(0.5) {
        let (_, got) = trace::<f32>(rule.clone(), &[1.0, 1.0], &[&[1e25, 0.5], &[0.5, 0.5]]);
        let (_, alone) = trace::<f32>(rule, &[1.0], &[&[0.5], &[0.5]]);
        assert_eq!(got, [[1.0, alone[0][0]], [1.0, alone[1][0]]]);
    }
}

/// An epsilon of 0 adds nothing, and does not divide 0 by 0 where there has never been a gradient.
#[test]
fn an_epsilon_of_zero() {
    fn check<T: Scalar>(rule: &Adam) {
        let (_, got) = trace::<T>(rule.clone(), &[1.0, 1.0], &[&[0.0, 0.5], &[0.0, 0.5]]);
        let (_, larger) = trace::<T>(rule.clone(), &[1.0], &[&[512.0], &[512.0]]);
        assert_eq!(got, [[1.0, larger[0][0]], [1.0, larger[1][0]]]);
        // The first gradient comes late.
        let (_, late) = trace::<T>(rule.clone(), &[1.0], &[&[0.0], &[0.5]]);
        assert!(late[0] == [1.0] && late[1][0] < 1.0 && late[1][0].is_finite(), "{late:?}");
    }
    for rule in dialects(0.5).map(|rule| rule.epsilon(0.0)) {
        check::<f32>(&rule);
        check::<f64>(&rule);
        check::<f64>(&rule.amsgrad(true));
    }
    // Where something is added inside of the root, nothing else is.
    let (_, got) = trace::<f64>(Adam::optax(1.0).epsilon(0.0).epsilon_root(3.0), &[0.0], &[&[1.0]]);
    assert_close(&got[0], &[-0.5], 1e-15);
}

/// Millions of steps leave nothing to correct.
#[test]
fn corrections_end() {
    for rule in dialects(0.5) {
        let (mut opt, _) = trace::<f32>(rule, &[1.0], &[&[0.5]]);
        let mut weights = opt.weights();
        for weight in &mut weights {
            match (weight.name.as_str(), &mut weight.value) {
                ("iterations", value) => *value = StateValue::Iterations(1 << 40),
                ("w/step", value) => *value = StateValue::Scalar((1_u64 << 40) as f64),
                (_, StateValue::Array(array)) => array.fill(if weight.name == "w/m" { 0.5 } else { 0.25 }),
                (name, _) => panic!("{name}"),
            }
        }
        opt.set_weights(weights).unwrap();
        let mut w = [1.0_f32];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.5])]).unwrap();
        assert_close(&[f64::from(w[0])], &[0.5], 1e-6);
    }
}

/// Keras lists `vhat` after the moments of all variables.
#[test]
fn order_of_weights() {
    let names = |rule: Adam| {
        let mut opt = Optimizer::<_, f32>::builder(rule.amsgrad(true)).ema(Ema::new(0.5)).build().unwrap();
        let (mut a, mut b) = ([1.0], [2.0]);
        opt.add_variables(&mut [Variable::new("a", &mut a), Variable::new("b", &mut b)]).unwrap();
        opt.weights().into_iter().map(|weight| weight.name).collect::<Vec<String>>().join(" ")
    };
    let start = "iterations a/average b/average";
    assert_eq!(names(Adam::new(0.125)), format!("{start} a/m a/v b/m b/v a/vhat b/vhat"));
    assert_eq!(names(Adam::new(0.125).legacy()), format!("{start} a/m b/m a/v b/v a/vhat b/vhat"));
    assert_eq!(names(Adam::optax(0.125)), format!("{start} a/m a/v b/m b/v a/vhat b/vhat"));
    // PyTorch counts for each variable.
    assert_eq!(names(Adam::pytorch(0.125)), format!("{start} a/step a/m a/v b/step b/m b/v a/vhat b/vhat"));
}

#[test]
fn two_or_three_arrays_a_variable() {
    let opt = Optimizer::<_, f32>::new(AdamW::new(0.1)).unwrap();
    assert_eq!(opt.state_bytes_of([&[3, 4][..], &[5]]), 2 * 4 * (12 + 5));
    let opt = Optimizer::<_, f64>::new(Adam::new(0.1).amsgrad(true)).unwrap();
    assert_eq!(opt.state_bytes_of([&[3, 4][..], &[5]]), 3 * 8 * (12 + 5));
}

fn read<R: FromConfig<f64>>(config: &Value) -> Result<Optimizer<R, f64>, Error> {
    OptimizerBuilder::from_config_of(config, &Registry::new())?.build()
}

fn steps<R: UpdateRule<f64>>(mut opt: Optimizer<R, f64>) -> [f64; 2] {
    let mut w = [1.0, 2.0];
    for gradient in GRADIENTS {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(gradient)]).unwrap();
    }
    w
}

/// A rule reads what it has written as what it was: the next steps are the same.
#[test]
fn configurations_mean_what_they_say() {
    fn check<R: FromConfig<f64> + FromFields + Clone>(rule: R, want: &Value) {
        let written = Optimizer::<_, f64>::new(rule.clone()).unwrap().to_config().unwrap();
        let own = <R as FromFields>::hyperparameters().into_iter().map(|spec| spec.name).collect::<Vec<_>>();
        let mut fields = written["config"].as_object().unwrap().clone();
        fields.retain(|key, value| own.contains(&key.as_str()) && !value.is_null());
        assert_eq!(Value::Object(fields), *want);
        assert_eq!(written["config"].get("use_ema").is_some(), rule.dialect() == Dialect::Keras);
        assert_eq!(steps(read::<R>(&written).unwrap()), steps(Optimizer::new(rule).unwrap()));
    }
    let with = |base: &Value, more: Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let base = json!({"learning_rate": 0.5, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": false});
    let pytorch = with(&base, json!({"dialect": "pytorch", "epsilon": 1e-8, "weight_decay": 0.0}));
    let optax = with(&base, json!({"dialect": "optax", "epsilon": 1e-8}));
    check(Adam::new(0.5), &base);
    check(Adam::new(0.5).legacy(), &with(&base, json!({"decay": 0.0})));
    check(Adam::new(0.5).legacy().decay(0.25), &with(&base, json!({"decay": 0.25})));
    check(Adam::pytorch(0.5), &pytorch);
    check(Adam::pytorch(0.5).weight_decay(0.25), &with(&pytorch, json!({"weight_decay": 0.25})));
    check(Adam::optax(0.5), &optax);
    check(Adam::optax(0.5).epsilon_root(0.5), &with(&optax, json!({"epsilon_root": 0.5})));
    let all = json!({"learning_rate": 0.5, "beta_1": 0.75, "beta_2": 0.5, "epsilon": 0.125, "amsgrad": true});
    check(Adam::new(0.5).beta_1(0.75).beta_2(0.5).epsilon(0.125).amsgrad(true), &all);
    check(AdamW::new(0.5).beta_1(0.75).beta_2(0.5).epsilon(0.125).amsgrad(true), &all);
    check(AdamW::pytorch(0.5), &with(&base, json!({"dialect": "pytorch", "epsilon": 1e-8})));
    check(AdamW::optax(0.5).epsilon_root(0.5), &with(&optax, json!({"epsilon_root": 0.5})));
}

#[test]
fn missing_keys_have_the_defaults_of_the_dialect() {
    fn check<R: FromConfig<f64>>(fields: &Value, rule: R) {
        let config = json!({"class_name": <R as FromConfig<f64>>::CLASS_NAME, "config": fields});
        assert_eq!(steps(read::<R>(&config).unwrap()), steps(Optimizer::new(rule).unwrap()), "{config}");
    }
    check(&json!({}), Adam::new(0.001));
    check(&json!({}), Adam::default());
    check(&json!({"is_legacy_optimizer": true}), Adam::new(0.001).legacy());
    check(&json!({"dialect": "pytorch"}), Adam::pytorch(0.001));
    check(&json!({"dialect": "optax"}), Adam::optax(0.001));
    check(&json!({}), AdamW::new(0.001));
    check(&json!({"dialect": "pytorch"}), AdamW::pytorch(0.001));
    check(&json!({"dialect": "optax"}), AdamW::optax(0.001));
}

/// The key of AdamW has a default; `null` is refused, as by Keras.
#[test]
fn weight_decay_in_configurations() {
    let config = |fields: Value| json!({"class_name": "AdamW", "config": fields});
    let written = |fields: Value| read::<AdamW>(&config(fields)).unwrap().to_config().unwrap();
    for fields in [json!({}), json!({"weight_decay": 0.004}), json!({"weight_decay": 0.25, "dialect": "optax"})] {
        assert_eq!(written(fields.clone()), config(fields));
    }
    let own =
        |rule: AdamW| Optimizer::<_, f32>::new(rule).unwrap().to_config().unwrap()["config"]["weight_decay"].clone();
    assert_eq!([own(AdamW::new(0.5)), own(AdamW::pytorch(0.5)), own(AdamW::optax(0.5))], [0.004, 0.01, 1e-4]);
    let off = Optimizer::<_, f32>::builder(AdamW::pytorch(0.5)).weight_decay(0.0).build().unwrap().to_config().unwrap();
    assert_eq!(off["config"]["weight_decay"], 0.0);
    assert_eq!(steps(read::<AdamW>(&off).unwrap()), steps(Optimizer::new(Adam::pytorch(0.5)).unwrap()));

    let refused = read::<AdamW>(&config(json!({"weight_decay": null}))).unwrap_err().to_string();
    assert_eq!(refused, "AdamW: weight_decay is null, expected a number or a schedule");
    assert!(read::<Adam>(&json!({"class_name": "Adam", "config": {"weight_decay": null}})).is_ok());

    // PyTorch's Adam has both kinds.
    let both = json!({"dialect": "pytorch", "weight_decay": 0.25, "decoupled_weight_decay": true});
    let decoupled = read::<Adam>(&json!({"class_name": "Adam", "config": both})).unwrap();
    let builder = Optimizer::builder(AdamW::pytorch(0.001)).weight_decay(0.25);
    assert_eq!(steps(decoupled), steps(builder.build().unwrap()));
}

/// TensorFlow Addons has an AdamW, whose weight decay is not multiplied by the learning rate.
#[test]
fn another_adamw_is_refused() {
    let fields = json!({"learning_rate": 0.001, "decay": 0.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7,
        "amsgrad": false, "weight_decay": 0.01, "exclude_from_weight_decay": null});
    let error = read::<AdamW>(&json!({"class_name": "Addons>AdamW", "config": fields})).unwrap_err();
    assert!(matches!(&error, Error::Config(ConfigError::NotSupported { key, .. }) if key == "decay"), "{error}");
}

#[test]
fn hyperparameters_out_of_range_are_refused() {
    fn refused(rule: impl UpdateRule<f32>, name: &str) {
        match Optimizer::<_, f32>::new(rule) {
            Err(Error::Hyperparameter(error)) => assert_eq!(error.name, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    for beta in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
        refused(Adam::new(0.1).beta_1(beta), "beta_1");
        refused(AdamW::optax(0.1).beta_2(beta), "beta_2");
    }
    for negative in [-1.0, -1e-300, f64::NAN, f64::INFINITY] {
        refused(AdamW::new(0.1).epsilon(negative), "epsilon");
        refused(Adam::optax(0.1).epsilon_root(negative), "epsilon_root");
        refused(Adam::new(0.1).legacy().decay(negative), "decay");
        refused(Adam::pytorch(0.1).weight_decay(negative), "weight_decay");
        refused(AdamW::pytorch(negative), "learning_rate");
    }
    // Fields of one library.
    refused(Adam::new(0.1).decay(0.5), "decay");
    refused(Adam::optax(0.1).weight_decay(0.5), "weight_decay");
    refused(Adam::pytorch(0.1).epsilon_root(0.5), "epsilon_root");
    refused(AdamW::new(0.1).epsilon_root(0.5), "epsilon_root");
    let edge = Adam::new(0.0).beta_1(0.0).beta_2(0.0).epsilon(0.0);
    assert!(Optimizer::<_, f32>::new(edge).is_ok());
}

proptest! {
    /// Engine and rule together agree with naive loops, whatever the options.
    #[test]
    fn the_textbook_agrees(
        seed in any::<u64>(),
        eta in 0.0..1.0_f64,
        beta_1 in prop_oneof![Just(0.0), 0.0..0.99_f64],
        beta_2 in 0.5..0.999_f64,
        epsilon in prop_oneof![Just(0.0), Just(1e-7), 0.0..1.0_f64],
        epsilon_root in prop_oneof![Just(0.0), 0.0..1.0_f64],
        coupled_decay in prop_oneof![Just(0.0), 0.0..0.5_f64],
        amsgrad in any::<bool>(),
        dialect in 0..4_usize,
        naive in options(),
    ) {
        let problem = Problem::varied(seed, 6);
        let rule = dialects(eta)[dialect].clone().beta_1(beta_1).beta_2(beta_2).epsilon(epsilon).amsgrad(amsgrad);
        let (rule, coupled_decay, epsilon_root) = match dialect {
            2 => (rule.weight_decay(coupled_decay), coupled_decay, 0.0),
            3 => (rule.epsilon_root(epsilon_root), 0.0, epsilon_root),
            _ => (rule, 0.0, 0.0),
        };
        let mut formula = textbook::Adam {
            beta_1, beta_2, epsilon, epsilon_root, coupled_decay, amsgrad,
            epsilon_first: dialect < 2,
            amsgrad_corrected: dialect == 3,
            counts_by_variable: dialect == 2,
            ..Default::default()
        };
        // In six steps |m| stays below 16 roots of v. The corrections lose three digits to cancellation at the limits
        // of both betas, each step rounds about ten times.
        let close = |got: f64, want: f64| (got - want).abs() <= 1e-12 * want.abs().max(1.0);
        let mut opt = naive.around(Box::new(rule)).build().unwrap();
        let mut variables = problem.start::<f64>();
        for (number, want) in naive.run(&problem, |_| eta, &mut formula).iter().enumerate() {
            problem.step(number, &mut opt, &mut variables).unwrap();
            all_close(number, &variables, want, &close)?;
        }
    }
}
