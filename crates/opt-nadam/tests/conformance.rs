//! Nadam keeps every law, repeats every recorded run, and agrees with the textbook.

use opt_conformance::conformance;
use opt_conformance::problem::{Problem, Variables};
use opt_conformance::textbook::{self, all_close, options};
use opt_core::config::{ConfigError, FromFields};
use opt_core::rule::Step;
use opt_core::state::{StateEntry, StateValue};
use opt_core::{Ema, Error, Optimizer, OptimizerBuilder, Registry, Scalar, UpdateRule, Variable};
use opt_nadam::Nadam;
use opt_schedules::CosineDecay;
use proptest::prelude::*;
use serde_json::{Value, json};

conformance! {
    class: Nadam,
    variants: {
        reference: Nadam::new(0.125),
        every_field: Nadam::new(0.0625).beta_1(0.75).beta_2(0.875).epsilon(0.25).schedule_decay(0.5),
        scheduled: Nadam::new(CosineDecay::new(0.25, 9)).epsilon(1e-3),
        reference_constant: Nadam::new(0.125).constant_momentum(),
        keras: Nadam::keras(0.125),
        pytorch: Nadam::pytorch(0.125).epsilon(0.0),
        optax: Nadam::optax(0.125).beta_1(0.75).beta_2(0.9375),
    },
    golden: ["nadam.json", "dialects_nadam.json"],
    laws: all, except: {
        // See `finite_stays_finite_below_the_root` and `an_overflow_stops_the_element`.
        finite_stays_finite: "v holds squares, in 32 bits infinite from a gradient of 2e19 on; the law goes to 1e25",
    },
}

