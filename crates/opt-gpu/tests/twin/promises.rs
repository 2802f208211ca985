//! What the documents promise: launches, transfers, refusals, and that nothing is half done.

use opt_gpu::device::Device as _;
use opt_gpu::{BuildOn, DeviceError, Error, GpuOptimizer, GpuVariable};
use optimizers::rule::{Block, Done, Kernel, SlotSpec, Step};
use optimizers::trace::Untraceable;
use optimizers::{
    Accumulate, Adam, Ema, Hyper, MomentStorage, Optimizer, RectifiedAdam, Scalar, Sgd, UpdateRule, hyperparameters,
};

use crate::pair::{Pair, boxed, dense};
use crate::reference::{Counts, Reference};

/// Makes a step with the same numbers as gradients.
fn step(
    optimizer: &mut GpuOptimizer<impl UpdateRule<f32>, Reference>,
    names: &[String],
    buffers: &[<Reference as opt_gpu::Device>::Buffer],
) -> Result<optimizers::StepReport, Error> {
    let variables = names.iter().zip(buffers);
    optimizer.apply_gradients(variables.map(|(name, buffer)| GpuVariable::new(name, buffer).gradient(buffer)))
}

#[test]
fn a_thousand_tensors_take_one_launch_and_no_transfer() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).weight_decay(0.1).build_on(&device).unwrap();
    let names: Vec<String> = (0..1000).map(|i| format!("v{i}")).collect();
    let buffers: Vec<_> = names.iter().map(|_| device.upload(&[1.0_f32; 3]).unwrap()).collect();
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
    let buffers: Vec<_> = (0..100).map(|i| device.upload(&[0.02_f32 * i as f32; 3]).unwrap()).collect();
    step(&mut optimizer, &names, &buffers).unwrap();
    let counts = *device.counts.borrow();
    assert_eq!((counts.launches, counts.measured, counts.compiled), (2, 100, 2));
}

/// A rule has few structures, and each is compiled once.
#[test]
fn kernels_are_kept() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(RectifiedAdam::new(0.1)).build_on(&device).unwrap();
    let names = ["w".to_owned()];
    let buffers = [device.upload(&[1.0_f32; 3]).unwrap()];
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
    let buffers = [device.upload(&[1.0_f32; 3]).unwrap()];
    step(&mut optimizer, &names, &buffers).unwrap();
    let state = optimizer.state().unwrap();
    device.counts.borrow_mut().fails_after = 1;
    let error = step(&mut optimizer, &names, &buffers).unwrap_err();
    assert!(matches!(error, Error::Device(DeviceError::Failed { .. })), "{error}");
    device.counts.borrow_mut().fails_after = 0;
    assert_eq!(step(&mut optimizer, &names, &buffers), Err(opt_core::Error::Poisoned.into()));
    assert_eq!(optimizer.state().unwrap_err(), opt_core::Error::Poisoned.into());
    optimizer.restore([GpuVariable::new("w", &buffers[0])], state).unwrap();
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
    let message = refused(&mut pair, variable().shape([2, 3].as_slice()).gradient(&bias));
    assert!(message.contains("dense/bias") && message.contains("[2, 3]"), "{message}");
    let message = refused(&mut pair, GpuVariable::new("dense/bias", &short).gradient(&short));
    assert!(message.contains("[3]") && message.contains("[7]"), "{message}");
    assert_eq!(pair.gpu.state().unwrap(), before);
    pair.compare();
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

#[test]
fn what_cannot_be_recorded_is_refused() {
    let device = Reference::default();
    let refused = |builder: optimizers::OptimizerBuilder<Sgd>| match builder.build_on(&device).unwrap_err() {
        Error::Optimizer(opt_core::Error::Untraceable { reason, .. }) => reason,
        other => panic!("{other}"),
    };
    let momentum = || Optimizer::builder(Sgd::new(0.1).momentum(0.9));
    assert_eq!(refused(momentum().moments(MomentStorage::Bf16 { seed: 1 })), Untraceable::Moments);

    let mut optimizer = Optimizer::builder(Signs::default()).ema(Ema::new(0.5)).build_on(&device).unwrap();
    let w = device.upload(&[1.0_f32; 3]).unwrap();
    let error = optimizer.apply_gradients([GpuVariable::new("w", &w).gradient(&w)]).unwrap_err();
    let Error::Optimizer(opt_core::Error::Untraceable { variable, rule, reason }) = error else { panic!("{error}") };
    assert_eq!((variable.as_str(), rule.as_str(), reason), ("w", "Signs", Untraceable::Compared));
    assert_eq!((optimizer.iterations(), optimizer.variables().count()), (0, 0));
}

#[test]
fn a_variable_without_elements_is_a_variable() {
    let device = Reference::default();
    let mut optimizer = Optimizer::builder(Adam::new(0.1)).clipnorm(1.0).build_on(&device).unwrap();
    let (none, one) = (device.upload::<f32>(&[]).unwrap(), device.upload(&[1.0_f32]).unwrap());
    let variables = [GpuVariable::new("none", &none).gradient(&none), GpuVariable::new("one", &one).gradient(&one)];
    assert!(optimizer.apply_gradients(variables).unwrap().is_applied());
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
