//! NovoGrad keeps every law that a rule can keep which looks at a variable as a whole, repeats every recorded run, and
//! agrees with the textbook.

use opt_conformance::conformance;
use opt_conformance::problem::{Gradient, Problem, Variables};
use opt_conformance::textbook::{self, options};
use opt_core::rule::Step;
use opt_core::state::StateValue;
use opt_core::{Error, NonFinite, Optimizer, OptimizerBuilder, Registry, UpdateRule, Variable};
use opt_novograd::NovoGrad;
use opt_schedules::CosineDecay;
use proptest::prelude::*;
use serde_json::json;

conformance! {
    class: NovoGrad,
    variants: {
        plain: NovoGrad::new(0.125),
        grad_averaging: NovoGrad::new(CosineDecay::new(0.25, 9)).beta_1(0.875).grad_averaging(true),
        weight_decay: NovoGrad::new(0.125).beta_2(0.75).weight_decay(0.0625).decay(0.25),
        both: NovoGrad::new(0.125).weight_decay(0.0625).grad_averaging(true).epsilon(0.0),
        amsgrad: NovoGrad::new(0.125).epsilon(0.03125).beta_2(0.5).amsgrad(true),
        optax: NovoGrad::optax(0.125).weight_decay(0.0625).epsilon_root(0.25),
        nvidia: NovoGrad::nvidia(0.125).grad_averaging(true),
        apex: NovoGrad::apex(0.125).weight_decay(0.0625),
        apex_from_zero: NovoGrad::apex(CosineDecay::new(0.25, 9)).init_zero(true).amsgrad(true),
    },
    golden: ["novograd.json", "dialects_novograd.json"],
    // `full_sparse_gradients_are_dense` and `transposed_memory_does_not_matter` hold because squares and sums of the
    // numbers there are exact. In general a norm that is summed in another order may be rounded in another way: see
    // `memory_and_form_matter_through_rounding_alone`.
    laws: all, except: {
        // See `each_variable_has_its_own_norm`.
        splitting_changes_nothing: "v belongs to a variable as a whole, and halves have norms of their own",
    },
}

/// The largest distance between two lists of numbers; NaN if one of them has a NaN.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// One variable after each step.
fn run<const N: usize>(rule: NovoGrad, mut w: [f64; N], gradients: &[[f64; N]]) -> Vec<[f64; N]> {
    let mut opt = Optimizer::new(rule).unwrap();
    let step = |g: &[f64; N]| {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(g)]).unwrap();
        w
    };
    gradients.iter().map(step).collect()
}

/// A number as Addons holds its hyperparameters.
fn narrow(number: f64) -> f64 {
    f64::from(number as f32)
}

/// What Addons 0.23 computes with its defaults and a learning rate of 0.1; the first ten digits are known.
#[test]
fn documented_numbers() {
    let rule = || NovoGrad::new(narrow(0.1)).beta_1(narrow(0.9)).beta_2(narrow(0.999)).epsilon(narrow(1e-7));
    let gradients = [[0.1, 0.2], [0.3, -0.4], [-0.05, 0.01]];
    let check = |rule: NovoGrad, want: &[[f64; 2]]| {
        let got = run(rule, [1.0, 2.0], &gradients);
        for (got, want) in got[3 - want.len()..].iter().zip(want) {
            assert!(distance(got, want) <= 1e-10, "{got:?} instead of {want:?}");
        }
    };
    let plain = [[0.9552786598, 1.9105573196], [0.7811329562, 2.0085875739], [0.6467284977, 2.0923494664]];
    check(rule(), &plain);
    check(rule().grad_averaging(true), &[[0.9016398016, 1.8479117800], [0.8555974981, 1.7910842624]]);
    let decayed = [[0.9452786595, 1.8905573190], [0.7526801690, 1.9516819995], [0.5941414008, 1.9827120559]];
    check(rule().weight_decay(narrow(0.1)), &decayed);

    let mut opt = Optimizer::new(rule()).unwrap();
    let mut w = [1.0, 2.0];
    for (g, want) in gradients.iter().zip([0.05, 0.0501999974, 0.0501523980]) {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(g)]).unwrap();
        let StateValue::Scalar(v) = opt.slot("w", "v").unwrap() else { panic!("v is one number") };
        assert!((v - want).abs() <= 1e-10, "{v} instead of {want}");
    }
}

