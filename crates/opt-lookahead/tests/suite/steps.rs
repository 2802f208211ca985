//! Steps with numbers that can be checked by hand, in the paper, or in the tests of TensorFlow Addons.

use opt_conformance::problem::Rng;
use opt_core::config::Hyperparameters;
use opt_core::rule::Step;
use opt_core::state::StateValue;
use opt_core::{Ema, Error, Optimizer, Parameters, UpdateRule, Variable};
use opt_lookahead::Lookahead;
use opt_nadam::Nadam;
use opt_radam::RectifiedAdam;
use opt_schedules::ExponentialDecay;
use opt_sgd::Sgd;

/// The values after each step with a gradient of 1.
fn trace(rule: impl UpdateRule<f64>, start: f64, steps: usize) -> Vec<f64> {
    let mut opt = Optimizer::new(rule).unwrap();
    let mut w = [start];
    let mut step = || {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
        w[0]
    };
    (0..steps).map(|_| step()).collect()
}

fn slot(opt: &Optimizer<impl UpdateRule<f64>, f64>, variable: &str, slot: &str) -> Vec<f64> {
    match opt.slot(variable, slot) {
        Ok(StateValue::Array(array)) => array.iter().copied().collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn three_steps_forward_half_the_way_back() {
    let lookahead = Lookahead::new(Sgd::new(1.0)).sync_period(3).slow_step_size(0.5);
    assert_eq!(trace(lookahead, 10.0, 7), [9.0, 8.0, 8.5, 7.5, 6.5, 7.0, 6.0]);
    assert_eq!(trace(Lookahead::new(Sgd::new(1.0)), 0.0, 6), [-1.0, -2.0, -3.0, -4.0, -5.0, -3.0]);
}

#[test]
fn the_slow_weights_change_in_each_kth_step_only() {
    let mut opt = Optimizer::new(Lookahead::new(Sgd::new(1.0)).sync_period(3)).unwrap();
    let mut w = [10.0];
    let mut values = Vec::new();
    for _ in 0..7 {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
        values.extend(slot(&opt, "w", "slow"));
    }
    assert_eq!(values, [10.0, 10.0, 8.5, 8.5, 8.5, 7.0, 7.0]);
}

/// Inner: 0 - 2 to -1, then -1 - 2 to -2, but from -0.5; outer: 0 to -0.5, then to -1.125.
#[test]
fn lookahead_around_lookahead() {
    let nested = || Lookahead::new(Lookahead::new(Sgd::new(1.0)).sync_period(2)).sync_period(2);
    assert_eq!(trace(nested(), 0.0, 4), [-1.0, -0.5, -1.5, -1.125]);
    let mut opt = Optimizer::new(nested()).unwrap();
    let mut w = [0.0];
    for _ in 0..4 {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    }
    assert_eq!([slot(&opt, "w", "slow"), slot(&opt, "w", "slow_2")], [[-1.125], [-1.75]]);
}

/// Also one that comes late: the steps are those of the optimizer.
#[test]
fn without_gradient_there_is_no_synchronisation() {
    let mut opt = Optimizer::new(Lookahead::new(Sgd::new(1.0)).sync_period(2)).unwrap();
    let (mut a, mut b) = ([0.0], [0.0]);
    let mut values = Vec::new();
    for step in 0..4 {
        let variable = Variable::new("b", &mut b);
        let variable = if step == 1 { variable } else { variable.gradient(&[1.0]) };
        opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0]), variable]).unwrap();
        values.push((a[0], b[0], slot(&opt, "b", "slow")[0]));
    }
    assert_eq!(values, [(-1.0, -1.0, 0.0), (-1.0, -1.0, 0.0), (-2.0, -2.0, 0.0), (-2.0, -1.5, -1.5)]);
    let mut late = [8.0];
    let late_variable = Variable::new("late", &mut late).gradient(&[4.0]);
    opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0]), late_variable]).unwrap();
    assert_eq!(late, [4.0]);
    assert_eq!(slot(&opt, "late", "slow"), [8.0]);
}

#[test]
fn sparse_gradients_synchronise_all_rows() {
    for sgd in [Sgd::new(1.0), Sgd::new(1.0).legacy()] {
        let mut opt = Optimizer::new(Lookahead::new(sgd).sync_period(2)).unwrap();
        let mut w = [0.0, 0.0, 4.0];
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[0_usize, 1], &[1.0, 1.0])]).unwrap();
        assert_eq!(w, [-1.0, -1.0, 4.0]);
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[0_usize], &[1.0])]).unwrap();
        assert_eq!(w, [-1.0, -0.5, 4.0]);
        assert_eq!(slot(&opt, "w", "slow"), [-1.0, -0.5, 4.0]);
    }
}

