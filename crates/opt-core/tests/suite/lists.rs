//! Lists of variables: in any order, all of those that are known or some, new ones among them.

use opt_core::{Ema, Error, Exclude, Gradients, NonFinite, Optimizer, OptimizerBuilder, Outcome, Variable};
use opt_sgd::Sgd;

/// 2, 3 and 6 make 7; numbers that round show whether the order of the list matters.
#[test]
fn the_global_norm_is_that_of_all_variables_in_any_order() {
    let run = |order: [usize; 3], gradients: [f64; 3]| {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).global_clipnorm(3.5).build().unwrap();
        let mut values = [0.0; 3];
        let mut all: Vec<_> = values.iter_mut().zip(&gradients).zip(["c", "a", "b"]).map(Some).collect();
        let listed = order.map(|i| all[i].take().unwrap());
        let report = opt
            .apply_gradients(listed.map(|((value, gradient), name)| Variable::new(name, value).gradient(gradient)))
            .unwrap();
        (report.global_norm, report.clip_factor, values)
    };
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]];
    for order in orders {
        assert_eq!(run(order, [2.0, 3.0, -6.0]), (Some(7.0), Some(0.5), [-1.0, -1.5, 3.0]), "{order:?}");
        assert_eq!(run(order, [3.4, 6.2, 2.1]), run([0, 1, 2], [3.4, 6.2, 2.1]), "{order:?}");
    }

    // A step over some of the variables is about these alone.
    let mut opt = Optimizer::builder(Sgd::new(1.0)).global_clipnorm(2.5).build().unwrap();
    let (mut a, mut b, mut c) = (0.0, 0.0, 0.0);
    opt.add_variables(&mut [Variable::new("c", &mut c), Variable::new("b", &mut b), Variable::new("a", &mut a)])
        .unwrap();
    let listed = [Variable::new("a", &mut a).gradient(&3.0), Variable::new("c", &mut c).gradient(&4.0)];
    assert_eq!(opt.apply_gradients(listed).unwrap().global_norm, Some(5.0));
    assert_eq!((a, b, c), (-1.5, 0.0, -2.0));
}

/// Numbers that round differently in another order, for variables that are known and for ones that are new.
#[test]
fn the_global_norm_does_not_depend_on_what_is_known() {
    const GRADIENTS: [f64; 3] = [3.4, 6.2, 2.1];
    let new = || Optimizer::<_, f64>::builder(Sgd::new(1.0)).global_clipnorm(3.5).build().unwrap();
    let step = |opt: &mut Optimizer<Sgd, f64>, names: [&str; 3], order: [usize; 3]| {
        let mut values = [0.0; 3];
        let mut all: Vec<_> = values.iter_mut().zip(&GRADIENTS).zip(names).map(Some).collect();
        let listed = order.map(|i| all[i].take().unwrap());
        let listed = listed.map(|((value, gradient), name)| Variable::new(name, value).gradient(gradient));
        opt.apply_gradients(listed).unwrap().global_norm.unwrap()
    };
    let sum = |order: [usize; 3]| order.iter().map(|&i| GRADIENTS[i] * GRADIENTS[i]).sum::<f64>().sqrt();
    assert_ne!(sum([1, 2, 0]), sum([0, 1, 2]), "the order shows");
    let names = ["c", "a", "b"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut opt = new();
        let first = step(&mut opt, names, order);
        // The records are in the order of the first list now, and the names are not.
        for again in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            assert_eq!(step(&mut opt, names, again), first, "{order:?}, {again:?}");
        }
        assert_eq!(first, sum([1, 2, 0]), "{order:?}");
        // As many as there are known ones, some or all of them new: these have no place in the records yet.
        assert_eq!(step(&mut opt.clone(), ["d", "a", "b"], order), first, "{order:?}");
        assert_eq!(step(&mut opt, ["z", "x", "y"], order), first, "{order:?}");
        assert_eq!(opt.variables().count(), 6);
    }
}

/// Whether norms are looked at before the step or while it goes on: each variable is clipped by its own.
#[test]
fn every_variable_has_its_own_norm() {
    let norms = [1.0, 2.0, 4.0, 8.0, 16.0];
    let run = |non_finite: NonFinite| {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).clipnorm(2.0).non_finite(non_finite).build().unwrap();
        let (mut values, mut rows) = ([[0.0, 0.0]; 5], [0.0, 0.0]);
        let gradients = norms.map(|norm| [0.6 * norm, 0.8 * norm]);
        let mut listed: Vec<_> = values.iter_mut().zip(&gradients).zip(["a", "b", "c", "d", "e"]).collect();
        let behind = listed.split_off(2);
        let dense = |((value, gradient), name)| Variable::new(name, value).gradient(gradient);
        // Small variables are handled together, but for those with sparse gradients.
        let sparse = Variable::new("rows", &mut rows).sparse_gradient(&[1_usize], &[32.0]);
        opt.apply_gradients(listed.into_iter().map(dense).chain([sparse]).chain(behind.into_iter().map(dense)))
            .unwrap();
        (values, rows)
    };
    let expected = norms.map(|norm: f64| [-0.6, -0.8].map(|part| part * norm.min(2.0)));
    let (values, rows) = run(NonFinite::Propagate);
    assert!(values.iter().flatten().zip(expected.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-12), "{values:?}");
    assert_eq!(rows, [0.0, -2.0]);
    assert_eq!(run(NonFinite::Error), (values, rows));
}