/// `novograd_test.py` of Addons: dense gradients.
#[test]
fn upstream_unit_tests_dense() {
    let rule = || NovoGrad::new(0.1).epsilon(1e-8);
    let check = |rule: NovoGrad, steps: usize, want: [[f64; 2]; 2]| {
        let mut opt = Optimizer::new(rule).unwrap();
        let (mut a, mut b) = ([1.0, 2.0], [3.0, 4.0]);
        for _ in 0..steps {
            let variables =
                [Variable::new("a", &mut a).gradient(&[0.1, 0.2]), Variable::new("b", &mut b).gradient(&[0.3, 0.4])];
            opt.apply_gradients(variables).unwrap();
        }
        assert!(distance(&a, &want[0]) <= 1e-9 && distance(&b, &want[1]) <= 1e-9, "{a:?} {b:?}");
    };
    check(rule(), 1, [[0.9552786425, 1.9105572849], [2.9400000012, 3.9200000016]]);
    check(rule().weight_decay(0.1), 1, [[0.945278642, 1.8905572849], [2.9100000012, 3.8800000016]]);
    check(rule().grad_averaging(true), 2, [[0.9105572849, 1.8211145698], [2.8800000024, 3.8400000032]]);
}

/// `novograd_test.py` of Addons: sparse gradients. Its numbers are those for epsilon = 0.
#[test]
fn upstream_unit_tests_sparse() {
    let rule = || NovoGrad::new(0.1).epsilon(0.0);
    let check = |rule: NovoGrad, want: [[f64; 2]; 2]| {
        let mut opt = Optimizer::new(rule).unwrap();
        let (mut a, mut b) = ([1.0, 2.0], [3.0, 4.0]);
        for _ in 0..2 {
            let variables = [
                Variable::new("a", &mut a).sparse_gradient(&[0_usize], &[0.1]),
                Variable::new("b", &mut b).sparse_gradient(&[1_usize], &[0.4]),
            ];
            opt.apply_gradients(variables).unwrap();
        }
        assert!(distance(&a, &want[0]) <= 1e-14 && distance(&b, &want[1]) <= 1e-14, "{a:?} {b:?}");
        assert_eq!((a[1], b[0]), (2.0, 3.0));
    };
    check(rule(), [[0.71, 2.0], [3.0, 3.71]]);
    check(rule().weight_decay(0.1), [[0.6821, 2.0], [3.0, 3.5954]]);
    check(rule().grad_averaging(true), [[0.8, 2.0], [3.0, 3.8]]);
    check(rule().amsgrad(true), [[0.71, 2.0], [3.0, 3.71]]);
}

/// Closed form: where epsilon is 0, the scale of all gradients of a variable does not matter.
#[test]
fn the_scale_of_gradients_does_not_matter() {
    let gradients = [[0.3, -1.7, 0.9], [2.5, 0.1, -0.4], [0.0, 0.0, 0.0], [-0.02, 0.05, 0.07], [4.1, -3.3, 1.9]];
    let scaled = |c: f64| gradients.map(|g| g.map(|g| c * g));
    let rules = [
        NovoGrad::new(0.125),
        NovoGrad::new(0.125).grad_averaging(true).weight_decay(0.25).amsgrad(true),
        NovoGrad::optax(0.125),
        NovoGrad::nvidia(0.125).grad_averaging(true),
        NovoGrad::apex(0.125).weight_decay(0.25),
    ];
    for rule in rules {
        let rule = rule.epsilon(0.0);
        let want = run(rule.clone(), [1.0, -2.0, 3.0], &gradients);
        // A power of two changes exponents alone.
        for c in [2.0_f64.powi(-60), 0.5, 2.0_f64.powi(90)] {
            assert_eq!(run(rule.clone(), [1.0, -2.0, 3.0], &scaled(c)), want, "{c} {rule:?}");
        }
        for c in [1e-9, 0.3, 7e11] {
            for (got, want) in run(rule.clone(), [1.0, -2.0, 3.0], &scaled(c)).iter().zip(&want) {
                // Normalised gradients are at most 1/sqrt(1 - beta_2) = 32, and a dozen roundings each are at most half
                // an ulp of them.
                let close = distance(got, want) <= 0.125 * 32.0 * 12.0 * f64::EPSILON * gradients.len() as f64;
                assert!(close, "{c} {rule:?}: {got:?} instead of {want:?}");
            }
        }
    }
}

