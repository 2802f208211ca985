//! The state by name: read without copies, and replaced as a whole or not at all.

use std::panic::{self, AssertUnwindSafe};

use half::bf16;
use ndarray::{Array1, Array2, ArrayD};
use opt_core::model::Path;
use opt_core::state::{DType, StateEntry, StateKind, StateValue};
use opt_core::{
    Ema, Error, Gradient, Gradients, MomentStorage, Optimizer, OptimizerBuilder, Parameters, Variable, View, ViewMut,
};
use opt_sgd::Sgd;

fn builder() -> OptimizerBuilder<Sgd, f32> {
    Optimizer::builder(Sgd::pytorch(0.5).momentum(0.5).dampening(0.25)).ema(Ema::new(0.5))
}

/// After two steps of `a`, of shape `[2]`, and `b`, of shape `[2, 3]` in column-major memory.
fn trained() -> (Optimizer<Sgd, f32>, Array1<f32>, Array2<f32>) {
    let (mut a, mut b) = (Array1::ones(2), Array2::<f32>::zeros((3, 2)).reversed_axes());
    let gradient = Array2::from_shape_fn((2, 3), |(i, j)| (3 * i + j) as f32);
    let mut opt = builder().build().unwrap();
    for _ in 0..2 {
        let variables =
            [Variable::new("a", &mut a).gradient(&[1.0, 2.0]), Variable::new("b", &mut b).gradient(&gradient)];
        opt.apply_gradients(variables).unwrap();
    }
    (opt, a, b)
}

fn owned(opt: &Optimizer<Sgd, f32>) -> Vec<StateEntry<StateValue<'static, f32>>> {
    let entries = opt.state().unwrap().map(|entry| {
        let value = match entry.value {
            StateValue::Iterations(count) => StateValue::Iterations(count),
            StateValue::Scalar(number) => StateValue::Scalar(number),
            StateValue::Array(array) => array.into_owned().into(),
            StateValue::Bf16(array) => array.mapv(bf16::to_f32).into(),
        };
        StateEntry { name: entry.name, value, variable: entry.variable }
    });
    entries.collect()
}

#[test]
fn the_borrowed_list_is_the_list() {
    let (opt, ..) = trained();
    assert_eq!(opt.weights().len(), 7);
    assert_eq!(owned(&opt), opt.weights());
}

#[test]
fn the_list_is_known_before_the_variables_are() {
    let (opt, ..) = trained();
    let shapes: [(&str, &[usize], DType); 2] = [("a", &[2], DType::F32), ("b", &[2, 3], DType::F32)];
    let kinds: Vec<_> = opt.state().unwrap().map(|entry| (entry.name, entry.value.kind())).collect();
    let specs = builder().build().unwrap().state_of(shapes, false);
    assert_eq!(specs.iter().map(|spec| (spec.name.clone(), spec.value.clone())).collect::<Vec<_>>(), kinds);
    let places: Vec<_> = specs.iter().map(|spec| spec.variable).collect();
    assert_eq!(places, [None, Some(0), Some(1), Some(0), Some(1), Some(0), Some(1)]);
    assert_eq!(opt.state().unwrap().map(|entry| entry.variable).collect::<Vec<_>>(), places);
    assert_eq!(kinds[0], ("iterations".to_owned(), StateKind::Iterations));
    assert_eq!(kinds[2], ("b/average".to_owned(), StateKind::Array(vec![2, 3])));
    assert_eq!(kinds[5].1, StateKind::Scalar);
}

#[test]
fn moments_in_16_bits_are_told_apart() {
    let mut w = [1.0_f32; 3];
    let make = || builder().moments(MomentStorage::Bf16 { seed: 1 }).build().unwrap();
    let mut opt = make();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.1, 0.2, 0.3])]).unwrap();
    assert_eq!(owned(&opt), opt.weights());
    let kinds: Vec<_> = opt.state().unwrap().map(|entry| (entry.name, entry.value.kind())).collect();
    assert_eq!(kinds[1], ("w/average".to_owned(), StateKind::Array(vec![3])));
    assert_eq!(kinds[2], ("w/momentum".to_owned(), StateKind::Bf16(vec![3])));
    let mut fresh = make();
    let specs = fresh.state_of([("w", &[3][..], DType::F32)], false);
    assert_eq!(specs.into_iter().map(|spec| (spec.name, spec.value)).collect::<Vec<_>>(), kinds);
    fresh.restore(&mut [Variable::new("w", &mut w)], opt.weights()).unwrap();
    assert_eq!(fresh.weights(), opt.weights());
}

