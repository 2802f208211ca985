//! Slots that are copies of variables, and variables that have no slots: values that come from outside.

use std::io::Cursor;

use optimizers::checkpoint::{Checkpoint, LoadOptions, SaveOptions};
use optimizers::state::StateValue;
use optimizers::{Ema, Error, Lookahead, Optimizer, OptimizerBuilder, Sgd, UpdateRule, Variable};

/// A checkpoint of one variable, with the value 4.9, of an optimizer without averages.
fn saved() -> Checkpoint {
    let (mut w, mut opt) = ([5.0_f64], Optimizer::new(Sgd::new(0.1).momentum(0.5)).unwrap());
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    let mut file = Cursor::new(Vec::new());
    SaveOptions::new().write(&mut file, &opt, &[Variable::new("w", &mut w)]).unwrap();
    Checkpoint::from_bytes(file.into_inner()).unwrap()
}

/// Loads a part of the checkpoint before the first step. Returns the optimizer, the value, and what started anew.
fn loaded<R: UpdateRule<f64>>(
    builder: OptimizerBuilder<R, f64>,
    options: LoadOptions<'_>,
) -> (Optimizer<R, f64>, [f64; 1], Vec<String>) {
    let (mut opt, mut w) = (builder.build().unwrap(), [0.0]);
    let loaded = options.load(&saved(), &mut opt, &mut [Variable::new("w", &mut w)]).unwrap();
    (opt, w, loaded.restarted)
}

#[test]
fn an_average_that_is_not_loaded_starts_at_the_loaded_value() {
    let averaging = || Optimizer::builder(Sgd::new(0.1).momentum(0.5)).ema(Ema::new(0.5));
    for options in [LoadOptions::new().except("/average$").unwrap(), LoadOptions::new().only("^w$").unwrap()] {
        let (opt, w, restarted) = loaded(averaging(), options);
        assert_eq!((w, restarted), ([4.9], vec!["w/average".to_owned()]));
        assert_eq!(opt.slot("w", "average").unwrap().to_f64(), [4.9]);
    }
    // Where only the average is left, it stays what it is.
    let (opt, w, restarted) = loaded(averaging(), LoadOptions::new().only("/momentum$").unwrap());
    assert_eq!((w, restarted), ([0.0], vec![]));
    assert_eq!(opt.slot("w", "average").unwrap().to_f64(), [0.0]);
    assert_eq!(opt.slot("w", "momentum").unwrap().to_f64(), [-0.1]);
}

#[test]
fn slow_weights_that_are_not_loaded_start_at_the_loaded_value() {
    let rule = || Optimizer::builder(Lookahead::new(Sgd::new(0.0).momentum(0.5)).sync_period(1));
    for options in [LoadOptions::new().except("/slow$").unwrap(), LoadOptions::new().only("^w$").unwrap()] {
        let (mut opt, mut w, restarted) = loaded(rule(), options.any_configuration());
        assert_eq!(restarted, ["w/slow"]);
        opt.reset_slots(&mut [Variable::new("w", &mut w)], &["momentum"]).unwrap();
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
        assert_eq!(w, [4.9], "half way between 4.9 and 4.9");
    }
}