/// A first gradient is divided by its own norm, whenever it comes: 31 times less than in Addons.
#[test]
fn a_late_first_gradient_is_a_first_gradient() {
    let rule = NovoGrad::new(1.0).epsilon(0.0).grad_averaging(true);
    let (mut a, mut b, mut c) = ([10.0_f64], [10.0], [10.0]);
    let mut opt = Optimizer::builder(rule).non_finite(NonFinite::SkipStep).build().unwrap();
    // A step that is skipped, as under loss scaling.
    opt.apply_gradients([Variable::new("a", &mut a).gradient(&[f64::INFINITY])]).unwrap();
    // Steps without a gradient for b, and with a gradient of 0 for c.
    for _ in 0..3 {
        let variables =
            [Variable::new("a", &mut a).gradient(&[1.0]), Variable::new("b", &mut b), Variable::new("c", &mut c)];
        let [a, b, c] = variables;
        opt.apply_gradients([a, b, c.gradient(&[0.0])]).unwrap();
    }
    assert_eq!((b, c), ([10.0], [10.0]));
    let variables = [Variable::new("b", &mut b).gradient(&[4.0]), Variable::new("c", &mut c).gradient(&[-3.0])];
    opt.apply_gradients(variables).unwrap();
    assert_eq!((b, c), ([9.0], [11.0]));
    // An average of three gradients of 1.
    assert!((a[0] - 7.0).abs() <= 1e-14, "{a:?}");
}

/// Where nothing but 0 has been seen and epsilon is 0, a gradient counts as 0; weight decay goes on.
#[test]
fn zero_over_zero_is_zero() {
    assert_eq!(run(NovoGrad::new(1.0).epsilon(0.0), [1.0], &[[0.0], [-0.0]]), [[1.0], [1.0]]);
    assert_eq!(run(NovoGrad::new(0.5).epsilon(0.0).weight_decay(0.5), [1.0], &[[0.0]]), [[0.75]]);
    assert_eq!(run(NovoGrad::apex(0.5).epsilon(0.0).weight_decay(0.5), [1.0], &[[0.0]]), [[0.75]]);
    // The square is too small for 64 bits.
    assert_eq!(run(NovoGrad::new(1.0).epsilon(0.0), [1.0], &[[1e-200]]), [[1.0]]);
    // Infinities are not hidden.
    assert!(run(NovoGrad::new(1.0).epsilon(0.0), [1.0], &[[f64::INFINITY]])[0][0].is_nan());
}

/// The learning rate is inside m: what was gained with 0.1 stays, and only what is new counts with 1.
#[test]
fn the_learning_rate_is_inside_the_velocity() {
    let mut opt = Optimizer::new(NovoGrad::new(0.1).epsilon(0.0)).unwrap();
    let (mut w, mut before) = ([0.0_f64], 0.0);
    for (learning_rate, want) in [(0.1, -0.1), (1.0, -1.09), (1.0, -1.981)] {
        opt.set_learning_rate(learning_rate).unwrap();
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.1])]).unwrap();
        assert!((w[0] - before - want).abs() <= 1e-14, "{w:?} after {before}");
        before = w[0];
    }
}