/// `test_dense_exact_ratio` and `test_sparse_exact_ratio` of TensorFlow Addons, without its tolerance.
#[test]
fn after_k_steps_the_slow_weights_are_part_of_the_way() {
    let run = |rule: &dyn Fn() -> Box<dyn UpdateRule<f64>>, steps: u64, sparse: bool| {
        let mut opt = Optimizer::new(rule()).unwrap();
        let mut w = [1.0, 2.0, -3.0];
        for _ in 0..steps {
            let variable = Variable::new("w", &mut w);
            let variable = match sparse {
                true => variable.sparse_gradient(&[0_usize, 2], &[0.1, -0.5]),
                false => variable.gradient(&[0.1, 0.1, -0.5]),
            };
            opt.apply_gradients([variable]).unwrap();
        }
        (w, opt)
    };
    for (k, alpha, sparse) in
        [5, 10, 100].into_iter().flat_map(|k| [(k, 0.3, false), (k, 0.7, false), (k, 0.3, true), (k, 0.7, true)])
    {
        let (fast, _) = run(&|| Box::new(Nadam::new(1e-3)), k, sparse);
        let (w, opt) =
            run(&|| Box::new(Lookahead::new(Nadam::new(1e-3)).sync_period(k).slow_step_size(alpha)), k, sparse);
        let want: Vec<f64> = [1.0, 2.0, -3.0].iter().zip(fast).map(|(start, w)| start + alpha * (w - start)).collect();
        assert_eq!(w.to_vec(), want);
        assert_eq!(slot(&opt, "w", "slow"), want);
    }
}

/// Ranger's numbers in `rectified_adam_test.py`, to the digits that are given there.
#[test]
fn ranger_as_in_tensorflow_addons() {
    let ranger = || Lookahead::new(RectifiedAdam::new(1e-3).beta_1(0.95)).sync_period(6).slow_step_size(0.45);
    let close = |got: &[f64], want: &[f64], tolerance: f64| {
        let close = got.iter().zip(want).all(|(got, want)| (got - want).abs() <= tolerance);
        assert!(close, "got {got:?}, want {want:?}");
    };
    let (mut a, mut b) = ([1.0, 2.0], [3.0, 4.0]);
    let mut opt = Optimizer::new(ranger()).unwrap();
    for _ in 0..100 {
        let variables =
            [Variable::new("a", &mut a).gradient(&[0.1, 0.2]), Variable::new("b", &mut b).gradient(&[0.03, 0.04])];
        opt.apply_gradients(variables).unwrap();
    }
    close(&a, &[0.993_125_9, 1.992_901_1], 1e-6);
    close(&b, &[2.993_283_0, 3.993_260_6], 1e-6);

    let (mut a, mut b) = ([1.0, 2.0], [3.0, 4.0]);
    let mut opt = Optimizer::new(ranger()).unwrap();
    for _ in 0..150 {
        let a = Variable::new("a", &mut a).sparse_gradient(&[0_usize], &[0.1]);
        let b = Variable::new("b", &mut b).sparse_gradient(&[1_usize], &[0.04]);
        opt.apply_gradients([a, b]).unwrap();
    }
    close(&a, &[0.988_156, 2.0], 1e-6);
    close(&b, &[3.0, 3.988_291], 1e-6);
}

/// Proposition 2 of the paper: on a quadratic of curvature A whose minimum is somewhere else in each step, the
/// variance that remains is smaller than that of SGD by a known factor.
#[test]
fn the_variance_is_that_of_the_paper() {
    const COORDINATES: usize = 40_000;
    let (rate, k, alpha) = (0.2_f64, 5_u32, 0.5_f64); // gamma A
    let kept = 1.0 - rate;
    let forward = alpha.powi(2) * (1.0 - kept.powi(2 * k as i32));
    let ratio = forward / (forward + 2.0 * alpha * (1.0 - alpha) * (1.0 - kept.powi(k as i32)));
    assert!((ratio - 0.399).abs() < 5e-4);
    let of_sgd = rate.powi(2) / 3.0 / (1.0 - kept.powi(2)); // the minimum is uniform in [-1, 1): variance 1/3

    let (mut sgd, mut lookahead) = (vec![0.0; COORDINATES], vec![0.0; COORDINATES]);
    let mut plain = Optimizer::new(Sgd::new(rate)).unwrap();
    let wrapped = Lookahead::new(Sgd::new(rate)).sync_period(k.into()).slow_step_size(alpha);
    let mut wrapped = Optimizer::new(wrapped).unwrap();
    let mut rng = Rng(17);
    for _ in 0..100 {
        let minimum: Vec<f64> = (0..COORDINATES).map(|_| rng.number()).collect();
        let gradient = |w: &[f64]| w.iter().zip(&minimum).map(|(w, c)| w - c).collect::<Vec<_>>();
        let (of_plain, of_wrapped) = (gradient(&sgd), gradient(&lookahead));
        plain.apply_gradients([Variable::new("w", &mut sgd).gradient(&of_plain)]).unwrap();
        wrapped.apply_gradients([Variable::new("w", &mut lookahead).gradient(&of_wrapped)]).unwrap();
    }
    // A sum of uniform numbers has a kurtosis below 3, so that the variance of N of them is known to sqrt(2 / N). The
    // start is forgotten to less than 1e-6.
    let error = 4.0 * (2.0 / COORDINATES as f64).sqrt();
    let variance = |w: &[f64]| w.iter().map(|w| w * w).sum::<f64>() / w.len() as f64;
    for (got, want) in [(variance(&sgd), of_sgd), (variance(&slot(&wrapped, "w", "slow")), ratio * of_sgd)] {
        let close = (got / want - 1.0).abs() <= error;
        assert!(close, "variance {got}, expected {want}, within {error}");
    }
}

