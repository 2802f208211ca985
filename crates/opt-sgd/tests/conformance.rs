//! SGD keeps every law, repeats every recorded run, and agrees with the textbook.

use opt_conformance::conformance;
use opt_conformance::problem::Problem;
use opt_conformance::textbook::{self, options};
use opt_core::rule::Step;
use opt_core::{Error, Optimizer, UpdateRule, Variable};
use opt_schedules::CosineDecay;
use opt_sgd::Sgd;
use proptest::prelude::*;

conformance! {
    class: Sgd,
    variants: {
        plain: Sgd::new(0.125),
        momentum: Sgd::new(0.125).momentum(0.875),
        nesterov: Sgd::new(0.125).momentum(0.875).nesterov(true),
        scheduled: Sgd::new(CosineDecay::new(0.25, 9)).momentum(0.5),
        pytorch: Sgd::pytorch(0.125).momentum(0.875),
        pytorch_dampened: Sgd::pytorch(0.125).momentum(0.875).dampening(0.25),
        optax_nesterov: Sgd::optax(0.125).momentum(0.875).nesterov(true),
        legacy_momentum: Sgd::new(0.125).momentum(0.875).legacy().decay(0.25),
        legacy_nesterov: Sgd::new(0.125).momentum(0.875).nesterov(true).legacy(),
    },
    golden: ["sgd.json", "sgd_legacy.json", "dialects_sgd.json"],
    laws: all,
}

/// The numbers of Keras's documentation: the loss is w^2 / 2, so that the gradient is w.
#[test]
fn documented_numbers() {
    let steps = |rule: Sgd| {
        let mut opt = Optimizer::new(rule).unwrap();
        let mut w = [1.0_f64];
        let mut moved = Vec::new();
        for _ in 0..2 {
            let before = w[0];
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&[before])]).unwrap();
            moved.push(before - w[0]);
        }
        moved
    };
    let close = |got: f64, want: f64| (got - want).abs() <= 4.0 * f64::EPSILON;
    assert!(close(1.0 - steps(Sgd::new(0.1))[0], 0.9));
    let with_momentum = steps(Sgd::new(0.1).momentum(0.9));
    assert!(close(with_momentum[0], 0.1) && close(with_momentum[1], 0.18), "{with_momentum:?}");
}

#[test]
fn the_learning_rate_is_inside_the_velocity() {
    let mut opt = Optimizer::new(Sgd::new(1.0).momentum(0.5)).unwrap();
    let mut w = [0.0_f64];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!(w, [-1.0]);
    opt.set_learning_rate(0.1).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert!((w[0] + 1.6).abs() <= f64::EPSILON);
}

/// Rows [1, 2, 3]; row 0 twice and row 1 in the first step, then row 1, then row 2.
#[test]
fn generations_treat_sparse_gradients_differently() {
    let run = |rule: Sgd| {
        let mut opt = Optimizer::new(rule).unwrap();
        let mut w = [1.0, 2.0, 3.0];
        let steps: [(&[usize], &[f64]); 3] = [(&[0, 1, 0], &[1.0, 1.0, 1.0]), (&[1], &[1.0]), (&[2], &[1.0])];
        for (rows, values) in steps {
            opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(rows, values)]).unwrap();
        }
        w
    };
    let close = |got: [f64; 3], want: [f64; 3]| got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 1e-15);
    assert!(close(run(Sgd::new(0.1).momentum(0.9)), [0.458, 1.539, 2.9]));
    assert!(close(run(Sgd::new(0.1).momentum(0.9).legacy()), [0.8, 1.71, 2.9]));
}

/// What the learning rate multiplies shows when it changes.
#[test]
fn learning_rates_are_inside_or_outside_the_velocity() {
    let run = |rule: Sgd| {
        let mut opt = Optimizer::new(rule.momentum(0.5)).unwrap();
        let mut w = [0.0];
        for learning_rate in [1.0, 0.5] {
            opt.set_learning_rate(learning_rate).unwrap();
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
        }
        w[0]
    };
    assert_eq!([Sgd::new(1.0), Sgd::pytorch(1.0), Sgd::optax(1.0)].map(run), [-2.0, -1.75, -1.75]);
}