#[test]
fn a_resumed_optimizer_keeps_its_own_averages() {
    let mut opt = Optimizer::builder(Sgd::new(0.1).momentum(0.5)).ema(Ema::new(0.5)).build().unwrap();
    let mut w = [8.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
    let kept = LoadOptions::new().only("^iterations$").unwrap();
    kept.load(&saved(), &mut opt, &mut [Variable::new("w", &mut w)]).unwrap();
    assert_eq!(opt.slot("w", "average").unwrap().to_f64(), [8.0]);
    let anew = LoadOptions::new().only("^w$").unwrap();
    anew.load(&saved(), &mut opt, &mut [Variable::new("w", &mut w)]).unwrap();
    assert_eq!(opt.slot("w", "average").unwrap().to_f64(), [4.9]);
}

#[test]
fn a_variable_that_is_reset_is_new() {
    let mut opt = Optimizer::builder(Sgd::new(1.0).momentum(0.5)).ema(Ema::new(0.5)).build().unwrap();
    let (mut a, mut b) = ([0.0], [0.0, 0.0]);
    let step = |opt: &mut Optimizer<Sgd, f64>, a: &mut [f64], b: &mut [f64]| {
        let (of_a, of_b) = (vec![1.0; a.len()], vec![1.0; b.len()]);
        opt.apply_gradients([Variable::new("a", a).gradient(&of_a), Variable::new("b", b).gradient(&of_b)]).unwrap();
    };
    step(&mut opt, &mut a, &mut b);
    step(&mut opt, &mut a, &mut b);
    assert_eq!((a, opt.slot("a", "momentum").unwrap().to_f64()), ([-2.5], vec![-1.5]));

    // Another shape, and another value. The other variable goes on.
    let mut a = [4.0, 4.0, 4.0];
    opt.reset(&mut [Variable::new("a", &mut a)]).unwrap();
    assert_eq!(opt.variables().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
    assert!(matches!(opt.slot("a", "momentum"), Err(Error::UnknownVariable { .. })));
    step(&mut opt, &mut a, &mut b);
    assert_eq!((a, b), ([3.0; 3], [-2.5 - 1.75; 2]));
    assert_eq!(opt.slot("a", "average").unwrap().to_f64(), [3.5; 3]);
    assert_eq!(opt.iterations(), 3);
    assert_eq!(opt.state_bytes(), 8 * 2 * (3 + 2));

    let unknown = opt.reset(&mut [Variable::new("c", &mut [0.0])]);
    assert!(matches!(unknown, Err(Error::UnknownVariable { name }) if name == "c"));
    let unknown = opt.reset_slots(&mut [Variable::new("a", &mut a)], &["momentum", "m"]);
    assert!(matches!(unknown, Err(Error::UnknownSlot { .. })));
    assert_ne!(opt.slot("a", "momentum").unwrap().to_f64(), [0.0; 3], "nothing has changed");
    opt.reset_slots(&mut [Variable::new("a", &mut a)], &["momentum"]).unwrap();
    assert_eq!(opt.slot("a", "momentum").unwrap().to_f64(), [0.0; 3]);
    assert_eq!(opt.slot("a", "average").unwrap().to_f64(), [3.5; 3]);
}

/// In a memory order of its own, in 16 bits, and with counters.
#[test]
fn slots_of_every_kind_are_reset() {
    use optimizers::{MomentStorage, RectifiedAdam};
    let start = ndarray::arr2(&[[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    let mut w = start.clone().reversed_axes();
    let rule = Lookahead::new(RectifiedAdam::pytorch(0.5)).sync_period(3);
    let builder = Optimizer::builder(rule).ema(Ema::new(0.5));
    let mut opt = builder.moments(MomentStorage::Bf16 { seed: 1 }).build().unwrap();
    let gradient = ndarray::Array2::ones((2, 3));
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&gradient)]).unwrap();
    w.assign(&start.view().reversed_axes());
    assert_eq!(opt.copy_slots(), ["slow", "average"]);
    let all: Vec<String> = opt.slot_names().into_iter().map(str::to_owned).collect();
    assert_eq!(all, ["slow", "step", "m", "v", "average"]);
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    opt.reset_slots(&mut [Variable::new("w", &mut w)], &names).unwrap();
    for copy in ["slow", "average"] {
        assert_eq!(opt.slot("w", copy).unwrap(), StateValue::from(w.clone().into_dyn()), "{copy}");
    }
    for moment in ["m", "v"] {
        assert_eq!(opt.slot("w", moment).unwrap().to_f64(), [0.0; 6], "{moment}");
    }
    assert_eq!(opt.slot("w", "step").unwrap().to_f64(), [0.0]);
}

#[test]
fn a_master_is_reset_from_its_variable() {
    let mut w = ndarray::arr1(&[half::bf16::from_f32(1.0)]);
    let mut opt = Optimizer::builder(Sgd::new(0.001_f64)).ema(Ema::new(0.5)).build().unwrap();
    opt.apply_gradients([Variable::half("w", &mut w).gradient(&[1.0_f32])]).unwrap();
    assert_eq!(opt.slot("w", "master").unwrap().to_f64(), [f64::from(0.999_f32)]);
    // The average alone: from the master, which has more digits.
    opt.reset_slots(&mut [Variable::half("w", &mut w)], &["average"]).unwrap();
    assert_eq!(opt.slot("w", "average").unwrap().to_f64(), [f64::from(0.999_f32)]);
    // From the variable, if it has changed since.
    for (value, slots) in [(4.0, &["average"][..]), (2.0, &["average", "master"])] {
        w[0] = half::bf16::from_f32(value);
        opt.reset_slots(&mut [Variable::half("w", &mut w)], slots).unwrap();
        assert_eq!(opt.slot("w", "master").unwrap().to_f64(), [f64::from(value)]);
        assert_eq!(opt.slot("w", "average").unwrap().to_f64(), [f64::from(value)]);
    }
}

/// A statistic of a batch norm: passed without a gradient, and written by the forward pass.
#[test]
fn what_the_forward_pass_writes_stays_as_it_is() {
    let mut opt = Optimizer::builder(Sgd::new(0.5)).ema(Ema::new(0.5)).build().unwrap();
    let (mut w, mut mean) = ([1.0_f64], [0.0_f64]);
    for step in 1..=5 {
        mean = [10.0 * f64::from(step)];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.5]), Variable::new("mean", &mut mean)]).unwrap();
    }
    assert_eq!(opt.variables().map(|(name, _)| name).collect::<Vec<_>>(), ["w"], "no slots for the statistic");
    {
        let mut model = [Variable::new("w", &mut w), Variable::new("mean", &mut mean)];
        let averages = opt.swap_in_averages(&mut model).unwrap();
        assert_eq!(averages[1].view().unwrap().first(), Some(&50.0));
        // w = 1, then 0.75 to -0.25.
        let average = [0.75, 0.5, 0.25, 0.0, -0.25].iter().fold(1.0, |average, w| 0.5 * average + 0.5 * w);
        assert_eq!(averages[0].view().unwrap().first(), Some(&average));
    }
    opt.finalize_variable_values(&mut [Variable::new("w", &mut w), Variable::new("mean", &mut mean)]).unwrap();
    assert_eq!(mean, [50.0]);
    // Names that are all unknown are wrong names.
    let wrong = opt.finalize_variable_values(&mut [Variable::new("mean", &mut mean)]);
    assert!(matches!(wrong, Err(Error::UnknownVariable { name }) if name == "mean"));
}