/// Generations that know both clip each variable first.
#[test]
fn the_global_norm_is_that_of_clipped_gradients() {
    let mut opt = Optimizer::builder(Sgd::new(1.0).legacy()).clipnorm(3.0).global_clipnorm(2.5).build().unwrap();
    let (mut a, mut b) = (0.0, [0.0, 0.0]);
    let rows = Variable::new("b", &mut b).sparse_gradient(&[1_usize], &[-4.0]);
    let report = opt.apply_gradients([Variable::new("a", &mut a).gradient(&6.0), rows]).unwrap();
    assert_eq!((report.global_norm, report.clip_factor), (Some(18_f64.sqrt()), Some(2.5 / 18_f64.sqrt())));
    assert!((a + 2.5 / 2_f64.sqrt()).abs() < 1e-12 && (b[1] - 2.5 / 2_f64.sqrt()).abs() < 1e-12, "{a} {b:?}");
}

#[test]
fn a_step_says_what_it_did() {
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    let mut w = [1.0];
    let none: [Variable<'_, f64>; 0] = [];
    let report = opt.apply_gradients(none).unwrap();
    assert_eq!((report.outcome, report.is_applied()), (Outcome::NoVariables, false));
    let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!((report.outcome, report.iterations, report.learning_rate), (Outcome::Applied, 1, 0.5));
    assert!(report.is_applied());
}

/// Variables that are known already, too; and not once there has been a step.
#[test]
fn variables_can_be_excluded_from_decay_before_the_first_step() {
    let mut opt = Optimizer::builder(Sgd::new(0.5)).weight_decay(0.5).build().unwrap();
    let mut values = [1.0; 2];
    let [bias, kernel] = &mut values;
    opt.add_variables(&mut [Variable::new("bias", &mut *bias), Variable::new("kernel", &mut *kernel)]).unwrap();
    opt.exclude_from_weight_decay(Exclude::names(["bias"])).unwrap();
    let listed = [Variable::new("bias", bias).gradient(&0.0), Variable::new("kernel", kernel).gradient(&0.0)];
    opt.apply_gradients(listed).unwrap();
    assert_eq!(values, [1.0, 0.75]);
    let error = opt.exclude_from_weight_decay(Exclude::default()).unwrap_err();
    assert!(matches!(error, Error::AlreadyStepped { option: "exclude_from_weight_decay" }), "{error}");
}

#[test]
fn gradients_are_clipped_by_value_where_they_are_too_large() {
    let mut opt = Optimizer::builder(Sgd::new(1.0)).clipvalue(0.5).build().unwrap();
    let mut w = [0.0; 4];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[2.0, 0.25, -0.5, -3.0])]).unwrap();
    assert_eq!(w, [-0.5, -0.25, 0.5, 0.5]);
}

/// Gradients of the same row are clipped as they are given, then summed: the sum may be larger than the limit.
#[test]
fn gradients_of_the_same_row_are_clipped_before_they_are_summed() {
    let moved = |builder: OptimizerBuilder<Sgd, f64>| {
        let mut w = [0.0, 0.0];
        let mut opt = builder.build().unwrap();
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[1_usize, 1], &[3.0, 4.0])]).unwrap();
        assert_eq!(w[0], 0.0);
        -w[1]
    };
    let builder = || Optimizer::builder(Sgd::new(1.0));
    assert!((moved(builder().clipnorm(1.0)) - 1.4).abs() < 1e-15);
    assert!((moved(builder().global_clipnorm(1.0)) - 1.4).abs() < 1e-15);
    assert_eq!(moved(builder().clipvalue(1.0)), 2.0);
    assert_eq!(moved(builder()), 7.0);
}

#[test]
fn averages_are_state_until_they_are_the_values() {
    let mut opt = Optimizer::builder(Sgd::new(1.0).momentum(0.5)).ema(Ema::new(0.5)).build().unwrap();
    let mut w = [8.0, 4.0, 2.0];
    let model = vec![vec![8.0, 4.0, 2.0]];
    let (name, gradient) = model.gradients().remove(0);
    assert_eq!(name, "0");
    opt.apply_gradients([Variable::new("w", &mut w).gradient(gradient)]).unwrap();
    assert_eq!((w, opt.state_bytes()), ([0.0; 3], 2 * 3 * size_of::<f64>()));
    opt.finalize_variable_values(&mut [Variable::new("w", &mut w)]).unwrap();
    // The average starts with the variable.
    assert_eq!(w, [4.0, 2.0, 1.0]);
}
