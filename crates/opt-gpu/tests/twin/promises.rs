//! What the documents promise: launches, transfers, refusals, and that nothing is half done.

use opt_gpu::device::Device as _;
use opt_gpu::{BuildOn, DeviceError, Error, GpuOptimizer, GpuVariable};
use optimizers::rule::{Block, Done, Kernel, SlotSpec, Step, VariableScalars, VariableStep};
use optimizers::trace::Untraceable;
use optimizers::{
    Accumulate, Adam, Ema, Group, Hyper, Lookahead, MomentStorage, Optimizer, RectifiedAdam, Scalar, Sgd, UpdateRule,
    Variable, hyperparameters,
};

use crate::pair::{Pair, boxed, dense};
use crate::reference::{Counts, Reference};

/// A variable and its gradient.
type Buffers = [<Reference as opt_gpu::Device>::Buffer; 2];

/// A variable and a gradient of the same numbers.
fn buffers(device: &Reference, numbers: &[f32]) -> Buffers {
    [(); 2].map(|()| device.upload(numbers).unwrap())
}

fn step(
    optimizer: &mut GpuOptimizer<impl UpdateRule<f32>, Reference>,
    names: &[String],
    buffers: &[Buffers],
) -> Result<optimizers::StepReport, Error> {
    let variables = names.iter().zip(buffers);
    let variables = variables.map(|(name, [value, gradient])| GpuVariable::new(name, value).gradient(gradient));
    optimizer.apply_gradients(variables)
}

#[test]
fn a_thousand_tensors_take_one_launch_and_no_transfer() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).weight_decay(0.1).build_on(&device).unwrap();
    let names: Vec<String> = (0..1000).map(|i| format!("v{i}")).collect();
    let buffers: Vec<_> = names.iter().map(|_| buffers(&device, &[1.0; 3])).collect();
    step(&mut optimizer, &names, &buffers).unwrap();
    *device.counts.borrow_mut() = Counts::default();
    for _ in 0..3 {
        step(&mut optimizer, &names, &buffers).unwrap();
    }
    let counts = *device.counts.borrow();
    assert_eq!((counts.launches, counts.compiled), (3, 0));
    assert_eq!((counts.reads, counts.writes, counts.measured), (0, 0, 0));
}

/// A clip that changes some gradients and others not has two kernels.
#[test]
fn clips_of_single_tensors_take_two_launches() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).clipnorm(1.0).build_on(&device).unwrap();
    let names: Vec<String> = (0..100).map(|i| format!("v{i}")).collect();
    let buffers: Vec<_> = (0..100).map(|i| buffers(&device, &[0.02 * i as f32; 3])).collect();
    step(&mut optimizer, &names, &buffers).unwrap();
    let counts = *device.counts.borrow();
    assert_eq!((counts.launches, counts.measured, counts.compiled), (2, 100, 2));
}

#[test]
fn accumulation_allocates_in_the_first_step_alone() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).accumulate(Accumulate::mean(3)).build_on(&device).unwrap();
    let (names, buffers) = (["w".to_owned()], [buffers(&device, &[1.0; 3])]);
    let mut allocated = || {
        (0..3).for_each(|_| drop(step(&mut optimizer, &names, &buffers).unwrap()));
        std::mem::take(&mut *device.counts.borrow_mut()).allocated
    };
    // Of these, two are the variable and its gradient, one is the state, two are sums.
    assert_eq!([(); 3].map(|()| allocated()), [5, 0, 0]);
}

/// Slow weights, averages and masters start as copies of the variable.
#[test]
fn copies_of_variables_stay_on_the_device() {
    let device = Reference::default();
    let builder = Optimizer::builder(Lookahead::new(Adam::new(0.1))).ema(Ema::new(0.5));
    let mut optimizer = builder.build_on(&device).unwrap();
    let (value, gradient) = (device.upload(&[half::bf16::ONE; 3]).unwrap(), device.upload(&[1.0_f32; 3]).unwrap());
    *device.counts.borrow_mut() = Counts::default();
    optimizer.apply_gradients([GpuVariable::new("w", &value).gradient(&gradient)]).unwrap();
    let counts = *device.counts.borrow();
    assert_eq!((counts.reads, counts.writes, counts.launches), (0, 0, 2));
}

/// A rule has few structures, and each is compiled once.
#[test]
fn kernels_are_kept() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(RectifiedAdam::new(0.1)).build_on(&device).unwrap();
    let names = ["w".to_owned()];
    let buffers = [buffers(&device, &[1.0; 3])];
    for _ in 0..20 {
        step(&mut optimizer, &names, &buffers).unwrap();
    }
    assert_eq!(device.counts.borrow().compiled, 2, "before and after the threshold");
}