/// The values of a variable after each step.
fn trace<T: Scalar>(rule: Nadam, start: &[f64], gradients: &[&[f64]]) -> (Optimizer<Nadam, T>, Vec<Vec<f64>>) {
    let cast = |values: &[f64]| values.iter().map(|&value| T::literal(value)).collect::<Vec<T>>();
    let mut opt = Optimizer::new(rule).unwrap();
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

/// The momentum cache.
fn shared<R: UpdateRule<T>, T: Scalar>(opt: &Optimizer<R, T>) -> f64 {
    match opt.weights().into_iter().find(|weight| weight.name == "momentum_cache") {
        Some(StateEntry { value: StateValue::Scalar(number), .. }) => number,
        other => panic!("{other:?}"),
    }
}

const GRADIENTS: [&[f64]; 3] = [&[0.1, 0.2], &[0.3, -0.4], &[-0.05, 0.01]];

/// What TensorFlow 2.15.1 computed in 64 bits. It holds 0.96 in 32 bits, which is where the tolerance comes from.
#[test]
fn numbers_of_both_generations() {
    let check = |rule: Nadam, want: [[f64; 2]; 3], products: [f64; 3]| {
        for steps in 1..=3 {
            let (opt, got) = trace::<f64>(rule.clone(), &[1.0, 2.0], &GRADIENTS[..steps]);
            assert_close(&got[steps - 1], &want[steps - 1], 2e-8);
            assert_close(&[shared(&opt)], &[products[steps - 1]], 2e-8);
        }
    };
    check(
        Nadam::new(0.1),
        [[0.8943549251, 1.8943548723], [0.7932208748, 1.9850105959], [0.8019386998, 1.9860865496]],
        [0.45007346, 0.20259918, 0.09121428],
    );
    let newer = [[0.8937213228, 1.8937212696], [0.7945128095, 1.9818878176], [0.8007602402, 1.9837167358]];
    check(Nadam::keras(0.1), newer, [0.468, 0.22711104, 0.11397995]);
    check(Nadam::new(0.1).schedule_decay(1.0), newer, [0.468, 0.22711104, 0.11397995]);
}

/// The unit test `testBasic` of the reference, and `testSparse`: the same gradients, as rows.
#[test]
fn upstream_unit_tests() {
    let want = [0.9974276423, 1.9974277020, 2.9974277020, 3.9974277020];
    let mut opt = Optimizer::<_, f32>::new(Nadam::new(0.001)).unwrap();
    let (mut a, mut b) = ([1.0, 2.0], [3.0, 4.0]);
    for _ in 0..3 {
        let (a, b) = (Variable::new("a", &mut a), Variable::new("b", &mut b));
        opt.apply_gradients([a.gradient(&[0.1, 0.1]), b.gradient(&[0.01, 0.01])]).unwrap();
    }
    let got = [a, b].concat();
    assert_close(&got.iter().map(|w| f64::from(*w)).collect::<Vec<_>>(), &want, 4.0 * f64::from(f32::EPSILON));

    let mut opt = Optimizer::new(Nadam::new(0.001)).unwrap();
    let (mut a, mut b) = ([1.0, 1.0, 2.0], [3.0, 3.0, 4.0]);
    for _ in 0..3 {
        let (a, b) = (Variable::new("a", &mut a), Variable::new("b", &mut b));
        let rows = [0_usize, 2];
        opt.apply_gradients([a.sparse_gradient(&rows, &[0.1, 0.1]), b.sparse_gradient(&rows, &[0.01, 0.01])]).unwrap();
    }
    assert_eq!((a[1], b[1]), (1.0, 3.0));
    assert_close(&[a[0], a[2], b[0], b[2]], &want, 1e-7);
}

/// Row 0 has a gradient in the first step, row 1 in all: as TensorFlow moved row 0.
#[test]
fn generations_treat_sparse_gradients_differently() {
    let run = |rule: Nadam| {
        let mut opt = Optimizer::<_, f64>::new(rule).unwrap();
        let mut w = [1.0, 1.0];
        let steps: [(&[usize], &[f64]); 3] = [(&[0, 1], &[0.1, 0.1]), (&[1], &[0.1]), (&[1], &[0.1])];
        let trace = steps.map(|(rows, values)| {
            opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(rows, values)]).unwrap();
            w[0]
        });
        let StateValue::Array(m) = opt.slot("w", "m").unwrap() else { panic!("m is an array") };
        (trace, m[[0]])
    };
    let decayed = 0.1 * 0.1 * 0.9 * 0.9;
    let (reference, m) = run(Nadam::new(0.1));
    assert_close(&reference, &[0.8943549251; 3], 1e-8);
    assert_close(&[m], &[decayed], 1e-17);
    for rule in [Nadam::keras(0.1), Nadam::pytorch(0.1).schedule_decay(1.0), Nadam::optax(0.1).schedule_decay(1.0)] {
        let (newer, m) = run(rule);
        assert_close(&newer, &[0.89372, 0.88651, 0.87879], 5e-6);
        assert_close(&[m], &[decayed], 1e-17);
    }
}

/// What PyTorch 2.15.0 and optax 0.2.8 computed in 64 bits; the learning rate falls after three steps.
#[test]
fn numbers_of_pytorch_and_optax() {
    let check = |rule: Nadam, want: [[f64; 2]; 5]| {
        let mut opt = Optimizer::new(rule.beta_1(0.875).beta_2(0.9921875)).unwrap();
        let mut w = [1.0, 2.0];
        for (number, want) in want.iter().enumerate() {
            if number == 3 {
                opt.set_learning_rate(0.02).unwrap();
            }
            let gradient = [GRADIENTS[0], GRADIENTS[1], GRADIENTS[2], &[0.2, 0.1], &[0.0, -0.3]][number];
            opt.apply_gradients([Variable::new("w", &mut w).gradient(gradient)]).unwrap();
            assert_close(&w, want, 16.0 * f64::EPSILON);
        }
    };
    check(
        Nadam::pytorch(0.1),
        [
            [0.8932337327032445, 1.8932337273649313],
            [0.7897280991459996, 1.9853562408018623],
            [0.7974480308253722, 1.9870917568571231],
            [0.7824101739048681, 1.9822957022380099],
            [0.779816771840101, 1.997898262222526],
        ],
    );
    check(
        Nadam::optax(0.1),
        [
            [0.8533333479999985, 1.8533333406666663],
            [0.7245577370973032, 1.9442650902190928],
            [0.6934591997154436, 1.9619375021643184],
            [0.676281362074225, 1.9605428397235116],
            [0.6669467738951612, 1.9725955936079882],
        ],
    );
}

