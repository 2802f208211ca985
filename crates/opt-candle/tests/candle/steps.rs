//! Steps on candle's variables give the same bits as steps on slices.

use std::fmt::Debug;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var, WithDType};
use candle_nn::{Init, VarMap};
use half::{bf16, f16};
use opt_candle::{CandleBuilder, CandleOptimizer, Copies, Element, Error};
use optimizers::{
    Accumulate, AdamW, Ema, Group, IndexedSlices, LossScale, MomentStorage, Nadam, Optimizer, OptimizerBuilder,
    Outcome, Sgd, StepOptions, UpdateRule, Variable, View, ViewMut,
};

const CPU: Device = Device::Cpu;

/// A number between -1 and 1 for each place.
fn numbers(seed: usize, count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| (((i + 1) * (seed + 3) * 7919) % 2003) as f64 / 1001.5 - 1.0)
}

fn grads(pairs: &[(&Var, &Tensor)]) -> GradStore {
    let mut store = GradStore::default();
    for (var, grad) in pairs {
        store.insert(var, (*grad).clone());
    }
    store
}

fn values<N: WithDType>(tensor: &Tensor) -> Vec<N> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Everything that a step may do.
fn full<T: Element>() -> OptimizerBuilder<AdamW, T>
where
    AdamW: UpdateRule<T>,
{
    let bias = Group::matching("bias$").weight_decay(0.0).learning_rate_scale(2.0);
    Optimizer::builder(AdamW::pytorch(0.01)).global_clipnorm(1.0).ema(Ema::new(0.9)).group(bias)
}

/// Compares five steps of two variables, one of them large, with those of the engine on slices.
fn same_bits<T, N>(view: fn(&[N], [usize; 2]) -> View<'_, T>, view_mut: fn(&mut [N], [usize; 2]) -> ViewMut<'_, T>)
where
    T: Element,
    N: WithDType + Debug,
    AdamW: UpdateRule<T>,
{
    let shapes = [("w", [70, 300]), ("w.bias", [1, 300])];
    let data = |seed: usize, shape: [usize; 2]| numbers(seed, shape[0] * shape[1]).map(N::from_f64).collect::<Vec<N>>();
    let vars: Vec<Var> = shapes.map(|(_, shape)| Var::from_vec(data(1, shape), &shape, &CPU).unwrap()).into();
    let named = shapes.iter().zip(&vars).map(|((name, _), var)| (*name, var.clone()));
    let mut opt = CandleBuilder::<_, T>::new(full()).for_named(named).unwrap();

    let mut engine = full::<T>().build().unwrap();
    let mut slices = shapes.map(|(_, shape)| data(1, shape));
    for step in 2..7 {
        let gradients = shapes.map(|(_, shape)| data(step, shape));
        let mut store = GradStore::default();
        for ((var, gradient), (_, shape)) in vars.iter().zip(&gradients).zip(&shapes) {
            store.insert(var, Tensor::from_slice(gradient, shape, &CPU).unwrap());
        }
        let report = opt.step(&store).unwrap();
        let variables = slices.iter_mut().zip(&gradients).zip(shapes).map(|((value, gradient), (name, shape))| {
            Variable::new(name, view_mut(value, shape)).gradient(view(gradient, shape))
        });
        assert_eq!(report, engine.apply_gradients(variables).unwrap());
    }
    for (var, slice) in vars.iter().zip(&slices) {
        assert_eq!(values::<N>(var), *slice);
    }
    assert_eq!(opt.copies(), Copies::default());
}

#[test]
fn all_types_have_the_bits_of_slices() {
    same_bits::<f32, f32>(|data, shape| (data, &shape).into(), |data, shape| (data, &shape).into());
    same_bits::<f64, f64>(|data, shape| (data, &shape).into(), |data, shape| (data, &shape).into());
    same_bits::<f32, bf16>(|data, shape| View::half((data, &shape)), |data, shape| ViewMut::half((data, &shape)));
    same_bits::<f32, f16>(|data, shape| View::half((data, &shape)), |data, shape| ViewMut::half((data, &shape)));
}