/// What optax 0.2.8 computes (JAX 0.10.2, 64 bits); the learning rate drops after three steps.
#[test]
fn optax_numbers() {
    let check = |rule: NovoGrad, want: [[f64; 3]; 6]| {
        let mut opt = Optimizer::new(rule).unwrap();
        let mut w = [1.0, -2.0, 0.5];
        let gradients = [
            [3.0, -4.0, 0.0],
            [0.5, 1.0, -2.0],
            [0.0, 0.0, 0.0],
            [-6.0, 2.0, 3.0],
            [0.125, -0.25, 0.5],
            [1.0, 1.0, 1.0],
        ];
        for (step, (g, want)) in gradients.iter().zip(&want).enumerate() {
            opt.set_learning_rate(if step < 3 { 0.5 } else { 0.125 }).unwrap();
            opt.apply_gradients([Variable::new("w", &mut w).gradient(g)]).unwrap();
            assert!(distance(&w, want) <= 16.0 * f64::EPSILON, "step {step}: {w:?} instead of {want:?}");
        }
    };
    check(
        NovoGrad::optax(0.5),
        [
            [0.700000059999988, -1.600000079999984, 0.5],
            [0.3516740935410511, -1.396652192917822, 0.8133040818357045],
            [0.03818072372800785, -1.213639094543876, 1.0952777554878386],
            [0.09030459027542509, -1.2133477723281887, 1.0973918946818928],
            [0.13217122557739058, -1.20299589315265, 1.0791152415937015],
            [0.1118725981081238, -1.2516578011357011, 1.0046876545732937],
        ],
    );
    check(
        NovoGrad::optax(0.5).weight_decay(0.0625).epsilon_root(0.25).epsilon(0.125).beta_1(0.875).beta_2(0.75),
        [
            [0.6774843468645184, -1.549145795819358, 0.484375],
            [0.3201386886967524, -1.2141837127113482, 0.6714587095888138],
            [-0.002543096221816421, -0.8831486489696099, 0.8141738708043755],
            [0.07683007151219384, -0.8538151100379343, 0.7640621088317633],
            [0.14210230842098087, -0.8143197330759809, 0.6999288821813477],
            [0.1661077213284718, -0.8053970254227745, 0.6063464943670336],
        ],
    );
}

/// apex with the options that make it the paper's algorithm is `optax` with other numbers.
#[test]
fn dialects_meet() {
    let gradients = [[3.0, -4.0], [0.5, 1.0], [-2.0, 0.25], [1.0, 1.0]];
    let apex = NovoGrad::apex(0.5).bias_correction(false).reg_inside_moment(true).grad_averaging(false);
    let optax = NovoGrad::optax(0.5).beta_2(0.999).epsilon(1e-8);
    assert_eq!(
        run(apex.weight_decay(0.25), [1.0, 2.0], &gradients),
        run(optax.weight_decay(0.25), [1.0, 2.0], &gradients)
    );
    let nvidia = NovoGrad::nvidia(0.5).grad_averaging(true).average_first_step(false);
    let addons = NovoGrad::new(0.5).beta_1(0.95).beta_2(0.98).epsilon(1e-8);
    let addons = addons.grad_averaging(true).learning_rate_outside(true);
    assert_eq!(run(nvidia, [1.0, 2.0], &gradients), run(addons, [1.0, 2.0], &gradients));
}

/// A moment of another library has another sign and scale: its learning rate stays where the library has it.
#[test]
fn a_dialect_keeps_its_learning_rate_outside() {
    for rule in [NovoGrad::optax(0.5), NovoGrad::nvidia(0.5), NovoGrad::apex(0.5)] {
        let error = Optimizer::<_, f64>::new(rule.learning_rate_outside(false)).unwrap_err().to_string();
        assert!(error.starts_with("learning_rate_outside is 0, expected true: so it is in"), "{error}");
    }
    let unknown = json!({"class_name": "NovoGrad", "config": {"dialect": "pytorch"}});
    let error = OptimizerBuilder::<NovoGrad, f64>::from_config_of(&unknown, &Registry::new()).unwrap_err().to_string();
    let want = r#"NovoGrad: dialect is "pytorch", expected one of "keras_legacy", "optax", "nvidia", "apex""#;
    assert_eq!(error, want);
}