#[test]
fn a_device_that_fails_poisons_the_optimizer_until_it_is_restored() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Sgd::new(0.1).momentum(0.5)).build_on(&device).unwrap();
    let names = ["w".to_owned()];
    let buffers = [buffers(&device, &[1.0; 3])];
    step(&mut optimizer, &names, &buffers).unwrap();
    let state = optimizer.state().unwrap();
    device.counts.borrow_mut().fails_after = 1;
    let error = step(&mut optimizer, &names, &buffers).unwrap_err();
    assert!(matches!(error, Error::Device(DeviceError::Failed { .. })), "{error}");
    device.counts.borrow_mut().fails_after = 0;
    assert_eq!(step(&mut optimizer, &names, &buffers), Err(opt_core::Error::Poisoned.into()));
    assert_eq!(optimizer.state().unwrap_err(), opt_core::Error::Poisoned.into());
    optimizer.restore([GpuVariable::new("w", &buffers[0][0])], state).unwrap();
    assert_eq!(step(&mut optimizer, &names, &buffers).unwrap().iterations, 2);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let device = Reference::default();
    let mut pair: Pair<_, f32> = Pair::twice(&device, || boxed(Adam::new(0.1)));
    pair.step(&dense(0)).unwrap();
    let before = pair.gpu.state().unwrap();
    let (short, wide) = (device.upload(&[1.0_f32; 3]).unwrap(), device.upload(&[1.0_f64; 7]).unwrap());
    let refused = |pair: &mut Pair<Reference, f32>, variable: GpuVariable<'_, Reference>| {
        pair.gpu.apply_gradients([variable]).unwrap_err().to_string()
    };
    let bias = pair.buffers[1].clone();
    let variable = || GpuVariable::new("dense/bias", &bias);
    assert_eq!(
        refused(&mut pair, variable().gradient(&short)),
        "variable \"dense/bias\": gradient has shape [3], variable has [7]"
    );
    assert_eq!(refused(&mut pair, variable().gradient(&wide)), "the buffer is in F64, not in F32");
    let message = refused(&mut pair, variable().shape([2, 3].as_slice()));
    assert!(message.contains("dense/bias") && message.contains("[2, 3]"), "{message}");
    let message = refused(&mut pair, GpuVariable::new("dense/bias", &short));
    assert!(message.contains("[3]") && message.contains("[7]"), "{message}");
    assert_eq!(pair.gpu.state().unwrap(), before);
    pair.compare();
}

/// A kernel would read what it has changed.
#[test]
fn memory_that_is_used_twice_is_refused() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).build_on(&device).unwrap();
    let [a, b] = buffers(&device, &[1.0; 3]);
    let twice = [GpuVariable::new("a", &a).gradient(&b), GpuVariable::new("b", &a).gradient(&b)];
    let message = optimizer.apply_gradients(twice).unwrap_err().to_string();
    assert_eq!(message, "the buffer of variable \"b\" is also that of variable \"a\"");
    let crossed = [GpuVariable::new("a", &a).gradient(&b), GpuVariable::new("b", &b).gradient(&b)];
    let message = optimizer.apply_gradients(crossed).unwrap_err().to_string();
    assert_eq!(message, "the buffer of variable \"b\" is also that of the gradient of \"a\"");
    let several = device.allocate(&[opt_core::state::DType::F32; 2], 3).unwrap();
    let error = optimizer.apply_gradients([GpuVariable::new("a", &several).gradient(&b)]).unwrap_err();
    assert!(matches!(error, Error::Device(DeviceError::Failed { .. })), "{error}");
    // Two variables may have the same gradient.
    let fine = [GpuVariable::new("a", &a).gradient(&b), GpuVariable::new("c", &several)];
    assert!(optimizer.apply_gradients(fine).is_err());
    assert!(optimizer.apply_gradients([GpuVariable::new("a", &a).gradient(&b)]).unwrap().is_applied());
}

/// State that a device cannot have is refused before anything is assigned.
#[test]
fn sums_of_sparse_gradients_are_not_restored() {
    let builder = || Optimizer::builder(Adam::new(0.1)).accumulate(Accumulate::sum(2));
    let mut on_cpu = builder().build().unwrap();
    let mut w = ndarray::Array2::<f32>::zeros((4, 2));
    let values = ndarray::Array2::<f32>::ones((1, 2));
    on_cpu.apply_gradients([Variable::new("e", &mut w).sparse_gradient(&[2_usize], &values)]).unwrap();
    let device = Reference::default();
    let mut optimizer = builder().build_on(&device).unwrap();
    let [e, g] = buffers(&device, &[1.0; 8]);
    let variable = || GpuVariable::new("e", &e).shape([4, 2].as_slice());
    optimizer.apply_gradients([variable().gradient(&g)]).unwrap();
    let before = optimizer.state().unwrap();
    let message = optimizer.restore([variable()], on_cpu.weights()).unwrap_err().to_string();
    assert_eq!(message, "variable \"e\": the accumulation of a sparse gradient is not possible on a device");
    assert_eq!(optimizer.state().unwrap(), before);
    assert!(optimizer.apply_gradients([variable().gradient(&g)]).unwrap().is_applied());
    let message = GpuOptimizer::new(on_cpu, &device).unwrap_err().to_string();
    assert!(message.contains("the accumulation of a sparse gradient"), "{message}");
}

