//! A network of two dense layers, and its gradients by hand.
//!
//! ```text
//! h = tanh(x W1 + b1)
//! p = softmax(h W2 + b2)
//! loss = mean of -ln p[label]
//! ```
//!
//! Products, sums and the loss are computed in f32. Every array that a layer hands on or keeps (outputs, gradients,
//! variables) is rounded to the model's element type.

use ndarray::{Array, Array1, Array2, Axis, Dimension};
use optimizers::Parameters;
use optimizers::model::Stored;

use crate::digits::{CLASSES, Images, PIXELS};
use crate::random::Random;

const HIDDEN: usize = 32;

/// The type of the numbers in a model's arrays.
pub(crate) trait Element: Stored<f32> + Copy {
    fn round(number: f32) -> Self;

    fn widen(self) -> f32;
}

impl Element for f32 {
    fn round(number: f32) -> Self {
        number
    }

    fn widen(self) -> f32 {
        self
    }
}

/// One layer: `x W + b`.
#[derive(Debug, Clone, PartialEq, Parameters)]
struct Dense<E = f32> {
    kernel: Array2<E>,
    bias: Array1<E>,
}

/// The network; its variables are `hidden.kernel`, `hidden.bias`, `output.kernel` and `output.bias`.
///
/// A second value of the type holds the gradients.
#[derive(Debug, Clone, PartialEq, Parameters)]
pub(crate) struct Mlp<E = f32> {
    hidden: Dense<E>,
    output: Dense<E>,
}

impl<E: Element> Dense<E> {
    /// Kernel by Glorot and Bengio (2010), bias 0.
    fn new(inputs: usize, outputs: usize, random: &mut Random) -> Self {
        let limit = (6.0 / (inputs + outputs) as f32).sqrt();
        let kernel = Array2::from_shape_simple_fn((inputs, outputs), || E::round(random.within(limit)));
        Self { kernel, bias: Array1::from_elem(outputs, E::round(0.0)) }
    }

    fn forward(&self, x: &Array2<f32>) -> Array2<f32> {
        rounded::<E, _>(x.dot(&self.kernel.mapv(E::widen)) + self.bias.mapv(E::widen))
    }

    /// The gradient of the input, from the gradient `dz` of the output.
    fn backward(&self, dz: &Array2<f32>) -> Array2<f32> {
        dz.dot(&self.kernel.t().mapv(E::widen))
    }

    /// The gradients of kernel and bias, from the input and the gradient `dz` of the output.
    fn gradients(x: &Array2<f32>, dz: &Array2<f32>) -> Self {
        Self { kernel: x.t().dot(dz).mapv(E::round), bias: dz.sum_axis(Axis(0)).mapv(E::round) }
    }
}

impl<E: Element> Mlp<E> {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self { hidden: Dense::new(PIXELS, HIDDEN, random), output: Dense::new(HIDDEN, CLASSES, random) }
    }

    /// The gradients of the loss over a batch, multiplied by `loss_scale`.
    pub(crate) fn gradients(&self, batch: &Images, loss_scale: f64) -> Self {
        let (h, logits) = self.forward(batch);
        let mut dz = log_softmax(&logits).exp();
        for (mut row, &label) in dz.rows_mut().into_iter().zip(&batch.labels) {
            row[label] -= 1.0;
        }
        dz *= loss_scale as f32;
        dz /= batch.len() as f32;
        let dz = rounded::<E, _>(dz);
        let dh = rounded::<E, _>(self.output.backward(&dz) * (1.0 - &h * &h));
        Self { hidden: Dense::gradients(&batch.pixels, &dh), output: Dense::gradients(&h, &dz) }
    }

    /// The loss over images, and the fraction of them that is recognised: the label's score is above all others.
    pub(crate) fn evaluate(&self, images: &Images) -> Evaluation {
        let scores = log_softmax(&self.forward(images).1);
        let (mut loss, mut right) = (0.0, 0.0);
        for (row, &label) in scores.rows().into_iter().zip(&images.labels) {
            loss -= f64::from(row[label]);
            let wins = |(class, &score): (usize, &f32)| class == label || score < row[label];
            right += f64::from(row.iter().enumerate().all(wins));
        }
        let count = images.len() as f64;
        Evaluation { loss: loss / count, accuracy: right / count }
    }

    /// The hidden layer, and the output before the softmax.
    fn forward(&self, images: &Images) -> (Array2<f32>, Array2<f32>) {
        let h = rounded::<E, _>(self.hidden.forward(&images.pixels).tanh());
        let logits = self.output.forward(&h);
        (h, logits)
    }
}

/// The quality of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Evaluation {
    pub(crate) loss: f64,
    /// From 0 to 1.
    pub(crate) accuracy: f64,
}

/// Rounds to numbers that the element type can hold: large ones may become infinite, and small ones zero.
fn rounded<E: Element, D: Dimension>(numbers: Array<f32, D>) -> Array<f32, D> {
    numbers.mapv_into(|number| E::round(number).widen())
}

/// The logarithm of the softmax of each row. The largest number is subtracted first, so that nothing overflows.
fn log_softmax(logits: &Array2<f32>) -> Array2<f32> {
    let mut result = logits.clone();
    for mut row in result.rows_mut() {
        let largest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row -= largest;
        let log_sum = row.exp().sum().ln();
        row -= log_sum;
    }
    result
}

#[cfg(test)]
#[path = "model/tests.rs"] // another example has this module, too
mod tests;
