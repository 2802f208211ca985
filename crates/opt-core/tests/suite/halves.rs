//! Variables in 16 bits: their masters in 32 bits are state, and the variable is the master, rounded.

use half::{bf16, f16};
use ndarray::{Array2, ArrayD, array};
use opt_core::state::{DType, StateValue};
use opt_core::{Ema, Error, MomentStorage, NonFinite, Optimizer, OptimizerBuilder, Variable, View, ViewMut};
use opt_sgd::Sgd;

type Momentum = Optimizer<Sgd, f32>;

/// A model of everything: 16 bits of both kinds, and 32.
type Model = (Array2<bf16>, Vec<f16>, [f32; 3]);

fn model() -> Model {
    let kernel = Array2::from_shape_fn((20, 30), |(i, j)| bf16::from_f32(((i * 31 + j * 7) % 61) as f32 / 64.0 - 0.5));
    (kernel, vec![f16::from_f32(0.1); 30], [1.0, 2.0, 3.0])
}

fn builder() -> OptimizerBuilder<Sgd, f32> {
    Optimizer::builder(Sgd::new(0.1).momentum(0.5))
}

/// A step down a quadratic with its minimum at 0.3.
fn step(model: &mut Model, opt: &mut Momentum) {
    let mut gradients = model.clone();
    gradients.0.mapv_inplace(|w| bf16::from_f32(w.to_f32() - 0.3));
    gradients.1.iter_mut().for_each(|w| *w = f16::from_f32(w.to_f32() - 0.3));
    gradients.2.iter_mut().for_each(|w| *w -= 0.3);
    opt.step(model, &gradients).unwrap();
}

fn array(opt: &Momentum, name: &str, slot: &str) -> ArrayD<f32> {
    match opt.slot(name, slot).unwrap() {
        StateValue::Array(array) => array.to_owned(),
        slot => panic!("{slot:?}"),
    }
}

/// Whether the variables are these numbers, rounded.
fn are_rounded(model: &Model, [kernel, bias, scale]: &[ArrayD<f32>; 3]) -> bool {
    model.0.iter().zip(kernel).all(|(w, &master)| *w == bf16::from_f32(master))
        && model.1.iter().zip(bias).all(|(w, &master)| *w == f16::from_f32(master))
        && model.2.iter().zip(scale).all(|(w, number)| w == number)
}

#[test]
fn a_run_is_that_of_the_masters() {
    let (mut w, mut full) = (model(), [[0.0; 600].to_vec(), vec![0.0; 30]]);
    full[0].iter_mut().zip(&w.0).for_each(|(full, w)| *full = w.to_f32());
    full[1].iter_mut().zip(&w.1).for_each(|(full, w)| *full = w.to_f32());
    let build = || builder().clipnorm(2.0).weight_decay(0.1).ema(Ema::new(0.75).overwrite_every(3)).build().unwrap();
    let (mut opt, mut reference) = (build(), build());
    for i in 0..5 {
        // Numbers that 16 bits hold exactly, of either kind.
        let g = Array2::from_shape_fn((20, 30), |(j, k)| ((j * 17 + k * 5 + i * 23) % 97) as f32 / 64.0 - 0.75);
        let bias: Vec<f32> = g.row(i).to_vec();
        let (g16, bias16) = (g.mapv(bf16::from_f32), bias.iter().map(|g| f16::from_f32(*g)).collect::<Vec<_>>());
        // Side by side in memory, and not.
        let column_major = g16.t().as_standard_layout().into_owned().reversed_axes();
        let kernel = Variable::half("kernel", &mut w.0);
        let kernel = if i % 2 == 0 { kernel.half_gradient(&g16) } else { kernel.half_gradient(&column_major) };
        opt.apply_gradients([kernel, Variable::half("bias", &mut w.1).half_gradient(&bias16)]).unwrap();
        let [full_kernel, full_bias] = &mut full;
        let flat = g.flatten();
        let variables =
            [Variable::new("kernel", full_kernel).gradient(&flat), Variable::new("bias", full_bias).gradient(&bias)];
        reference.apply_gradients(variables).unwrap();
        for (name, full) in ["kernel", "bias"].into_iter().zip(&full) {
            assert!(array(&opt, name, "master").iter().eq(full), "{name}, step {i}");
            for slot in ["momentum", "average"] {
                assert!(array(&opt, name, slot).iter().eq(&array(&reference, name, slot)), "{name}/{slot}, step {i}");
            }
        }
        assert!(w.0.iter().zip(&full[0]).all(|(w, &full)| *w == bf16::from_f32(full)));
        assert!(w.1.iter().zip(&full[1]).all(|(w, &full)| *w == f16::from_f32(full)));
    }
}