#[test]
fn restoring_replaces_what_was_known() {
    let (whole, mut a, mut b) = trained();
    let mut opt = builder().build().unwrap();
    let mut other = [0.0];
    opt.apply_gradients([Variable::new("other", &mut other).gradient(&[1.0])]).unwrap();
    opt.restore(&mut [Variable::new("b", &mut b), Variable::new("a", &mut a)], trained().0.weights()).unwrap_err();
    assert_eq!(opt.variables().collect::<Vec<_>>(), [("other", &[1][..])]);
    opt.restore(&mut [Variable::new("a", &mut a), Variable::new("b", &mut b)], whole.weights()).unwrap();
    assert_eq!(opt.weights(), whole.weights());
    let (mut a_again, mut b_again) = (a.clone(), b.clone());
    let mut whole = whole;
    let gradient = Array2::ones((2, 3));
    for (opt, a, b) in [(&mut opt, &mut a, &mut b), (&mut whole, &mut a_again, &mut b_again)] {
        opt.apply_gradients([Variable::new("a", a).gradient(&[0.5, 0.5]), Variable::new("b", b).gradient(&gradient)])
            .unwrap();
    }
    assert_eq!((a, b), (a_again, b_again));
    assert_eq!(opt.weights(), whole.weights());
}

#[test]
fn a_list_that_does_not_fit_changes_nothing() {
    let (mut opt, mut a, mut b) = trained();
    let before = opt.weights();
    let mut wrong = before.clone();
    wrong[2].value = StateValue::from(ArrayD::zeros(vec![3, 2]));
    let error = opt.restore(&mut [Variable::new("a", &mut a), Variable::new("b", &mut b)], wrong).unwrap_err();
    let text = "weight 2 (b/average): expected an array of shape [2, 3], got an array of shape [3, 2]";
    assert_eq!(error.to_string(), text);
    // Every kind in the place of every other one.
    let kinds = [StateValue::Iterations(1), StateValue::Scalar(1.0), StateValue::from(ArrayD::zeros(vec![2]))];
    for (index, kind) in [(0, 0), (1, 2), (5, 1)] {
        for (other, value) in kinds.iter().enumerate() {
            let mut list = before.clone();
            list[index].value = value.clone();
            let mut restored = builder().build().unwrap();
            let fits = restored.restore(&mut [Variable::new("a", &mut a), Variable::new("b", &mut b)], list.clone());
            let refused = matches!(&fits, Err(Error::WeightMismatch { index: at, name, .. })
                if *at == index && *name == before[index].name);
            assert!(
                if other == kind { fits.is_ok() && restored.weights() == list } else { refused },
                "{index}: {fits:?}"
            );
        }
    }
    let twice = opt.restore(&mut [Variable::new("a", &mut a), Variable::new("a", &mut b)], before.clone());
    assert_eq!(twice, Err(Error::DuplicateVariable { name: "a".to_owned() }));
    let fewer = opt.restore(&mut [Variable::new("a", &mut a)], before.clone());
    assert_eq!(fewer, Err(Error::WeightCount { expected: 4, found: 7 }));
    assert_eq!(opt.weights(), before);
}

#[test]
fn parts_of_larger_arrays_are_taken_as_they_are() {
    let (mut a, mut opt) = ([0.0_f32; 2], builder().build().unwrap());
    let whole = ArrayD::from_shape_vec(vec![5], vec![1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let part = whole.slice_move(ndarray::s![2..4]).into_dyn();
    let two = || StateValue::from(ArrayD::zeros(vec![2]));
    let weights = [StateValue::Iterations(1), two(), StateValue::from(part), StateValue::Scalar(1.0)];
    opt.restore(&mut [Variable::new("a", &mut a)], weights).unwrap();
    assert_eq!(opt.weights()[2].value, StateValue::from(ndarray::array![3.0, 4.0].into_dyn()));
}

/// Gradients that come with variables are not looked at where none is used.
#[test]
fn gradients_do_not_matter() {
    let (opt, mut a, mut b) = trained();
    let mut restored = builder().build().unwrap();
    let mut variables = [Variable::new("a", &mut a).gradient(&[1.0; 5]), Variable::new("b", &mut b)];
    restored.restore(&mut variables, opt.weights()).unwrap();
    assert_eq!(restored.weights(), opt.weights());
    restored.copy_slot("average", &mut [Variable::new("a", &mut a).gradient(&[1.0; 5])]).unwrap();
    let mut c = [0.0];
    restored.add_variables(&mut [Variable::new("c", &mut c).gradient(&[1.0; 5])]).unwrap();
    assert_eq!(restored.variables().count(), 3);
}

/// A list in another memory order is the same list.
#[test]
fn numbers_may_lie_anywhere() {
    let (opt, mut a, _) = trained();
    let mut row_major = Array2::<f32>::zeros((2, 3));
    let turned = opt.weights().into_iter().map(|weight| match weight.value {
        StateValue::Array(array) => {
            StateValue::from(array.t().as_standard_layout().into_owned().reversed_axes().into_dyn())
        }
        value => value,
    });
    let mut restored = builder().build().unwrap();
    restored.restore(&mut [Variable::new("a", &mut a), Variable::new("b", &mut row_major)], turned).unwrap();
    assert_eq!(restored.weights(), opt.weights());
}

/// A model that gives one of its variables and then panics.
struct Panics([f32; 1]);

impl Gradients<f32> for Panics {
    fn visit<'a>(&'a self, path: &Path<'_>, visit: &mut dyn FnMut(String, Gradient<'a, f32>)) {
        self.0.visit(path, visit);
    }
}