/// PyTorch's `momentum_decay` is our `schedule_decay`; optax's form is the limit of a large one.
#[test]
fn dialects_are_settings_of_one_formula() {
    let run = |rule: Nadam| trace::<f64>(rule, &[1.0, 2.0], &GRADIENTS).1.concat();
    assert_eq!(run(Nadam::pytorch(0.1)), run(Nadam::new(0.1).epsilon(1e-8)));
    // Keras holds 0.96 in 32 bits.
    let (pytorch, keras) = (Nadam::pytorch(0.1).schedule_decay(1.0), Nadam::keras(0.1).epsilon(1e-8));
    assert_close(&run(pytorch), &run(keras), 2e-8);
    assert_eq!(run(Nadam::optax(0.1)), run(Nadam::pytorch(0.1).schedule_decay(1e9)));
    assert_eq!(run(Nadam::new(0.1).constant_momentum().epsilon(1e-8)), run(Nadam::optax(0.1)));
}

/// With a constant momentum the cache is `beta_1^t`, and the first step of an element of any scale is
/// `eta (1 + beta_1 / (1 + beta_1))`.
#[test]
fn closed_form_of_a_constant_momentum() {
    let rule = Nadam::optax(0.5).beta_1(0.75).epsilon(0.0);
    for steps in 1..=20 {
        let (opt, _) = trace::<f64>(rule.clone(), &[1.0], &vec![&[1.0][..]; steps]);
        assert_eq!(shared(&opt), 0.75_f64.powi(steps as i32), "after {steps} steps");
    }
    for gradient in [1e-100, 0.5, 1e100] {
        let (_, got) = trace::<f64>(rule.clone(), &[1.0, 1.0], &[&[gradient, -gradient]]);
        let step = 0.5 * (1.0 + 0.75 / 1.75);
        assert_close(&got[0], &[1.0 - step, 1.0 + step], 4.0 * f64::EPSILON);
    }
}

/// The product of the momenta shrinks to the smallest numbers there are. Nothing is then left to correct.
#[test]
fn a_million_steps() {
    const STEPS: u64 = 1_000_000;
    for rule in [Nadam::new(0.1), Nadam::keras(0.1), Nadam::optax(0.1), Nadam::optax(0.1).beta_1(0.0)] {
        let mut product = [1.0];
        for t in 0..STEPS {
            drop(UpdateRule::<f64>::begin_step(&rule, &Step::new(t, 0.1), &mut product));
            assert!((0.0..1.0).contains(&product[0]), "step {t}: {product:?}");
        }
        assert!(product[0] < f64::MIN_POSITIVE && 1.0 - product[0] == 1.0, "{product:?}");

        let (mut opt, _) = trace::<f32>(rule, &[1.0, 1.0], &[&[0.5, -0.25]]);
        let mut weights = opt.weights();
        weights[0].value = StateValue::Iterations(STEPS);
        weights[1].value = StateValue::Scalar(product[0]);
        opt.set_weights(weights).unwrap();
        let mut w = [1.0_f32, 1.0];
        for _ in 0..3 {
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.5, -0.25])]).unwrap();
        }
        assert!(w[0] < 1.0 && w[1] > 1.0 && w.iter().all(|w| w.is_finite()), "{w:?}");
        assert_eq!(shared(&opt), product[0]);
    }
}

/// The product goes on in steps that have no gradient for a variable, once, however many variables there are.
#[test]
fn the_product_belongs_to_the_steps() {
    let mut opt = Optimizer::new(Nadam::new(0.1).beta_1(0.5).schedule_decay(0.0)).unwrap();
    let (mut a, mut b) = ([0.0], [0.0]);
    for number in 0..3 {
        let (a, b) = (Variable::new("a", &mut a), Variable::new("b", &mut b));
        opt.apply_gradients([if number == 1 { a } else { a.gradient(&[1.0]) }, b.gradient(&[1.0])]).unwrap();
    }
    assert_eq!(shared(&opt), 0.25_f64.powi(3));
}

