//! The network.

use burn_core as burn;
use burn_core::module::Module;
use burn_core::tensor::activation::relu;
use burn_core::tensor::{Device, Tensor};
use burn_nn::conv::{Conv2d, Conv2dConfig};
use burn_nn::loss::CrossEntropyLossConfig;
use burn_nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn_nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};

use crate::data::Batch;

/// Two convolutions with normalization, and a linear layer.
#[derive(Module, Debug)]
pub(crate) struct Network {
    first: Conv2d,
    first_norm: BatchNorm,
    second: Conv2d,
    second_norm: BatchNorm,
    pool: MaxPool2d,
    output: Linear,
}

impl Network {
    pub(crate) fn new(device: &Device) -> Self {
        let convolution = |from, to| {
            Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
        };
        Self {
            first: convolution(1, 16),
            first_norm: BatchNormConfig::new(16).init(device),
            second: convolution(16, 32),
            second_norm: BatchNormConfig::new(32).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            output: LinearConfig::new(32 * 4 * 4, 10).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.first_norm.forward(self.first.forward(images)));
        let x = relu(self.second_norm.forward(self.second.forward(x)));
        self.output.forward(self.pool.forward(x).flatten(1, 3))
    }

    /// The mean cross entropy.
    pub(crate) fn loss(&self, batch: Batch) -> Tensor<1> {
        let logits = self.forward(batch.images);
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.digits)
    }

    /// The part of the images whose digit is recognised.
    pub(crate) fn correct(&self, batch: Batch) -> f64 {
        let count = batch.digits.dims()[0];
        let found = self.forward(batch.images).argmax(1).flatten::<1>(0, 1);
        let correct: i64 = found.equal(batch.digits).int().sum().into_scalar();
        correct as f64 / count as f64
    }
}