/// The momentum of a row goes on without a gradient, as a gradient of 0 would have it.
#[test]
fn dampened_momentum_moves_every_row() {
    let mut opt = Optimizer::new(Sgd::pytorch(0.5).momentum(0.5).dampening(0.5)).unwrap();
    let mut w = [1.0, 1.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 1.0])]).unwrap();
    assert_eq!(w, [0.5, 0.5]);
    opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[0_usize], &[1.0])]).unwrap();
    assert_eq!(w, [0.0, 0.25]);
}

#[test]
fn hyperparameters_out_of_range_are_refused() {
    let refused = |rule: Sgd, name: &str| match Optimizer::<_, f32>::new(rule) {
        Err(Error::Hyperparameter(error)) => assert_eq!(error.name, name),
        other => panic!("{name}: {other:?}"),
    };
    for momentum in [1.5, -0.1, f64::NAN, f64::INFINITY] {
        refused(Sgd::new(0.1).momentum(momentum), "momentum");
    }
    for learning_rate in [-1.0, f64::NAN, f64::INFINITY] {
        refused(Sgd::new(learning_rate), "learning_rate");
    }
    for dampening in [1.5, -0.5, f64::NAN] {
        refused(Sgd::pytorch(0.1).momentum(0.5).dampening(dampening), "dampening");
    }
    refused(Sgd::new(0.1).momentum(0.5).dampening(0.5), "dampening");
    refused(Sgd::pytorch(0.1).momentum(0.5).nesterov(true).dampening(0.5), "dampening");
    refused(Sgd::new(0.1).legacy().decay(-1.0), "decay");
    refused(Sgd::new(0.1).decay(0.5), "decay");
    refused(Sgd::new(CosineDecay::new(0.1, 0)), "decay_steps");
}

#[test]
fn a_slot_exists_only_for_momentum() {
    let slots = |rule: Sgd| UpdateRule::<f32>::slots(&rule).len();
    assert_eq!(slots(Sgd::new(0.1)), 0);
    assert_eq!(slots(Sgd::new(0.1).nesterov(true)), 0);
    assert_eq!(slots(Sgd::new(0.1).momentum(0.5)), 1);
    assert_eq!(slots(Sgd::pytorch(0.1).dampening(0.5)), 0);
    assert_eq!(slots(Sgd::pytorch(0.1).momentum(0.5).dampening(0.5)), 2);
}

proptest! {
    /// Engine and rule together agree with naive loops, whatever the options.
    #[test]
    fn the_textbook_agrees(
        seed in any::<u64>(),
        eta in 0.0..1.0_f64,
        mu in prop_oneof![Just(0.0), 0.0..=1.0_f64],
        nesterov in any::<bool>(),
        lazy in any::<bool>(),
        naive in options(),
    ) {
        let problem = Problem::varied(seed, 6);
        let mut rule = Sgd::new(eta).momentum(mu).nesterov(nesterov);
        if lazy {
            rule = rule.legacy();
        }
        let mut formula = textbook::Sgd { mu, nesterov, lazy, ..textbook::Sgd::default() };
        let close = |got: f64, want: f64| (got - want).abs() <= 1e-13 * want.abs().max(1.0);
        naive.agrees(&problem, Box::new(rule), &|_| eta, &mut formula, &close)?;
    }
}

/// Rows without a gradient are visited where momentum moves them, and nowhere else.
#[test]
fn untouched_rows_are_visited_where_they_change() {
    let visits = |rule: Sgd| UpdateRule::<f64>::begin_step(&rule, &Step::new(0, 0.5), &mut []).visits_untouched_rows();
    let rule = || Sgd::pytorch(0.5).momentum(0.5);
    let dampened = rule().dampening(0.5);
    let rules = [Sgd::new(0.5), rule(), rule().legacy(), dampened.clone(), dampened.legacy()];
    assert_eq!(rules.map(visits), [false, true, false, true, false]);
}