#[test]
fn a_changed_learning_rate_acts_at_once() {
    let run = |change: bool| {
        let (mut opt, before) = trace::<f64>(Nadam::new(0.5), &[1.0], &[&[0.5], &[0.25]]);
        if change {
            opt.set_learning_rate(0.125).unwrap();
        }
        let mut w = [before[1][0]];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.5])]).unwrap();
        before[1][0] - w[0]
    };
    assert_close(&[4.0 * run(true)], &[run(false)], 4.0 * f64::EPSILON);
}

/// Gradients whose squares are finite leave everything finite, with and without epsilon.
#[test]
fn finite_stays_finite_below_the_root() {
    fn check<T: Scalar>(scales: [f64; 8]) {
        for rule in [Nadam::new(0.125), Nadam::keras(0.125), Nadam::optax(0.125), Nadam::pytorch(0.125).epsilon(0.0)] {
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

/// A square that overflows makes v infinite, as in Keras, PyTorch and optax: the element stays where it is, no other
/// is harmed.
#[test]
fn an_overflow_stops_the_element() {
    let (_, got) = trace::<f32>(Nadam::new(0.5), &[1.0, 1.0], &[&[1e25, 0.5], &[0.5, 0.5]]);
    let (_, alone) = trace::<f32>(Nadam::new(0.5), &[1.0], &[&[0.5], &[0.5]]);
    assert_eq!(got, [[1.0, alone[0][0]], [1.0, alone[1][0]]]);
}

/// An epsilon of 0 adds nothing, and does not divide 0 by 0 where there has never been a gradient.
#[test]
fn an_epsilon_of_zero() {
    fn check<T: Scalar>() {
        let rule = Nadam::keras(0.5).epsilon(0.0);
        let (_, got) = trace::<T>(rule.clone(), &[1.0, 1.0], &[&[0.0, 0.5], &[0.0, 0.5]]);
        let (_, larger) = trace::<T>(rule.clone(), &[1.0], &[&[512.0], &[512.0]]);
        assert_eq!(got, [[1.0, larger[0][0]], [1.0, larger[1][0]]]);
        // The first gradient comes late.
        let (_, late) = trace::<T>(rule, &[1.0], &[&[0.0], &[0.5]]);
        assert!(late[0] == [1.0] && late[1][0] < 1.0 && late[1][0].is_finite(), "{late:?}");
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn weights_of_the_newer_generation() {
    let names = |rule: Nadam| {
        let mut opt = Optimizer::<_, f32>::builder(rule).ema(Ema::new(0.5)).build().unwrap();
        let (mut a, mut b) = ([1.0], [2.0]);
        opt.add_variables(&mut [Variable::new("a", &mut a), Variable::new("b", &mut b)]).unwrap();
        opt.weights().into_iter().map(|weight| weight.name).collect::<Vec<String>>()
    };
    let once = ["iterations", "a/average", "b/average", "momentum_cache", "a/m", "a/v", "b/m", "b/v"];
    assert_eq!(names(Nadam::keras(0.125)), once);
    assert_eq!(names(Nadam::optax(0.125)), once);
    // PyTorch counts for each variable.
    let (a, b) = (["a/step", "a/momentum_cache", "a/m", "a/v"], ["b/step", "b/momentum_cache", "b/m", "b/v"]);
    assert_eq!(names(Nadam::pytorch(0.125)), [&once[..3], &a, &b].concat());
}

#[test]
fn two_arrays_a_variable() {
    let opt = Optimizer::<_, f32>::new(Nadam::new(0.1)).unwrap();
    assert_eq!(opt.state_bytes_of([&[3, 4][..], &[5]]), 2 * 4 * (12 + 5));
    let opt = Optimizer::<_, f64>::new(Nadam::keras(0.1)).unwrap();
    assert_eq!(opt.state_bytes_of([&[3, 4][..], &[5]]), 2 * 8 * (12 + 5));
}

fn read(config: &Value) -> Result<Optimizer<Nadam, f64>, Error> {
    OptimizerBuilder::from_config_of(config, &Registry::new())?.build()
}

/// A rule reads what it has written as what it was: the next steps are the same.
#[test]
fn configurations_mean_what_they_say() {
    let write = |rule: &Nadam| Optimizer::<_, f64>::new(rule.clone()).unwrap().to_config().unwrap();
    let own = <Nadam as FromFields>::hyperparameters().into_iter().map(|spec| spec.name).collect::<Vec<_>>();
    let check = |rule: Nadam, want: Value| {
        let written = write(&rule);
        let mut fields = written["config"].as_object().unwrap().clone();
        let keras = written["config"].get("use_ema").is_some();
        fields.retain(|key, value| own.contains(&key.as_str()) && !value.is_null());
        assert_eq!(Value::Object(fields), want);
        assert_eq!(keras, want.get("decay").is_none() && want.get("dialect").is_none());
        let mut again = read(&written).unwrap();
        let (mut w, (_, direct)) = ([1.0, 2.0], trace::<f64>(rule, &[1.0, 2.0], &GRADIENTS));
        for gradient in GRADIENTS {
            again.apply_gradients([Variable::new("w", &mut w).gradient(gradient)]).unwrap();
        }
        assert_eq!(w, *direct[2]);
    };
    let base = |epsilon: f64| json!({"learning_rate": 0.5, "beta_1": 0.9, "beta_2": 0.999, "epsilon": epsilon});
    let with = |mut base: Value, key: &str, value: Value| {
        base[key] = value;
        base
    };
    check(Nadam::new(0.5), with(base(1e-7), "decay", json!(0.004)));
    check(Nadam::new(0.5).schedule_decay(0.25), with(base(1e-7), "decay", json!(0.25)));
    let constant = with(base(1e-7), "decay", json!(0.004));
    check(Nadam::new(0.5).constant_momentum(), with(constant, "momentum_schedule", json!("constant")));
    check(Nadam::keras(0.5), base(1e-7));
    let pytorch = |psi: f64, lambda: f64| {
        let dialect = with(base(1e-8), "dialect", json!("pytorch"));
        with(with(dialect, "momentum_decay", json!(psi)), "weight_decay", json!(lambda))
    };
    check(Nadam::pytorch(0.5), pytorch(0.004, 0.0));
    check(Nadam::pytorch(0.5).schedule_decay(0.5).weight_decay(0.25), pytorch(0.5, 0.25));
    check(Nadam::optax(0.5), with(base(1e-8), "dialect", json!("optax")));
    let rising = with(base(1e-8), "momentum_schedule", json!("rising"));
    check(
        Nadam::optax(0.5).schedule_decay(0.5),
        with(with(rising, "dialect", json!("optax")), "schedule_decay", json!(0.5)),
    );
    let all = json!({"learning_rate": 0.5, "beta_1": 0.75, "beta_2": 0.5, "epsilon": 0.125, "schedule_decay": 2.0});
    check(Nadam::keras(0.5).beta_1(0.75).beta_2(0.5).epsilon(0.125).schedule_decay(2.0), all);
}

#[test]
fn missing_keys_have_the_defaults_of_the_dialect() {
    let steps = |mut opt: Optimizer<Nadam, f64>| {
        let mut w = [1.0, 2.0];
        for gradient in GRADIENTS {
            opt.apply_gradients([Variable::new("w", &mut w).gradient(gradient)]).unwrap();
        }
        w
    };
    let config = |fields: Value| read(&json!({"class_name": "Nadam", "config": fields})).unwrap();
    let built = |rule: Nadam| Optimizer::new(rule).unwrap();
    assert_eq!(steps(config(json!({}))), steps(built(Nadam::keras(0.001))));
    assert_eq!(steps(config(json!({"is_legacy_optimizer": true}))), steps(built(Nadam::default())));
    assert_ne!(steps(built(Nadam::keras(0.001))), steps(built(Nadam::default())));
    assert_eq!(steps(config(json!({"dialect": "pytorch"}))), steps(built(Nadam::pytorch(0.001))));
    assert_eq!(steps(config(json!({"dialect": "optax"}))), steps(built(Nadam::optax(0.001))));
    assert_eq!(steps(config(json!({"dialect": "keras_legacy"}))), steps(built(Nadam::default())));
    assert_eq!(steps(config(json!({"momentum_schedule": "rising"}))), steps(built(Nadam::keras(0.001))));
}

#[test]
fn configurations_that_cannot_be_meant_are_refused() {
    let error = |fields: Value| read(&json!({"class_name": "Nadam", "config": fields})).unwrap_err().to_string();
    for (fields, name, value) in [
        (json!({"decay": 0.5, "momentum_schedule": "constant"}), "decay", 0.5),
        (json!({"schedule_decay": 0.004, "momentum_schedule": "constant"}), "schedule_decay", 0.004),
    ] {
        match read(&json!({"class_name": "Nadam", "config": fields})) {
            Err(Error::Config(ConfigError::Hyperparameter(error))) => {
                assert_eq!((error.name.as_str(), error.value), (name, value));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let falling = error(json!({"momentum_schedule": "falling"}));
    assert_eq!(falling, r#"Nadam: momentum_schedule is "falling", expected "rising" or "constant""#);
    // Each generation has its own word for it.
    assert!(error(json!({"decay": 0.004, "schedule_decay": 0.003})).contains("unknown key \"schedule_decay\""));
    assert!(error(json!({"decay": 0.004, "use_ema": false})).contains("decay is 0.004: only in the legacy generation"));
    assert!(read(&json!({"class_name": "Nadam", "config": {"decay": 0.5, "schedule_decay": 0.5}})).is_ok());
}

#[test]
fn hyperparameters_out_of_range_are_refused() {
    let refused = |rule: Nadam, name: &str| match Optimizer::<_, f32>::new(rule) {
        Err(Error::Hyperparameter(error)) => assert_eq!(error.name, name),
        other => panic!("{name}: {other:?}"),
    };
    for beta in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
        refused(Nadam::new(0.1).beta_1(beta), "beta_1");
        refused(Nadam::optax(0.1).beta_2(beta), "beta_2");
    }
    for negative in [-1.0, -1e-300, f64::NAN, f64::INFINITY] {
        refused(Nadam::keras(0.1).epsilon(negative), "epsilon");
        refused(Nadam::new(0.1).schedule_decay(negative), "schedule_decay");
        refused(Nadam::pytorch(0.1).schedule_decay(negative), "schedule_decay");
        refused(Nadam::new(negative), "learning_rate");
    }
    refused(Nadam::new(CosineDecay::new(0.1, 0)), "decay_steps");
    let edge = Nadam::new(0.0).beta_1(0.0).beta_2(0.0).epsilon(0.0).schedule_decay(0.0);
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
        schedule_decay in proptest::option::of(prop_oneof![Just(0.004), Just(1.0), 0.0..50.0_f64]),
        legacy in any::<bool>(),
        naive in options(),
    ) {
        let problem = Problem::varied(seed, 6);
        let rule = if legacy { Nadam::new(eta) } else { Nadam::keras(eta) };
        let rule = rule.beta_1(beta_1).beta_2(beta_2).epsilon(epsilon);
        let rule = schedule_decay.map_or(rule.clone().constant_momentum(), |psi| rule.schedule_decay(psi));
        let touched_rows_only = legacy;
        // Keras's own form, where it has one.
        let single_base = !legacy && schedule_decay == Some(1.0);
        let mut formula = textbook::Nadam {
            beta_1, beta_2, epsilon, schedule_decay, single_base, touched_rows_only, ..Default::default()
        };
        // In six steps |m'| and |g'| stay below 16 roots of v'. Their corrections lose three digits to cancellation at
        // the limits of both betas, each step rounds about ten times.
        let close = |got: f64, want: f64| (got - want).abs() <= 1e-12 * want.abs().max(1.0);
        let mut opt = naive.around(Box::new(rule)).build().unwrap();
        let mut variables = problem.start::<f64>();
        for (number, want) in naive.run(&problem, |_| eta, &mut formula).iter().enumerate() {
            problem.step(number, &mut opt, &mut variables).unwrap();
            prop_assert!((shared(&opt) - formula.product(number as u64 + 1)).abs() <= 1e-14);
            all_close(number, &variables, want, &close)?;
        }
    }
}