/// Their norms are measured block by block.
#[test]
fn large_gradients_are_measured() {
    let len = 2 * opt_core::rule::BLOCK + 3;
    let g: Vec<f32> = (0..len).map(|i| (i % 113) as f32 / 64.0).collect();
    let g16: Vec<f16> = g.iter().map(|g| f16::from_f32(*g)).collect();
    let run = |in_16_bits: bool| {
        let (mut w, mut opt) = (vec![0.0_f32; len], builder().clipnorm(1.0).build().unwrap());
        let variable = Variable::new("w", &mut w);
        let variable = if in_16_bits { variable.half_gradient(&g16) } else { variable.gradient(&g) };
        opt.apply_gradients([variable]).unwrap();
        w
    };
    assert!(run(true) == run(false));
}

/// Rows that are given in 16 bits, to a variable of 16 bits, are summed in 32.
#[test]
fn rows_are_summed_in_32_bits() {
    let (mut w, mut column_major) = (model().0, model().0.reversed_axes());
    let mut full = w.mapv(bf16::to_f32);
    let values = Array2::from_shape_fn((3, 30), |(i, j)| 1.0 + (i * 30 + j) as f32 / 64.0).mapv(bf16::from_f32);
    let wide = values.mapv(bf16::to_f32);
    let rows = [7_i64, 12, 7];
    let [mut opt, mut other, mut reference] = [0; 3].map(|_| builder().clipnorm(1.0).build().unwrap());
    let turned = column_major.view_mut().reversed_axes();
    opt.apply_gradients([Variable::half("w", &mut w).sparse_gradient(&rows, View::half(&values))]).unwrap();
    other.apply_gradients([Variable::half("w", turned).sparse_gradient(&rows, &wide)]).unwrap();
    reference.apply_gradients([Variable::new("w", &mut full).sparse_gradient(&rows, &wide)]).unwrap();
    assert_eq!(array(&opt, "w", "master"), full.view().into_dyn());
    assert_eq!((opt.weights(), w), (other.weights(), column_major.reversed_axes()));
}

#[test]
fn masters_are_slots() {
    let (mut model, mut opt) = (model(), builder().ema(Ema::new(0.9)).build().unwrap());
    assert_eq!(opt.slot_names(), ["momentum", "average"]);
    let config = opt.to_config();
    step(&mut model, &mut opt);
    assert_eq!(opt.to_config(), config);
    assert_eq!(opt.slot_names(), ["momentum", "average", "master"]);
    let names: Vec<String> = opt.weights().into_iter().map(|weight| weight.name).collect();
    let of = |slot: &'static str, variables: &'static [usize]| variables.iter().map(move |i| format!("{i}/{slot}"));
    let slots = of("average", &[0, 1, 2]).chain(of("master", &[0, 1])).chain(of("momentum", &[0, 1, 2]));
    assert!(names.iter().cloned().eq(["iterations".to_owned()].into_iter().chain(slots)), "{names:?}");
    assert_eq!((opt.state_bytes(), opt.state_bytes_of([[20, 30]])), (4 * (3 * 630 + 2 * 3), 4 * 2 * 600));
    assert_eq!(array(&opt, "0", "master").shape(), [20, 30]);
    let known = opt.slot_names().into_iter().map(String::from).collect();
    assert_eq!(opt.slot("2", "master"), Err(Error::UnknownSlot { slot: "master".to_owned(), known }));
}

#[test]
fn a_restored_run_goes_on_to_the_bit() {
    for moments in [MomentStorage::Full, MomentStorage::Bf16 { seed: 3 }, MomentStorage::Float8 { seed: 3 }] {
        let build = || builder().ema(Ema::new(0.75)).moments(moments).build().unwrap();
        let (mut trained, mut opt) = (model(), build());
        (0..3).for_each(|_| step(&mut trained, &mut opt));
        let (mut added, mut restored) = (trained.clone(), trained.clone());
        let (mut first, mut second) = (build(), build());
        first.add_variables(&mut added).unwrap();
        first.set_weights(opt.weights()).unwrap();
        second.restore(&mut restored, opt.weights()).unwrap();
        for _ in 0..3 {
            step(&mut trained, &mut opt);
            step(&mut added, &mut first);
            step(&mut restored, &mut second);
        }
        assert_eq!((&added, &restored), (&trained, &trained));
        assert_eq!((first.weights(), second.weights()), (opt.weights(), opt.weights()));
    }
}