/// Keras 3 averages variables without a gradient, too, in every storage.
#[test]
fn averages_of_keras_3_include_variables_without_a_gradient() {
    let ema = || Ema::new(0.5).keras3();
    let mut opt = Optimizer::builder(Sgd::new(1.0)).ema(ema()).build().unwrap();
    let (mut a, mut b) = ([8.0_f32], ndarray::arr1(&[half::bf16::from_f32(8.0)]));
    let mut step = |opt: &mut Optimizer<Sgd>, b_moves: bool| {
        let b = Variable::half("b", &mut b);
        let b = if b_moves { b.gradient(&[2.0_f32]) } else { b };
        opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0]), b]).unwrap();
        ["a", "b"].map(|name| opt.slot(name, "average").unwrap().to_f64()[0])
    };
    assert_eq!(step(&mut opt, true), [7.0, 6.0], "the variables after the first step");
    assert_eq!(step(&mut opt, true), [6.5, 5.0]);
    assert_eq!(step(&mut opt, false), [5.75, 4.5]);
    assert_eq!(step(&mut opt, false), [4.875, 4.25]);

    // And the average replaces the value.
    let mut opt = Optimizer::builder(Sgd::new(1.0)).ema(ema().overwrite_every(2)).build().unwrap();
    let (mut a, mut b) = ([8.0_f64], [8.0_f64]);
    let gradients = [Some(&[1.0]), None];
    for of_b in gradients {
        let b = Variable::new("b", &mut b).optional_gradient(of_b.map(Into::into));
        opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0]), b]).unwrap();
    }
    assert_eq!((a, b), ([6.5], [7.0]));
}