impl Parameters<f32> for Panics {
    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: &mut dyn FnMut(String, ViewMut<'a, f32>)) {
        self.0.visit_mut(path, visit);
        panic!("there is no second variable");
    }
}

/// A model or a list of weights that panics leaves the optimizer as it was.
#[test]
fn lists_that_panic_change_nothing() {
    let (mut opt, mut a, mut b) = trained();
    let before = opt.weights();
    let panics = before.clone().into_iter().map(|weight| if weight.name == "b/average" { panic!() } else { weight });
    let mut variables = [Variable::new("a", &mut a), Variable::new("b", &mut b)];
    assert!(panic::catch_unwind(AssertUnwindSafe(|| opt.restore(&mut variables, panics))).is_err());
    assert_eq!(opt.weights(), before);
    let mut model = Panics([1.0]);
    assert!(panic::catch_unwind(AssertUnwindSafe(|| opt.restore(&mut model, before.clone()))).is_err());
    assert_eq!(opt.weights(), before);
}

/// Variables without elements have slots of every kind, like others.
#[test]
fn variables_without_elements_have_state() {
    let (mut empty, mut rows) = ([0.0_f32; 0], Array2::<f32>::zeros((0, 3)));
    let make = || builder().moments(MomentStorage::Bf16 { seed: 1 }).build().unwrap();
    let (mut opt, no_rows) = (make(), Array2::zeros((0, 3)));
    let variables = [
        Variable::new("empty", &mut empty).gradient(&[0.0; 0]),
        Variable::new("rows", &mut rows).sparse_gradient(&[0_u32; 0], &no_rows),
    ];
    opt.apply_gradients(variables).unwrap();
    assert_eq!(opt.slot("empty", "started"), Ok(StateValue::Scalar(1.0)));
    assert_eq!(opt.slot("rows", "started"), Ok(StateValue::Scalar(1.0)));
    let kinds: Vec<_> = opt.state().unwrap().map(|entry| (entry.name, entry.value.kind())).collect();
    let shapes: [(&str, &[usize], DType); 2] = [("empty", &[0], DType::F32), ("rows", &[0, 3], DType::F32)];
    let specs: Vec<_> = opt.state_of(shapes, false).into_iter().map(|spec| (spec.name, spec.value)).collect();
    assert_eq!(specs, kinds);
    let mut restored = make();
    restored
        .restore(&mut [Variable::new("empty", &mut empty), Variable::new("rows", &mut rows)], opt.weights())
        .unwrap();
    assert_eq!(restored.weights(), opt.weights());
}

/// The bytes of a state, before there is one and after.
#[test]
fn state_has_a_size() {
    let mut w = [0.0_f32; 5];
    for (moments, average, bytes) in [
        (MomentStorage::Full, false, 5 * 4 + 8),
        (MomentStorage::Full, true, 5 * 8 + 8),
        (MomentStorage::Bf16 { seed: 1 }, false, 5 * 2 + 8),
        (MomentStorage::Bf16 { seed: 1 }, true, 5 * 6 + 8),
        // Few elements have a scale each.
        (MomentStorage::Float8 { seed: 1 }, false, 5 * 2 + 8),
        (MomentStorage::Float8 { seed: 1 }, true, 5 * 6 + 8),
    ] {
        let builder = Optimizer::builder(Sgd::pytorch(0.5).momentum(0.5).dampening(0.25)).moments(moments);
        let mut opt = if average { builder.ema(Ema::new(0.5)) } else { builder }.build().unwrap();
        assert_eq!((opt.state_bytes(), opt.state_bytes_of([[5]])), (0, bytes));
        opt.add_variables(&mut [Variable::new("w", &mut w)]).unwrap();
        assert_eq!(opt.state_bytes(), bytes);
    }
}