/// Small variables that are updated together, on several threads, and a few that are left.
#[test]
fn many_small_variables_have_the_bits_of_slices() {
    let make = || Optimizer::builder(Nadam::new(0.01)).global_clipnorm(1.0).threads(3);
    let data = |seed: usize| numbers(seed, 30_000).map(|x| x as f32).collect::<Vec<f32>>();
    let mut slices: Vec<Vec<f32>> = (0..21).map(data).collect();
    let gradients: Vec<Vec<f32>> = (30..51).map(data).collect();
    let names: Vec<String> = (0..21).map(|i| format!("w{i}")).collect();
    let vars: Vec<Var> = slices.iter().map(|slice| Var::new(&slice[..], &CPU).unwrap()).collect();
    let named = names.iter().cloned().zip(vars.iter().cloned());
    let (mut opt, mut engine) = (CandleOptimizer::from_named(named, make()).unwrap(), make().build().unwrap());
    let mut store = GradStore::default();
    for (_, (var, gradient)) in vars.iter().zip(&gradients).enumerate().filter(|(i, _)| i % 6 != 5) {
        store.insert(var, Tensor::new(&gradient[..], &CPU).unwrap());
    }
    for _ in 0..3 {
        opt.step(&store).unwrap();
        let variables =
            slices.iter_mut().zip(&gradients).zip(&names).enumerate().map(|(i, ((slice, gradient), name))| {
                let variable = Variable::new(name.as_str(), slice);
                if i % 6 == 5 { variable } else { variable.gradient(gradient) }
            });
        engine.apply_gradients(variables).unwrap();
    }
    assert!(vars.iter().zip(&slices).all(|(var, slice)| values::<f32>(var) == *slice));
    // 18 of them have a gradient, and 9 are enough for several threads.
    assert_eq!(opt.copies().bytes_on_host, 18 * 30_000 * 4);
}

/// One step of a matrix with this gradient and with its dense copy.
fn as_its_copy(gradient: &Tensor) {
    let step = |gradient: &Tensor| {
        let w = Var::zeros(gradient.shape(), gradient.dtype(), &CPU).unwrap();
        let builder = Optimizer::builder(Sgd::new(0.5).momentum(0.5));
        let mut opt = CandleOptimizer::from_named([("w", w.clone())], builder).unwrap();
        for _ in 0..2 {
            opt.step(&grads(&[(&w, gradient)])).unwrap();
        }
        w.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let moved = step(gradient);
    assert_eq!(moved, step(&gradient.force_contiguous().unwrap()));
    assert!(moved.iter().any(|number| *number != moved[0]) || gradient.stride().contains(&0), "{moved:?}");
}

#[test]
fn gradients_of_any_layout_are_read_where_they_lie() {
    let matrix = Tensor::from_iter(numbers(3, 12).map(|x| x as f32), &CPU).unwrap().reshape((3, 4)).unwrap();
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let matrix = matrix.to_dtype(dtype).unwrap();
        as_its_copy(&matrix.t().unwrap());
        as_its_copy(&matrix.narrow(1, 1, 2).unwrap());
        as_its_copy(&matrix.narrow(0, 1, 2).unwrap());
        as_its_copy(&matrix.narrow(0, 1, 1).unwrap().broadcast_as((5, 4)).unwrap());
        as_its_copy(&Tensor::new(0.5_f32, &CPU).unwrap().to_dtype(dtype).unwrap().broadcast_as((2, 3)).unwrap());
    }
    let wide = matrix.to_dtype(DType::F64).unwrap().t().unwrap();
    let w = Var::zeros((4, 3), DType::F64, &CPU).unwrap();
    let builder = CandleBuilder::<_, f64>::new(Optimizer::builder(Sgd::new(1.0)));
    let mut opt = builder.for_named([("w", w.clone())]).unwrap();
    opt.step(&grads(&[(&w, &wide)])).unwrap();
    assert_eq!(values::<f64>(&w.neg().unwrap()), values::<f64>(&wide));
}

