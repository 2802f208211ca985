//! The same training on the CPU and on a device.

use ndarray::{ArrayD, IxDyn};
use opt_conformance::forms::Builder;
use opt_conformance::recording::are_same;
use opt_gpu::device::{Device, Element};
use opt_gpu::{Error, GpuOptimizer, GpuVariable};
use optimizers::state::StateValue;
use optimizers::{DynOptimizer, Optimizer, StepOptions, StepReport, UpdateRule, Variable};

type Rule<T> = Box<dyn UpdateRule<T>>;

/// A gradient on the host.
#[derive(Debug, Clone)]
pub(crate) enum Gradient<T> {
    Missing,
    Dense(Vec<T>),
    Rows(Vec<usize>, Vec<T>),
}

/// The variables of a training, by name and shape.
pub(crate) const VARIABLES: [(&str, &[usize]); 4] =
    [("dense/kernel", &[33, 7]), ("dense/bias", &[7]), ("embedding", &[9, 5]), ("temperature", &[])];

/// A training on the CPU and on a device, step by step.
pub(crate) struct Pair<D: Device, T> {
    pub(crate) device: D,
    pub(crate) cpu: DynOptimizer<T>,
    pub(crate) gpu: GpuOptimizer<Rule<T>, D, T>,
    pub(crate) names: Vec<(String, Vec<usize>)>,
    pub(crate) values: Vec<ArrayD<T>>,
    pub(crate) buffers: Vec<D::Buffer>,
    /// The largest relative difference: 0 means the same bits.
    pub(crate) tolerance: f64,
}

impl<D: Device, T: Element> Pair<D, T> {
    /// Builds the optimizer of each side.
    pub(crate) fn twice(device: &D, builder: impl Fn() -> Builder<T>) -> Self {
        Self::new(device, builder(), builder())
    }

    pub(crate) fn new(device: &D, of_cpu: Builder<T>, of_gpu: Builder<T>) -> Self {
        let variables = VARIABLES.iter().enumerate().map(|(seed, (name, shape))| {
            let len = shape.iter().product();
            ((*name).to_owned(), ArrayD::from_shape_vec(IxDyn(shape), dyadic(seed as u64 + 1, len)).unwrap())
        });
        let cpu = of_cpu.build().unwrap();
        let gpu = GpuOptimizer::new(of_gpu.build().unwrap(), device).unwrap();
        Self::of(device, cpu, gpu, variables.collect())
    }

    pub(crate) fn of(
        device: &D,
        cpu: DynOptimizer<T>,
        gpu: GpuOptimizer<Rule<T>, D, T>,
        variables: Vec<(String, ArrayD<T>)>,
    ) -> Self {
        let buffers = variables.iter().map(|(_, value)| device.upload(value.as_slice().unwrap()).unwrap()).collect();
        let names = variables.iter().map(|(name, value)| (name.clone(), value.shape().to_vec())).collect();
        let values = variables.into_iter().map(|(_, value)| value).collect();
        Self { device: device.clone(), cpu, gpu, names, values, buffers, tolerance: 0.0 }
    }