/// After a swap that failed halfway, only new state helps.
#[test]
fn a_swap_that_fails_poisons_until_the_state_is_restored() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).ema(Ema::new(0.5)).build_on(&device).unwrap();
    let (names, buffers) = (["w".to_owned()], [buffers(&device, &[1.0; 3])]);
    step(&mut optimizer, &names, &buffers).unwrap();
    let state = optimizer.state().unwrap();
    let variable = || GpuVariable::new("w", &buffers[0][0]);
    optimizer.swap_slot("average", [variable()]).unwrap();
    device.counts.borrow_mut().fails_after = 2;
    assert!(matches!(optimizer.swap_back([variable()]).unwrap_err(), Error::Device(_)));
    device.counts.borrow_mut().fails_after = 0;
    assert_eq!(optimizer.swap_back([variable()]), Err(opt_core::Error::Poisoned.into()));
    optimizer.restore([variable()], state).unwrap();
    assert!(step(&mut optimizer, &names, &buffers).unwrap().is_applied());
}

#[test]
fn sparse_gradients_that_no_kernel_is_made_for_are_refused() {
    let device = Reference::default();
    let values = device.upload(&[1.0_f32; 10]).unwrap();
    let embedding = device.upload(&[0.0_f32; 45]).unwrap();
    let twice = || GpuVariable::new("e", &embedding).shape([9, 5].as_slice()).sparse_gradient(&[4_usize, 4], &values);
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).build_on(&device).unwrap();
    let message = optimizer.apply_gradients([twice()]).unwrap_err().to_string();
    assert_eq!(message, "variable \"e\": a sparse gradient that names a row twice is not possible on a device");
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).accumulate(Accumulate::sum(2)).build_on(&device).unwrap();
    let once = GpuVariable::new("e", &embedding).shape([9, 5].as_slice()).sparse_gradient(&[4_usize, 2], &values);
    let message = optimizer.apply_gradients([once]).unwrap_err().to_string();
    assert_eq!(message, "variable \"e\": the accumulation of a sparse gradient is not possible on a device");
    assert_eq!(optimizer.variables().count(), 0);
}

/// A group that has variables only in a step that is refused has none.
#[test]
fn a_refused_step_leaves_no_trace_in_groups() {
    let device = Reference::default();
    let group = Group::matching("^a$").named("first").learning_rate_scale(0.5);
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).group(group).build_on(&device).unwrap();
    let ([a, g], values) = (buffers(&device, &[1.0; 3]), device.upload(&[1.0_f32; 2]).unwrap());
    let embedding = device.upload(&[0.0_f32; 4]).unwrap();
    let twice = GpuVariable::new("e", &embedding).sparse_gradient(&[1_usize, 1], &values);
    let error = optimizer.apply_gradients([GpuVariable::new("a", &a).gradient(&g), twice]).unwrap_err();
    assert!(matches!(error, Error::Optimizer(opt_core::Error::OnDevice { .. })), "{error}");
    let error = optimizer.apply_gradients([GpuVariable::new("b", &a).gradient(&g)]).unwrap_err();
    assert!(matches!(error, Error::Optimizer(opt_core::Error::EmptyGroup { .. })), "{error}");
}

hyperparameters! {
    /// Moves by the sign of the gradient, found by a comparison.
    #[derive(Debug, Clone)]
    struct Signs {
        learning_rate: Hyper = 0.1, in 0.0.., "learning rate";
    }
    rule "Signs"
}

struct Compares;

impl<T: Scalar> Kernel<T> for Compares {
    fn update(&self, mut block: Block<'_, T>) -> Done {
        let parts = block.parts();
        for (w, &g) in parts.value.iter_mut().zip(parts.gradient.unwrap_or_default()) {
            *w = if g > T::zero() { T::zero() } else { g };
        }
        block.done()
    }

    fn visits_untouched_rows(&self) -> bool {
        false
    }
}

impl<T: Scalar> UpdateRule<T> for Signs {
    fn slots(&self) -> Vec<SlotSpec> {
        Vec::new()
    }

    fn begin_step(&self, _step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        Box::new(Compares)
    }
}