/// A range error in a part of a file leaves the optimizer as it was, and slots of another dialect are refused.
#[test]
fn parts_that_do_not_fit_change_nothing() {
    use optimizers::Nadam;
    use optimizers::checkpoint::import::{ImportOptions, KerasWeights};
    let (mut w, mut b) = ([1.0_f64], [2.0_f64]);
    let mut opt = Optimizer::<_, f64>::new(Nadam::keras(0.1)).unwrap();
    let named = [("w/v".to_owned(), ndarray::arr1(&[-1.0_f64]).into_dyn())];
    let part = KerasWeights::from_named(named).options(ImportOptions::new().only("^w/v$").unwrap());
    let mut model = [Variable::new("w", &mut w), Variable::new("b", &mut b)];
    assert!(part.load(&mut opt, &mut model).is_err());
    assert_eq!(opt.variables().count(), 0);
    let named = [("w/v".to_owned(), ndarray::arr1(&[1.0_f64]).into_dyn())];
    let part = KerasWeights::from_named(named).options(ImportOptions::new().only("^w/v$").unwrap());
    part.load(&mut opt, &mut model).unwrap();
    assert_eq!(opt.variables().map(|(name, _)| name).collect::<Vec<_>>(), ["w"], "b has nothing in the file");

    let mut opt = Optimizer::new(Sgd::pytorch(0.1).momentum(0.5)).unwrap();
    let part = || LoadOptions::new().except("/average$").unwrap();
    let error = part().load(&saved(), &mut opt, &mut model[..1]).unwrap_err().to_string();
    assert!(error.contains("dialect"), "{error}");
    part().any_configuration().load(&saved(), &mut opt, &mut model[..1]).unwrap();
}

/// The path of a field has dots, that of a layer of Keras has slashes.
#[test]
fn layers_of_keras_are_fields_here() {
    use optimizers::checkpoint::import::KerasWeights;
    let array = |number: f64| ndarray::arr1(&[number]).into_dyn();
    let (mut w, mut opt) = ([0.0_f64], Optimizer::<_, f64>::new(Sgd::new(0.1).momentum(0.5)).unwrap());
    let mut model = [Variable::new("dense.kernel", &mut w)];
    KerasWeights::from_named([("dense/kernel".to_owned(), array(2.0))]).load_variables(&mut model).unwrap();
    let state = [("iterations".to_owned(), array(3.0)), ("dense/kernel/momentum".to_owned(), array(0.25))];
    KerasWeights::from_named(state).load(&mut opt, &mut model).unwrap();
    assert_eq!((opt.iterations(), opt.slot("dense.kernel", "momentum").unwrap().to_f64()), (3, vec![0.25]));
    assert_eq!(w, [2.0]);
}

/// A pattern with a typing error is no reason to start from nothing.
#[test]
fn a_selection_of_nothing_is_refused() {
    use optimizers::checkpoint::Error as Refused;
    use optimizers::checkpoint::import::{ImportOptions, KerasWeights};
    let (mut w, mut opt) = ([0.0_f64], Optimizer::new(Sgd::new(0.1).momentum(0.5)).unwrap());
    let mut model = [Variable::new("w", &mut w)];
    let nothing = || LoadOptions::new().only("^v$").unwrap();
    assert!(matches!(nothing().load(&saved(), &mut opt, &mut model), Err(Refused::NothingSelected { .. })));
    assert!(matches!(nothing().load_variables(&saved(), &mut model), Err(Refused::NothingSelected { .. })));
    let named = [("w".to_owned(), ndarray::arr1(&[2.0_f64]).into_dyn())];
    let file = KerasWeights::from_named(named).options(ImportOptions::new().only("^v$").unwrap());
    assert!(matches!(file.load_variables(&mut model), Err(Refused::NothingSelected { .. })));
    assert_eq!((w, opt.variables().count()), ([0.0], 0));
}