    /// The variables on the device, without gradients.
    pub(crate) fn on_device(&self) -> Vec<GpuVariable<'_, D>> {
        on_device(&self.names, &self.buffers)
    }

    /// One step on both; the reports, errors and numbers must be the same.
    pub(crate) fn step(&mut self, gradients: &[Gradient<T>]) -> Result<StepReport, opt_core::Error> {
        self.step_with(gradients, StepOptions::default())
    }

    pub(crate) fn step_with(
        &mut self,
        gradients: &[Gradient<T>],
        options: StepOptions,
    ) -> Result<StepReport, opt_core::Error> {
        let uploaded: Vec<Option<D::Buffer>> = gradients
            .iter()
            .map(|gradient| match gradient {
                Gradient::Missing => None,
                Gradient::Dense(values) | Gradient::Rows(_, values) => Some(self.device.upload(values).unwrap()),
            })
            .collect();
        let given = on_device(&self.names, &self.buffers).into_iter().zip(gradients).zip(&uploaded);
        let given = given.map(|((variable, gradient), buffer)| match (gradient, buffer) {
            (Gradient::Rows(rows, _), Some(values)) => variable.sparse_gradient(rows, values),
            (_, Some(values)) => variable.gradient(values),
            (_, None) => variable,
        });
        let on_device = self.gpu.apply_gradients_with(given, options);

        let arrays: Vec<Option<ArrayD<T>>> = gradients
            .iter()
            .zip(&self.names)
            .map(|(gradient, (_, shape))| match gradient {
                Gradient::Missing => None,
                Gradient::Dense(values) => Some(ArrayD::from_shape_vec(IxDyn(shape), values.clone()).unwrap()),
                Gradient::Rows(rows, values) => {
                    let shape = [&[rows.len()], &shape[1..]].concat();
                    Some(ArrayD::from_shape_vec(IxDyn(&shape), values.clone()).unwrap())
                }
            })
            .collect();
        let variables = self.names.iter().zip(&mut self.values).map(|((name, _), value)| Variable::new(name, value));
        let given =
            variables.zip(gradients).zip(&arrays).map(|((variable, gradient), array)| match (gradient, array) {
                (Gradient::Rows(rows, _), Some(values)) => variable.sparse_gradient(rows, values),
                (_, Some(values)) => variable.gradient(values),
                (_, None) => variable,
            });
        let on_cpu = self.cpu.apply_gradients_with(given, options);
        self.compare();
        let on_device = on_device.map_err(|error| match error {
            Error::Optimizer(error) => error,
            other => panic!("{other}"),
        });
        if self.tolerance == 0.0 {
            assert_eq!(format!("{on_device:?}"), format!("{on_cpu:?}"), "reports");
        } else {
            assert_eq!(on_device.is_ok(), on_cpu.is_ok(), "{on_device:?}, {on_cpu:?}");
        }
        on_cpu
    }

    /// Compares the variables, the step counters, the loss scales and all state.
    pub(crate) fn compare(&mut self) {
        for (((name, _), value), buffer) in self.names.iter().zip(&self.values).zip(&self.buffers) {
            let got: Vec<T> = self.device.download(buffer, 0).unwrap();
            same(&got, value.as_slice().unwrap(), self.tolerance, name);
        }
        assert_eq!(self.gpu.iterations(), self.cpu.iterations());
        assert_eq!(self.gpu.loss_scale(), self.cpu.loss_scale());
        assert_eq!(self.gpu.micro_step(), self.cpu.micro_step());
        let (got, want) = (self.gpu.state(), self.cpu.state().map(|_| self.cpu.weights()));
        match (got, want) {
            (Ok(got), Ok(want)) => {
                assert_eq!(got.len(), want.len());
                for (got, want) in got.iter().zip(want) {
                    assert_eq!((&got.name, got.variable), (&want.name, want.variable));
                    same_value(&got.value, &want.value, self.tolerance, &want.name);
                }
            }
            (got, want) => assert_eq!(got.unwrap_err(), Error::Optimizer(want.err().unwrap())),
        }
    }
}

fn on_device<'a, D: Device>(names: &'a [(String, Vec<usize>)], buffers: &'a [D::Buffer]) -> Vec<GpuVariable<'a, D>> {
    let variable = |((name, shape), buffer): (&'a (String, Vec<usize>), &'a D::Buffer)| {
        GpuVariable::new(name, buffer).shape(shape.as_slice())
    };
    names.iter().zip(buffers).map(variable).collect()
}

pub(crate) fn same_value<T: Element>(got: &StateValue<'_, T>, want: &StateValue<'_, T>, tolerance: f64, what: &str) {
    match (got, want) {
        (StateValue::Array(got), StateValue::Array(want)) => {
            assert_eq!(got.shape(), want.shape(), "{what}");
            let numbers = |array: &ndarray::CowArray<'_, T, IxDyn>| array.iter().copied().collect::<Vec<T>>();
            same(&numbers(got), &numbers(want), tolerance, what);
        }
        (StateValue::Scalar(got), StateValue::Scalar(want)) => same(&[*got], &[*want], tolerance, what),
        (StateValue::Iterations(got), StateValue::Iterations(want)) => assert_eq!(got, want, "{what}"),
        _ => panic!("{what}: {got:?}, {want:?}"),
    }
}

pub(crate) fn same<T: Element>(got: &[T], want: &[T], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let [a, b]: [f64; 2] = [got.as_(), want.as_()];
        let is_close = are_same(got, want) || (a - b).abs() <= tolerance * (b.abs() + tolerance);
        assert!(is_close, "{what}[{i}]: {a:e} on the device, {b:e} on the CPU");
    }
}

/// Numbers of few digits: the sums of their squares are exact in any order.
pub(crate) fn dyadic<T: Element>(seed: u64, len: usize) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) % 257) as f64 / 64.0 - 2.0
    };
    (0..len).map(|_| T::literal(next())).collect()
}

/// A dense gradient of each variable.
pub(crate) fn dense<T: Element>(step: u64) -> Vec<Gradient<T>> {
    let len = |shape: &[usize]| shape.iter().product();
    let of = |(seed, (_, shape)): (u64, &(&str, &[usize]))| Gradient::Dense(dyadic(100 * step + seed + 7, len(shape)));
    (0..).zip(&VARIABLES).map(of).collect()
}

/// An optimizer with a boxed rule.
pub(crate) fn boxed<T: Element>(rule: impl UpdateRule<T> + 'static) -> Builder<T> {
    Optimizer::builder(rule).boxed()
}