/// apex by hand: beta 0.5 and 0.75, learning rate 1, lambda 0.25, from zero.
#[test]
fn apex_numbers() {
    let rule = NovoGrad::apex(1.0).beta_1(0.5).beta_2(0.75).epsilon(0.0).weight_decay(0.25).init_zero(true);
    // m = 2, corrected 4; v = 4, corrected 16. w = 8 - (1 + 2).
    // m = 0, corrected 0. w = 5 - 5/4.
    // m = 1, corrected 8/7; v = 0.75 (0.75 * 4 + 0.25 * 4) + 1 = 4, corrected 4 * 64/37. w = 3.75 - (... + 0.9375).
    let got = run(rule, [8.0], &[[4.0], [-2.0], [2.0]]);
    let want = [[5.0], [3.75], [3.75 - (8.0 / 7.0 / (256.0_f64 / 37.0).sqrt() + 0.9375)]];
    for (got, want) in got.iter().zip(&want) {
        assert!(distance(got, want) <= 8.0 * f64::EPSILON, "{got:?} instead of {want:?}");
    }
}

#[test]
fn each_variable_has_its_own_norm() {
    let mut opt = Optimizer::new(NovoGrad::new(1.0).epsilon(0.0)).unwrap();
    let (mut whole, mut left, mut right) = ([0.0, 0.0], [0.0], [0.0]);
    let variables = [
        Variable::new("whole", &mut whole).gradient(&[3.0, 4.0]),
        Variable::new("left", &mut left).gradient(&[3.0]),
        Variable::new("right", &mut right).gradient(&[4.0]),
    ];
    opt.apply_gradients(variables).unwrap();
    assert_eq!((whole, left, right), ([-0.6, -0.8], [-1.0], [-1.0]));
}

/// With gradients whose squares add up without rounding, the laws that are left out hold bit for bit.
#[test]
fn memory_and_form_matter_through_rounding_alone() {
    let mut dense = Problem::dense(6, &[&[9, 5]], 6);
    let rows = [8, 0, 3, 1, 2, 7, 4, 6, 5];
    let (mut sparse, mut transposed) = (dense.clone(), Vec::new());
    for (step, sparse) in dense.steps.iter_mut().zip(&mut sparse.steps) {
        let Gradient::Dense(gradient) = &mut step[0] else { panic!("gradients are dense") };
        gradient.mapv_inplace(|g| (g * 64.0).round() / 64.0);
        let mut values = gradient.clone();
        for (to, from) in rows.iter().enumerate() {
            for column in 0..5 {
                values[[to, column]] = gradient[[*from, column]];
            }
        }
        sparse[0] = Gradient::Sparse(rows.to_vec(), values);
        transposed.push(gradient.clone().reversed_axes().as_standard_layout().to_owned());
    }
    let rule = NovoGrad::new(0.125).weight_decay(0.25).grad_averaging(true);
    let train = |problem: &Problem| {
        let mut opt = Optimizer::new(rule.clone()).unwrap();
        let mut variables: Variables<f64> = problem.start();
        for number in 0..problem.steps.len() {
            problem.step(number, &mut opt, &mut variables).unwrap();
        }
        variables
    };
    let want = train(&dense);
    assert_eq!(train(&sparse), want);

    let mut opt = Optimizer::new(rule.clone()).unwrap();
    let mut w = dense.variables[0].1.t().as_standard_layout().to_owned();
    for gradient in &transposed {
        opt.apply_gradients([Variable::new("w", w.view_mut().reversed_axes()).gradient(gradient.t())]).unwrap();
    }
    assert_eq!(w.t(), want.0[0].1);
}