#[test]
fn a_gradient_may_have_another_type_than_its_variable() {
    let (full, half) = (Var::zeros(2, DType::F32, &CPU).unwrap(), Var::zeros(2, DType::BF16, &CPU).unwrap());
    let named = [("full", full.clone()), ("half", half.clone())];
    let mut opt = CandleOptimizer::from_named(named, Optimizer::builder(Sgd::new(1.0))).unwrap();
    let gradient = Tensor::new(&[1.0_f32, -2.0], &CPU).unwrap();
    opt.step(&grads(&[(&full, &gradient.to_dtype(DType::F16).unwrap()), (&half, &gradient)])).unwrap();
    assert_eq!(values::<f32>(&full), [-1.0, 2.0]);
    assert_eq!(values::<bf16>(&half), [-1.0, 2.0].map(bf16::from_f32));

    let refused = opt.step(&grads(&[(&full, &gradient.to_dtype(DType::F64).unwrap())]));
    assert!(matches!(refused, Err(Error::GradientType { found: DType::F64, .. })), "{refused:?}");
    assert_eq!((values::<f32>(&full), opt.engine().iterations()), (vec![-1.0, 2.0], 1));
}

#[test]
fn only_variables_with_a_gradient_move() {
    let [scalar, empty, still] = [(); 3].map(|()| Var::new(1.0_f32, &CPU).unwrap());
    let empty_shape = Var::zeros((0, 3), DType::F32, &CPU).unwrap();
    drop(empty);
    let named = [("scalar", scalar.clone()), ("empty", empty_shape.clone()), ("still", still.clone())];
    let mut opt = CandleOptimizer::from_named(named, Optimizer::builder(Nadam::new(0.1))).unwrap();
    let other = Tensor::new(3.0_f32, &CPU).unwrap();
    let mut store = (scalar.as_tensor() * &other).unwrap().backward().unwrap();
    store.insert(&empty_shape, empty_shape.zeros_like().unwrap());
    store.insert(&other, other.clone());
    assert_eq!(opt.without_gradient(&store).collect::<Vec<_>>(), ["still"]);
    opt.step(&store).unwrap();
    assert!(scalar.to_scalar::<f32>().unwrap() < 1.0);
    assert_eq!((still.to_scalar::<f32>().unwrap(), empty_shape.dims()), (1.0, &[0, 3][..]));

    let nothing = opt.step(&GradStore::default());
    assert!(matches!(nothing, Err(Error::Engine(optimizers::Error::NoGradients { variables: 3 }))), "{nothing:?}");
}

#[test]
fn accumulated_gradients_need_no_graph() {
    let w = Var::new(&[1.0_f32, 2.0], &CPU).unwrap();
    let builder = Optimizer::builder(Sgd::new(1.0)).accumulate(Accumulate::mean(3));
    let mut opt = CandleOptimizer::from_named([("w", w.clone())], builder).unwrap();
    for (step, factor) in [2.0, 4.0].into_iter().enumerate() {
        let report = opt.backward_step(&(w.sum_all().unwrap() * factor).unwrap()).unwrap();
        assert_eq!(report.outcome, Outcome::Accumulated { micro_step: step as u64 + 1, of: 3 });
        assert_eq!(values::<f32>(&w), [1.0, 2.0]);
    }
    assert!(opt.flush().unwrap().is_applied());
    assert_eq!(values::<f32>(&w), [-2.0, -1.0]);
    for _ in 0..3 {
        opt.backward_step(&w.sum_all().unwrap()).unwrap();
    }
    assert_eq!((values::<f32>(&w), opt.engine().iterations()), (vec![-3.0, -2.0], 2));
}

#[test]
fn losses_are_scaled_and_gradients_are_not() {
    let w = Var::new(&[1.0_f32, 2.0], &CPU).unwrap();
    let builder = Optimizer::builder(Sgd::new(0.5)).loss_scale(LossScale::fixed(1024.0)).global_clipnorm(100.0);
    let mut opt = CandleOptimizer::from_named([("w", w.clone())], builder).unwrap();
    let report = opt.backward_step(&w.sqr().unwrap().sum_all().unwrap()).unwrap();
    assert_eq!((values::<f32>(&w), report.global_norm), (vec![0.0, 0.0], Some(20.0_f64.sqrt())));
}