/// The element type belongs to a variable, as its shape does.
#[test]
fn the_type_may_not_change() {
    let (mut model, mut opt) = (model(), builder().build().unwrap());
    step(&mut model, &mut opt);
    let (weights, mut full) = (opt.weights(), Array2::<f32>::zeros((20, 30)));
    let error = |expected, found| Error::VariableType { variable: "0".to_owned(), expected, found };
    let refused = opt.apply_gradients([Variable::new("0", &mut full).gradient(&model.0.mapv(f32::from))]);
    assert_eq!(refused, Err(error(DType::Bf16, DType::F32)));
    let mut other = model.0.mapv(|w| f16::from_f32(w.to_f32()));
    let refused = opt.apply_gradients([Variable::half("0", &mut other).half_gradient(&model.0)]);
    assert_eq!(refused, Err(error(DType::Bf16, DType::F16)));
    assert_eq!(refused.unwrap_err().to_string(), "variable \"0\" is in F16, its slots were made for Bf16");
    let mut short = [bf16::ZERO; 5];
    let data = Error::VariableData { variable: "new".to_owned(), elements: 5, shape: vec![6] };
    let refused = opt.apply_gradients([Variable::half("new", (&mut short[..], &[6][..])).gradient(&[1.0; 6])]);
    assert_eq!(refused, Err(data));
    assert_eq!(opt.weights(), weights);
}

/// What somebody else writes into a variable counts, element by element.
#[test]
fn changes_from_outside_are_taken() {
    for strided in [false, true] {
        let turned = model().0.t().as_standard_layout().into_owned().reversed_axes();
        let mut w = if strided { turned } else { model().0 };
        let mut opt = Optimizer::new(Sgd::new(0.001)).unwrap();
        let ones = Array2::<f32>::ones((20, 30));
        opt.apply_gradients([Variable::half("w", &mut w).gradient(&ones)]).unwrap();
        let mut expected = array(&opt, "w", "master");
        w[[3, 4]] = bf16::from_f32(7.0);
        w[[19, 29]] = bf16::from_f32(-7.0);
        (expected[[3, 4]], expected[[19, 29]]) = (7.0, -7.0);
        opt.apply_gradients([Variable::half("w", &mut w).gradient(&ones)]).unwrap();
        expected.mapv_inplace(|w| w - 0.001);
        assert_eq!(array(&opt, "w", "master"), expected);
        assert!(w.iter().zip(&expected).all(|(w, &master)| *w == bf16::from_f32(master)));
    }
}

/// A guard shows the rounded averages; neither they nor the masters lose a digit.
#[test]
fn averages_are_shown_and_taken_away() {
    let build = || builder().ema(Ema::new(0.9)).build().unwrap();
    let ((mut shown, mut opt), (mut plain, mut other)) = ((model(), build()), (model(), build()));
    for i in 0..4 {
        step(&mut shown, &mut opt);
        step(&mut plain, &mut other);
        if i == 1 {
            // A change from outside survives the guard as well.
            (shown.1[2], plain.1[2]) = (f16::from_f32(5.0), f16::from_f32(5.0));
        }
        let averages = ["0", "1", "2"].map(|name| array(&opt, name, "average"));
        let guard = opt.swap_in_averages(&mut shown).unwrap();
        assert!(are_rounded(&guard, &averages) && *guard != plain);
        drop(guard);
        assert_eq!(shown, plain);
    }
    assert_eq!(opt.weights()[1..4], other.weights()[1..4]);
    // Of variables in 32 bits as well, when nothing else has changed.
    assert_eq!(array(&opt, "2", "momentum"), array(&other, "2", "momentum"));
    let master = array(&opt, "0", "master");
    let guard = opt.swap_in("master", &mut shown.0).map(drop);
    assert!(matches!(guard, Err(Error::UnknownVariable { .. })), "{guard:?}");
    assert_eq!(array(&opt, "0", "master"), master);
}

