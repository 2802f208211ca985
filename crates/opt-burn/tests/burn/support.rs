//! Modules and gradients with given numbers.

use burn_core as burn;
use burn_core::module::{Module, Param, ParamId};
use burn_core::tensor::{Device, Tensor, TensorData};
use burn_nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn_optim::GradientsParams;
use opt_burn::{BurnOptimizer, ModuleValues};
use optimizers::{Gradients, Optimizer, OptimizerBuilder, UpdateRule};

pub(crate) type Vector = Param<Tensor<1>>;
pub(crate) type Matrix = Param<Tensor<2>>;

pub(crate) fn device() -> Device {
    Device::flex().autodiff()
}

pub(crate) fn vector<const N: usize>(numbers: [f32; N]) -> Vector {
    Vector::from_data(numbers, &device())
}

pub(crate) fn numbers<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
    param.val().into_data().try_into_vec_as::<f32>().unwrap()
}

/// An optimizer with default options.
pub(crate) fn plain<R: UpdateRule<f32>>(rule: R) -> BurnOptimizer<R> {
    built(Optimizer::builder(rule))
}

pub(crate) fn built<R: UpdateRule<f32>>(builder: OptimizerBuilder<R, f32>) -> BurnOptimizer<R> {
    BurnOptimizer::new(builder).unwrap()
}

/// Gradients of some parameters.
#[derive(Default)]
pub(crate) struct Given(pub(crate) GradientsParams);

impl Given {
    pub(crate) fn with<const D: usize>(mut self, id: ParamId, tensor: Tensor<D>) -> Self {
        self.0.register(id, tensor);
        self
    }
}

/// A gradient for one vector.
pub(crate) fn gradient<const N: usize>(param: &Vector, numbers: [f32; N]) -> GradientsParams {
    Given::default().with(param.id, Tensor::<1>::from_data(numbers, &Device::flex())).0
}

/// A network with running means.
#[derive(Module, Debug)]
pub(crate) struct Network {
    pub(crate) input: Linear,
    pub(crate) norm: BatchNorm,
    pub(crate) hidden: Vec<Linear>,
    pub(crate) output: Option<Linear>,
}

impl Network {
    /// The same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        let device = device();
        let linear = |from, to, seed| {
            let linear = LinearConfig::new(from, to).init(&device);
            let data = |length: usize, seed| TensorData::new(randoms(length, seed), [length]);
            let weight = Tensor::<1>::from_data(data(from * to, seed), &device).reshape([from, to]);
            let bias = Tensor::<1>::from_data(data(to, seed + 1), &device);
            Linear {
                weight: linear.weight.map(|_| weight.detach().require_grad()),
                bias: linear.bias.map(|param| param.map(|_| bias.require_grad())),
            }
        };
        Self {
            input: linear(5, 6, seed),
            norm: BatchNormConfig::new(6).init(&device),
            hidden: vec![linear(6, 6, seed + 2), linear(6, 6, seed + 4)],
            output: Some(linear(6, 1, seed + 6)),
        }
    }

    /// A loss on data of its own.
    pub(crate) fn loss(&self, step: u64) -> Tensor<1> {
        let data = TensorData::new(randoms(8 * 5, 1_000 + step), [8, 5]);
        let mut x = self.norm.forward(self.input.forward(Tensor::<2>::from_data(data, &device())));
        for layer in &self.hidden {
            x = layer.forward(x).tanh();
        }
        self.output.as_ref().map_or(x.clone(), |output| output.forward(x)).square().mean()
    }

    pub(crate) fn gradients(&self, step: u64) -> GradientsParams {
        GradientsParams::from_grads(self.loss(step).backward(), self)
    }
}

/// Numbers from -0.5 to 0.5, without a zero.
pub(crate) fn randoms(length: usize, seed: u64) -> Vec<f32> {
    let mut rng = opt_conformance::problem::Rng(seed);
    (0..length).map(|_| rng.number() as f32 / 4.0 + 1e-3).collect()
}

/// The bits of all float parameters, with their names.
pub(crate) fn bits<M: Module>(module: &M) -> Vec<(String, Vec<u32>)> {
    let values = ModuleValues::read(module).unwrap();
    let bits = |(name, gradient)| {
        let optimizers::Gradient::Dense(view) = gradient else { panic!("{name}: sparse") };
        let bits = view.array().unwrap().iter().map(|number: &f32| number.to_bits()).collect();
        (name, bits)
    };
    values.gradients().into_iter().map(bits).collect()
}

/// Fails unless two lists agree to the roundings of some steps.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let close = (got - want).abs() <= 8.0 * f32::EPSILON * want.abs().max(0.5);
        assert!(close, "element {i}: got {got}, want {want}");
    }
}