/// One array and one number for each variable; AMSGrad has one number more.
#[test]
fn state_is_one_array_and_one_number() {
    let bytes = |rule: NovoGrad| {
        let shapes: [&[usize]; 3] = [&[100, 10], &[10], &[]];
        (
            Optimizer::<_, f32>::new(rule.clone()).unwrap().state_bytes_of(shapes),
            Optimizer::<_, f64>::new(rule).unwrap().state_bytes_of(shapes),
        )
    };
    assert_eq!(bytes(NovoGrad::default()), (1011 * 4 + 3 * 8, 1011 * 8 + 3 * 8));
    assert_eq!(bytes(NovoGrad::default().amsgrad(true)), (1011 * 4 + 6 * 8, 1011 * 8 + 6 * 8));
}

#[test]
fn hyperparameters_out_of_range_are_refused() {
    let refused = |rule: NovoGrad, name: &str| match Optimizer::<_, f32>::new(rule) {
        Err(Error::Hyperparameter(error)) => assert_eq!(error.name, name),
        other => panic!("{name}: {other:?}"),
    };
    let rule = || NovoGrad::new(0.1);
    for beta in [1.0, -0.1, f64::NAN, f64::INFINITY] {
        refused(rule().beta_1(beta), "beta_1");
        refused(rule().beta_2(beta), "beta_2");
    }
    for number in [-1e-9, f64::NAN, f64::INFINITY] {
        refused(rule().epsilon(number), "epsilon");
        refused(rule().epsilon_root(number), "epsilon_root");
        refused(rule().weight_decay(number), "weight_decay");
        refused(rule().decay(number), "decay");
        refused(NovoGrad::new(number), "learning_rate");
    }
    refused(NovoGrad::new(CosineDecay::new(0.1, 0)), "decay_steps");
    for rule in [rule().beta_1(0.0).beta_2(0.0).epsilon(0.0), NovoGrad::apex(0.0).beta_1(0.0).beta_2(0.0)] {
        assert!(Optimizer::<_, f32>::new(rule).is_ok());
    }
}

/// Defaults are Addons's; what makes a dialect is written only where it is set.
#[test]
fn configurations_name_what_differs() {
    let written = |rule: NovoGrad| Optimizer::<_, f64>::new(rule).unwrap().to_config().unwrap()["config"].take();
    let defaults = json!({
        "name": "NovoGrad", "learning_rate": 1e-3, "decay": 0.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7,
        "weight_decay": 0.0, "grad_averaging": false, "amsgrad": false,
    });
    assert_eq!(written(NovoGrad::default()), defaults);
    let apex = json!({
        "name": "NovoGrad", "learning_rate": 0.25, "decay": 0.5, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8,
        "weight_decay": 0.125, "grad_averaging": true, "amsgrad": true, "dialect": "apex", "init_zero": true,
        "epsilon_root": 0.0625,
    });
    let rule = NovoGrad::apex(0.25).decay(0.5).weight_decay(0.125).amsgrad(true).init_zero(true).epsilon_root(0.0625);
    assert_eq!(written(rule.clone()), apex);
    // One difference of a dialect is written beside the others.
    assert_eq!(written(rule.clone().bias_correction(false))["bias_correction"], false);

    // What is left out is Addons's default.
    let read = |config: serde_json::Value| {
        let config = json!({"class_name": "NovoGrad", "config": config});
        OptimizerBuilder::<NovoGrad, f64>::from_config_of(&config, &Registry::new()).unwrap().build().unwrap()
    };
    assert_eq!(format!("{:?}", read(json!({})).rule()), format!("{:?}", NovoGrad::default()));
    assert_eq!(format!("{:?}", read(apex.clone()).rule()), format!("{rule:?}"));
    // What the dialect stands for may be given by itself; without the key, the defaults are Addons's.
    let mut by_itself = apex;
    by_itself.as_object_mut().unwrap().remove("dialect");
    for (field, value) in [("learning_rate_outside", true), ("average_first_step", true), ("bias_correction", true)] {
        by_itself[field] = value.into();
    }
    by_itself["reg_inside_moment"] = false.into();
    let same = read(by_itself.clone());
    assert_eq!(format!("{:?}", same.rule()).replace("KerasLegacy", "Apex"), format!("{rule:?}"));
    assert_eq!(same.to_config().unwrap()["config"], by_itself);
    let cases =
        [("optax", NovoGrad::optax(0.001)), ("nvidia", NovoGrad::nvidia(0.001)), ("apex", NovoGrad::apex(0.001))];
    for (dialect, rule) in cases {
        assert_eq!(format!("{:?}", read(json!({"dialect": dialect})).rule()), format!("{rule:?}"));
    }
}