/// The engine's average sees what Lookahead made of the variables; before it, the average would be -0.5.
#[test]
fn averages_come_after_lookahead() {
    let builder = Optimizer::builder(Lookahead::new(Sgd::new(1.0)).sync_period(1)).ema(Ema::new(0.5));
    let mut opt = builder.build().unwrap();
    let mut w = [0.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!((w, slot(&opt, "w", "average")), ([-0.5], vec![-0.25]));
}

#[test]
fn the_learning_rate_is_that_of_the_rule_inside() {
    let warmed = || RectifiedAdam::new(ExponentialDecay::new(1.0, 1, 0.5)).total_steps(8).warmup_proportion(0.5);
    let mut opt = Optimizer::new(Lookahead::new(Lookahead::new(warmed()))).unwrap();
    let mut w = [1.0];
    for step in 0..9 {
        assert_eq!(opt.learning_rate(), UpdateRule::<f64>::learning_rate_at(&warmed(), step));
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    }
    let mut opt = Optimizer::new(Lookahead::new(Sgd::new(1.0))).unwrap();
    opt.set_learning_rate(0.25).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!(opt.rule().get_ref().learning_rate().at(0), 0.25);
}

#[test]
fn evaluation_on_the_slow_weights() {
    let mut model = vec![10.0, 0.0];
    let mut opt = Optimizer::new(Lookahead::new(Sgd::new(1.0).momentum(0.5)).sync_period(2)).unwrap();
    for _ in 0..3 {
        opt.apply_gradients(model.variables().into_iter().map(|variable| variable.gradient(&[1.0, 0.0]))).unwrap();
    }
    assert_eq!(model, [7.0, 0.0]);
    let before = opt.weights();
    assert_eq!(*opt.swap_in("slow", &mut model).unwrap(), [8.75, 0.0]);
    assert_eq!((model, opt.weights()), (vec![7.0, 0.0], before));
}

#[test]
fn it_takes_one_array_more_than_the_rule_inside() {
    let shapes = [[3, 4], [5, 1]];
    let inner = Optimizer::<_, f32>::new(Nadam::new(0.1)).unwrap().state_bytes_of(shapes);
    let outer = Optimizer::<_, f32>::new(Lookahead::new(Nadam::new(0.1))).unwrap().state_bytes_of(shapes);
    assert_eq!((inner, outer), (2 * 17 * 4, 3 * 17 * 4));
}

#[test]
fn hyperparameters_out_of_range_are_refused() {
    let refused = |rule: Lookahead<Sgd>, name: &str, value: f64| match Optimizer::<_, f64>::new(rule) {
        Err(Error::Hyperparameter(error)) => {
            assert_eq!(error.name, name);
            assert!(error.value == value || error.value.is_nan() && value.is_nan(), "{error}");
        }
        other => panic!("{name}: {other:?}"),
    };
    let lookahead = || Lookahead::new(Sgd::new(0.1));
    refused(lookahead().sync_period(0), "sync_period", 0.0);
    for alpha in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
        refused(lookahead().slow_step_size(alpha), "slow_step_size", alpha);
    }
    refused(Lookahead::new(Sgd::new(0.1).momentum(2.0)), "momentum", 2.0);
    refused(Lookahead::new(Sgd::new(-1.0)), "learning_rate", -1.0);
    for nested in [Lookahead::new(lookahead().sync_period(0)), Lookahead::new(lookahead()).sync_period(0)] {
        assert!(matches!(Optimizer::<_, f64>::new(nested), Err(Error::Hyperparameter(_))));
    }
}

#[test]
fn hyperparameters_may_change_between_steps() {
    let lookahead = || Lookahead::new(Sgd::new(1.0));
    let mut opt = Optimizer::new(lookahead()).unwrap();
    let mut w = [0.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    let before = (opt.to_config().unwrap(), opt.weights());
    assert!(matches!(opt.set_rule(lookahead().sync_period(0)), Err(Error::Hyperparameter(_))));
    assert!(matches!(opt.set_rule(lookahead().slow_step_size(1.5)), Err(Error::Hyperparameter(_))));
    assert_eq!((opt.to_config().unwrap(), opt.weights()), before);
    opt.set_rule(lookahead().sync_period(2).slow_step_size(0.25)).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!(w, [-0.5]);
}

/// Rows without a gradient are visited when the weights meet, and where the rule inside moves them.
#[test]
fn untouched_rows_are_visited_where_they_change() {
    let visits = |rule: Sgd| {
        let rule = Lookahead::new(rule).sync_period(2);
        [0, 1].map(|step| UpdateRule::<f64>::begin_step(&rule, &Step::new(step, 0.5), &mut []).visits_untouched_rows())
    };
    assert_eq!([Sgd::new(0.5), Sgd::new(0.5).momentum(0.5)].map(visits), [[false, true], [true, true]]);
}