/// Only arrays in full can take the place of a variable.
#[test]
fn numbers_and_moments_in_16_bits_are_not_shown() {
    let mut w = [1.0_f32; 3];
    let storages = [MomentStorage::Full, MomentStorage::Bf16 { seed: 1 }, MomentStorage::Float8 { seed: 1 }];
    for (moments, refused) in storages.map(|storage| (storage, storage != MomentStorage::Full)) {
        let mut opt = builder().moments(moments).build().unwrap();
        opt.apply_gradients([Variable::new("value", &mut w).gradient(&[0.1, 0.2, 0.3])]).unwrap();
        let known: Vec<String> = ["momentum", "started", "average"].map(String::from).into();
        let unknown = |slot: &str| Err(Error::UnknownSlot { slot: slot.to_owned(), known: known.clone() });
        assert_eq!(opt.copy_slot("started", &mut [Variable::new("value", &mut w)]), unknown("started"));
        let expected = if refused { unknown("momentum") } else { Ok(()) };
        assert_eq!(opt.copy_slot("momentum", &mut [Variable::new("value", &mut w)]), expected);
        opt.copy_slot("average", &mut [Variable::new("value", &mut w)]).unwrap();
        let Ok(StateValue::Array(average)) = opt.slot("value", "average") else { panic!("the average is in full") };
        assert_eq!(average, ndarray::aview1(&w).into_dyn());
    }
}

#[test]
fn variables_show_their_numbers() {
    let mut w = [1.0, 2.0];
    let mut variable = Variable::new("w", &mut w).gradient(&[1.0, 1.0]);
    variable.view_mut().unwrap()[1] = 3.0;
    assert_eq!(variable.reborrow().view().unwrap(), ndarray::array![1.0, 3.0].into_dyn());
    let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
    assert!(opt.apply_gradients([variable.reborrow()]).is_err(), "there is no gradient");
    opt.apply_gradients([variable]).unwrap();
    assert_eq!(w, [0.0, 2.0]);
    let numbers = [1.0, 2.0, 3.0, 4.0];
    let rows = ndarray::aview1(&numbers).into_shape_with_order((2, 2)).unwrap();
    assert_eq!(View::from((&numbers[..], &[2, 2][..])).array(), Some(rows.view().into_dyn()));
    assert_eq!(View::from(rows.t()).array(), Some(rows.t().into_dyn()));
    assert!(View::from((&numbers[..], &[3][..])).array().is_none());
    assert!(View::<f32>::half(&[bf16::ONE; 2]).array().is_none());
    let short = Variable::new("w", (&mut w[..], &[3][..]));
    let error = Error::VariableData { variable: "w".to_owned(), elements: 2, shape: vec![3] };
    assert_eq!(short.view(), Err(error));
}

/// A slot in bfloat16 takes numbers in bfloat16 as they are, and wider ones rounded; other slots take neither.
#[test]
fn numbers_in_bfloat16_are_assigned_as_they_are() {
    let mut w = [0.0_f32; 2];
    let rule = Sgd::new(0.5).momentum(0.5);
    let builder = Optimizer::builder(rule.clone()).moments(MomentStorage::Bf16 { seed: 1 });
    let mut averaged = builder.clone().ema(Ema::new(0.5)).build().unwrap();
    let mut packed = builder.build().unwrap();
    let mut full = Optimizer::new(rule).unwrap();
    let numbers = ndarray::array![1.5, -2.0].into_dyn();
    let list = |value: StateValue<'static, f32>| [StateValue::Iterations(1), value];
    let bits = || -> StateValue<'static, f32> { StateValue::Bf16(numbers.mapv(bf16::from_f32).into()) };
    for opt in [&mut packed, &mut full, &mut averaged] {
        opt.add_variables(&mut [Variable::new("w", &mut w)]).unwrap();
    }
    packed.set_weights(list(bits())).unwrap();
    assert_eq!(packed.slot("w", "momentum").unwrap().kind(), StateKind::Bf16(vec![2]));
    assert_eq!(packed.slot("w", "momentum").unwrap().to_f64(), [1.5, -2.0]);
    packed.set_weights(list((&numbers + 0.001).into())).unwrap();
    assert_eq!(packed.slot("w", "momentum").unwrap().to_f64(), [1.5, -2.0], "rounded to the nearest");
    let refused = full.set_weights(list(bits()));
    assert!(matches!(refused, Err(Error::WeightMismatch { index: 1, .. })), "{refused:?}");
    let short = StateValue::Bf16(ndarray::array![bf16::ONE].into_dyn().into());
    assert!(matches!(packed.set_weights(list(short)), Err(Error::WeightMismatch { index: 1, .. })));
    let in_place_of_the_average = [StateValue::Iterations(1), bits(), bits()];
    assert!(matches!(averaged.set_weights(in_place_of_the_average), Err(Error::WeightMismatch { index: 1, .. })));
}