#[test]
fn options_hold_for_one_step() {
    let w = Var::new(0.0_f32, &CPU).unwrap();
    let mut opt = CandleOptimizer::from_named([("w", w.clone())], Optimizer::builder(Sgd::new(1.0))).unwrap();
    let gradient = Tensor::new(1.0_f32, &CPU).unwrap();
    let store = grads(&[(&w, &gradient)]);
    opt.step_with(&store, StepOptions::new().learning_rate(0.25).gradient_scale(2.0)).unwrap();
    opt.step(&store).unwrap();
    assert_eq!(w.to_scalar::<f32>().unwrap(), -1.5);
}

#[test]
fn averages_are_swapped_in_until_the_guard_is_dropped() {
    let [a, b] = [[8.0_f32, 4.0], [1.0, 1.0]].map(|values| Var::new(&values, &CPU).unwrap());
    let half = Var::new(&[bf16::ONE], &CPU).unwrap();
    let builder = Optimizer::builder(Sgd::new(0.25)).ema(Ema::new(0.5));
    let named = [("a", a.clone()), ("b", b.clone()), ("half", half.clone())];
    let mut opt = CandleOptimizer::from_named(named, builder).unwrap();
    assert!(opt.averages().is_err(), "there is no average before the first step");
    let loss = (a.sqr().unwrap().sum_all().unwrap() + half.to_dtype(DType::F32).unwrap().sum_all().unwrap()).unwrap();
    opt.backward_step(&loss).unwrap();
    let all = || (values::<f32>(&a), values::<f32>(&b), values::<bf16>(&half)[0].to_f32());
    assert_eq!(all(), (vec![4.0, 2.0], vec![1.0, 1.0], 0.75));
    {
        let averages = opt.averages().unwrap();
        assert_eq!(all(), (vec![6.0, 3.0], vec![1.0, 1.0], 0.875));
        assert_eq!(averages.engine().iterations(), 1);
    }
    assert_eq!(all(), (vec![4.0, 2.0], vec![1.0, 1.0], 0.75));

    // A forgotten guard swaps nothing back, and then no step is made on averages.
    std::mem::forget(opt.averages().unwrap());
    assert!(matches!(opt.backward_step(&loss), Err(Error::Engine(optimizers::Error::SwappedIn { .. }))));
    opt.with_variables(|engine, variables| Ok(engine.swap_back(variables)?)).unwrap();
    opt.finalize().unwrap();
    assert_eq!(all(), (vec![6.0, 3.0], vec![1.0, 1.0], 0.875));

    let mut plain = CandleOptimizer::from_named([("b", b)], Optimizer::builder(Sgd::new(0.25))).unwrap();
    assert!(matches!(plain.averages(), Err(Error::Engine(optimizers::Error::NoAverages))));
}

#[test]
fn the_rest_of_the_engine_is_lent_a_list() {
    let w = Var::new(&[[1.0_f32], [2.0], [3.0]], &CPU).unwrap();
    let builder = Optimizer::builder(Sgd::new(1.0)).moments(MomentStorage::Full);
    let mut opt = CandleOptimizer::from_named([("w", w.clone())], builder).unwrap();
    let rows = IndexedSlices::new(vec![2], ndarray::array![[1.0_f32]]);
    let report = opt.with_variables(|engine, mut variables| {
        Ok(engine.apply_gradients(variables.iter_mut().map(|variable| variable.reborrow().gradient(&rows)))?)
    });
    assert!(report.unwrap().is_applied());
    assert_eq!(values::<f32>(&w), [1.0, 2.0, 2.0]);
}

/// A layer that is made after the optimizer would never be trained.
#[test]
fn a_variable_that_comes_later_is_refused() {
    let map = VarMap::new();
    let get = |name| map.get(2, name, Init::Const(1.0), DType::F32, &CPU).unwrap();
    let first = get("first");
    let mut opt = CandleOptimizer::from_varmap(&map, Optimizer::builder(Sgd::new(0.5))).unwrap();
    assert!(opt.backward_step(&first.sum_all().unwrap()).unwrap().is_applied());
    let later = get("later");
    let refused = opt.backward_step(&(first + later).unwrap().sum_all().unwrap());
    assert!(matches!(refused, Err(Error::NewVariable { variable }) if variable == "later"));
    assert_eq!(opt.engine().iterations(), 1);
}