hyperparameters! {
    /// Multiplies every other gradient by a number of the variable: 1, or 2 if its name is `odd`.
    #[derive(Debug, Clone)]
    struct Stripes {
        learning_rate: Hyper = 0.1, in 0.0.., "learning rate";
    }
    rule "Stripes"
}

struct Striped;

impl<T: Scalar> Kernel<T> for Striped {
    fn begin_variable(&self, variable: &VariableStep<'_>, _scalars: &mut [f64]) -> VariableScalars {
        [if variable.name == "odd" { 2.0 } else { 1.0 }, 0.0, 0.0, 0.0]
    }

    fn update(&self, mut block: Block<'_, T>) -> Done {
        let factors = [1.0, block.variable_scalars()[0]].map(T::literal);
        let parts = block.parts();
        let gradient = parts.gradient.unwrap_or_default();
        for ((w, &g), factor) in parts.value.iter_mut().zip(gradient).zip(factors.into_iter().cycle()) {
            *w = *w - factor * g;
        }
        block.done()
    }

    fn visits_untouched_rows(&self) -> bool {
        false
    }
}

impl<T: Scalar> UpdateRule<T> for Stripes {
    fn slots(&self) -> Vec<SlotSpec> {
        Vec::new()
    }

    fn begin_step(&self, _step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        Box::new(Striped)
    }
}

/// Variables of the same graph are recorded again for their numbers, and checked again.
#[test]
fn a_rule_that_treats_elements_by_place_is_found_in_any_variable() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Stripes::default()).build_on(&device).unwrap();
    let names = ["even", "odd"].map(str::to_owned);
    let buffers = [(); 2].map(|()| buffers(&device, &[1.0; 3]));
    assert!(step(&mut optimizer, &names[..1], &buffers[..1]).unwrap().is_applied());
    let error = step(&mut optimizer, &names, &buffers).unwrap_err();
    let Error::Optimizer(opt_core::Error::Untraceable { variable, reason, .. }) = error else { panic!("{error}") };
    assert_eq!((variable.as_str(), reason), ("odd", Untraceable::ByPlace));
}

#[test]
fn optimizers_in_64_bits_have_no_variables_in_16_bits() {
    let device = Reference::default();
    let mut optimizer = GpuOptimizer::new(Optimizer::<_, f64>::new(Adam::new(0.1)).unwrap(), &device).unwrap();
    let (full, half) = (device.upload(&[1.0_f64; 3]).unwrap(), device.upload(&[half::f16::ONE; 3]).unwrap());
    for [value, gradient] in [[&half, &full], [&full, &half]] {
        let error = optimizer.apply_gradients([GpuVariable::new("w", value).gradient(gradient)]).unwrap_err();
        assert!(matches!(error, Error::Device(DeviceError::Type { .. })), "{error}");
    }
    assert_eq!(optimizer.iterations(), 0);
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let device = Reference::default();
    let refused = |builder: optimizers::OptimizerBuilder<Sgd>| match builder.build_on(&device).unwrap_err() {
        Error::Optimizer(opt_core::Error::Untraceable { reason, .. }) => reason,
        other => panic!("{other}"),
    };
    let momentum = || Optimizer::builder(Sgd::new(0.1).momentum(0.9));
    assert_eq!(refused(momentum().moments(MomentStorage::Float8 { seed: 1 })), Untraceable::Moments);

    let mut optimizer = Optimizer::builder(Signs::default()).ema(Ema::new(0.5)).build_on(&device).unwrap();
    let error = step(&mut optimizer, &["w".to_owned()], &[buffers(&device, &[1.0; 3])]).unwrap_err();
    let Error::Optimizer(opt_core::Error::Untraceable { variable, rule, reason }) = error else { panic!("{error}") };
    assert_eq!((variable.as_str(), rule.as_str(), reason), ("w", "Signs", Untraceable::Compared));
    assert_eq!((optimizer.iterations(), optimizer.variables().count()), (0, 0));
}

#[test]
fn a_variable_without_elements_is_a_variable() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).clipnorm(1.0).build_on(&device).unwrap();
    let (names, buffers) = (["none", "one"].map(str::to_owned), [buffers(&device, &[]), buffers(&device, &[1.0])]);
    assert!(step(&mut optimizer, &names, &buffers).unwrap().is_applied());
    assert_eq!(optimizer.variables().count(), 2);
    assert_eq!(optimizer.with_optimizer(|optimizer| optimizer.slot_names().len()).unwrap(), 2);
}

/// `Pair` itself must be able to fail.
#[test]
fn a_difference_is_found() {
    let found = std::panic::catch_unwind(|| {
        let mut pair: Pair<_, f32> = Pair::twice(&Reference::default(), || boxed(Adam::new(0.1)));
        pair.values[0][[32, 6]] += 1e-5;
        let _ = pair.step(&dense(0));
    });
    let message = found.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("dense/kernel[230]: "), "{message}");
}