#[test]
fn averages_can_stay() {
    let (mut model, mut opt) = (model(), builder().ema(Ema::new(0.9)).build().unwrap());
    (0..3).for_each(|_| step(&mut model, &mut opt));
    opt.finalize_variable_values(&mut model).unwrap();
    // The master is the average in full, so that training goes on from there.
    let averages = ["0", "1", "2"].map(|name| array(&opt, name, "average"));
    assert_eq!((array(&opt, "0", "master"), array(&opt, "1", "master")), (averages[0].clone(), averages[1].clone()));
    assert!(are_rounded(&model, &averages));

    // A lost variable comes back from its master; one of 32 bits has none.
    let expected = model.0.clone();
    model.0.fill(bf16::ZERO);
    opt.copy_slot("master", &mut [Variable::half("0", &mut model.0)]).unwrap();
    assert_eq!(model.0, expected);
    let refused = opt.copy_slot("master", &mut model);
    assert!(matches!(refused, Err(Error::UnknownSlot { .. })), "{refused:?}");
}

/// Any slot of full precision can be shown, in every block of a variable.
#[test]
fn slots_of_large_variables_are_shown() {
    let len = 2 * opt_core::rule::BLOCK + 3;
    let mut w: Vec<bf16> = (0..len).map(|i| bf16::from_f32((i % 251) as f32 / 64.0)).collect();
    let g: Vec<f32> = (0..len).map(|i| (i % 241) as f32 / 96.0).collect();
    let mut opt = builder().build().unwrap();
    opt.apply_gradients([Variable::half("value", &mut w).gradient(&g)]).unwrap();
    let (stepped, momentum) = (w.clone(), array(&opt, "value", "momentum"));
    let guard = opt.swap_in("momentum", &mut w).unwrap();
    assert!(guard.iter().zip(&momentum).all(|(w, &m)| *w == bf16::from_f32(m)));
    drop(guard);
    assert_eq!(w, stepped);
    opt.copy_slot("momentum", &mut [Variable::half("value", &mut w)]).unwrap();
    assert!(w.iter().zip(&momentum).all(|(w, &m)| *w == bf16::from_f32(m)));
    assert_eq!(array(&opt, "value", "master"), momentum);
}

/// Too large for the variable is not too large for its master; what is not finite shows.
#[test]
fn overflow_is_in_the_variable_alone() {
    let mut w = [65_504.0, 1.0].map(f16::from_f32);
    let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
    opt.apply_gradients([Variable::half("w", &mut w).gradient(&[-1000.0, f32::NAN])]).unwrap();
    assert!(w[0] == f16::INFINITY && w[1].is_nan());
    opt.apply_gradients([Variable::half("w", &mut w).gradient(&[2000.0, 0.0])]).unwrap();
    assert!(w[0] == f16::from_f32(64_504.0) && w[1].is_nan());
    w[1] = f16::ONE;
    opt.apply_gradients([Variable::half("w", &mut w).gradient(&[0.0, 0.5])]).unwrap();
    assert_eq!(w, [64_504.0, 0.5].map(f16::from_f32));
}

#[test]
fn gradients_that_are_not_finite_are_found() {
    let mut w = Array2::from_elem((2, 3), f16::ONE);
    let mut g = w.clone();
    g[[1, 2]] = f16::NEG_INFINITY;
    let mut opt = Optimizer::builder(Sgd::new(1.0)).non_finite(NonFinite::Error).build().unwrap();
    let found = |value| Error::NonFiniteGradient { variable: "w".to_owned(), index: vec![1, 2], value };
    let refused = opt.apply_gradients([Variable::half("w", &mut w).half_gradient(&g)]);
    assert_eq!(refused, Err(found(f64::NEG_INFINITY)));
    // So they are in 16 bits for a variable in 32.
    let mut full = Array2::<f32>::zeros((2, 3));
    let refused = opt.apply_gradients([Variable::new("w", &mut full).half_gradient(&g)]);
    assert_eq!(refused, Err(found(f64::NEG_INFINITY)));
    g[[1, 2]] = f16::ZERO;
    opt.apply_gradients([Variable::new("w", &mut full).half_gradient(&g)]).unwrap();
    assert_eq!(full, array![[-1.0, -1.0, -1.0], [-1.0, -1.0, 0.0]]);
    assert_eq!(w, Array2::from_elem((2, 3), f16::ONE));
}

/// A step far below the last digit of the variable adds up.
#[test]
fn small_steps_add_up() {
    let (mut w, mut view) = (vec![bf16::ONE; 3], vec![bf16::ONE; 3]);
    let mut opt = Optimizer::new(Sgd::new(1e-5)).unwrap();
    for _ in 0..1000 {
        let variables = [Variable::half("w", &mut w), Variable::new("view", ViewMut::half(&mut view))];
        opt.apply_gradients(variables.map(|variable| variable.gradient(&[1.0; 3]))).unwrap();
    }
    assert!(w.iter().chain(&view).all(|w| w.to_f32() == 0.98828125), "{w:?}");
}