/// A rule and its textbook formula, every option at will.
fn any_rule() -> impl Strategy<Value = (NovoGrad, f64, textbook::NovoGrad)> {
    let numbers = (
        0.0..1.0_f64,
        prop_oneof![Just(0.0), 0.0..0.95_f64],
        prop_oneof![Just(0.0), 0.0..0.999_f64],
        prop_oneof![Just(0.0), 1e-9..0.5_f64],
        prop_oneof![Just(0.0), 0.0..0.5_f64],
        prop_oneof![Just(0.0), 0.0..0.5_f64],
    );
    (numbers, any::<[bool; 7]>()).prop_map(|((eta, beta_1, beta_2, epsilon, epsilon_root, lambda), switches)| {
        let [averaging, average_first_step, amsgrad, outside, raw_moment, bias_correction, init_zero] = switches;
        let rule = NovoGrad::new(eta)
            .beta_1(beta_1)
            .beta_2(beta_2)
            .epsilon(epsilon)
            .epsilon_root(epsilon_root)
            .weight_decay(lambda)
            .grad_averaging(averaging)
            .average_first_step(average_first_step)
            .amsgrad(amsgrad)
            .learning_rate_outside(outside)
            .reg_inside_moment(!raw_moment)
            .bias_correction(bias_correction)
            .init_zero(init_zero);
        let formula = textbook::NovoGrad {
            beta_1,
            beta_2,
            epsilon,
            epsilon_root,
            weight_decay: lambda,
            grad_averaging: averaging,
            average_first_step,
            amsgrad,
            learning_rate_outside: outside,
            raw_moment,
            bias_correction,
            init_zero,
            ..textbook::NovoGrad::default()
        };
        (rule, eta, formula)
    })
}

/// As TensorFlow Addons builds on Keras's legacy optimizers: clips may be combined, and averages are no field of
/// theirs.
#[test]
fn the_generation_is_the_legacy_one() {
    let opt = Optimizer::<_, f64>::builder(NovoGrad::new(0.5)).clipnorm(2.0).clipvalue(0.5).build().unwrap();
    let written = opt.to_config().unwrap();
    assert_eq!((&written["config"]["clipnorm"], &written["config"]["clipvalue"]), (&2.0.into(), &0.5.into()));
    assert!(written["config"].get("use_ema").is_none());
}

proptest! {
    /// Engine and rule together agree with naive loops, whatever the options.
    #[test]
    fn the_textbook_agrees(
        seed in any::<u64>(),
        (rule, eta, formula) in any_rule(),
        naive in options(),
    ) {
        let problem = Problem::varied(seed, 6);
        let (mut opt, mut formula) = (naive.around(Box::new(rule)).build().unwrap(), formula);
        let mut variables = problem.start::<f64>();
        let mut magnitude = 1.0_f64;
        for (number, want) in naive.run(&problem, |_| eta, &mut formula).iter().enumerate() {
            problem.step(number, &mut opt, &mut variables).unwrap();
            magnitude = want.values().flatten().fold(magnitude, |largest, w| largest.max(w.abs()));
            for (name, got) in &variables.0 {
                let got: Vec<f64> = got.iter().copied().collect();
                // Some hundred roundings of the largest numbers on the way.
                let close = distance(&got, &want[name]) <= 512.0 * f64::EPSILON * magnitude;
                prop_assert!(close, "step {number}: {name}: {got:?} instead of {:?}", want[name]);
            }
        }
    }
}

/// Rows without a gradient stay as they are, and need no visit.
#[test]
fn untouched_rows_are_not_visited() {
    let rule = NovoGrad::new(0.5);
    assert!(!UpdateRule::<f64>::begin_step(&rule, &Step::new(0, 0.5), &mut []).visits_untouched_rows());
}
