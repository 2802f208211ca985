//! A network of two dense layers, and its gradients by hand.
//!
//! ```text
//! h = tanh(x W1 + b1)
//! p = softmax(h W2 + b2)
//! loss = mean of -ln p[label]
//! ```

use ndarray::{Array1, Array2, Axis};
use optimizers::Parameters;

use crate::digits::{CLASSES, Images, PIXELS};
use crate::random::Random;

const HIDDEN: usize = 32;

/// One layer: `x W + b`.
#[derive(Debug, Clone, PartialEq, Parameters)]
struct Dense {
    kernel: Array2<f32>,
    bias: Array1<f32>,
}

/// The network; its variables are `hidden.kernel`, `hidden.bias`, `output.kernel` and `output.bias`.
///
/// A second value of the type holds the gradients.
#[derive(Debug, Clone, PartialEq, Parameters)]
pub(crate) struct Mlp {
    hidden: Dense,
    output: Dense,
}

impl Dense {
    /// Kernel by Glorot and Bengio (2010), bias 0.
    fn new(inputs: usize, outputs: usize, random: &mut Random) -> Self {
        let limit = (6.0 / (inputs + outputs) as f32).sqrt();
        let kernel = Array2::from_shape_simple_fn((inputs, outputs), || random.within(limit));
        Self { kernel, bias: Array1::zeros(outputs) }
    }

    fn forward(&self, x: &Array2<f32>) -> Array2<f32> {
        x.dot(&self.kernel) + &self.bias
    }

    /// The gradients of kernel and bias, from the input and the gradient `dz` of the output.
    fn gradients(x: &Array2<f32>, dz: &Array2<f32>) -> Self {
        Self { kernel: x.t().dot(dz), bias: dz.sum_axis(Axis(0)) }
    }
}

impl Mlp {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self { hidden: Dense::new(PIXELS, HIDDEN, random), output: Dense::new(HIDDEN, CLASSES, random) }
    }

    /// The gradients of the loss over a batch.
    pub(crate) fn gradients(&self, batch: &Images) -> Self {
        let (h, logits) = self.forward(batch);
        let mut dz = log_softmax(&logits).exp();
        for (mut row, &label) in dz.rows_mut().into_iter().zip(&batch.labels) {
            row[label] -= 1.0;
        }
        dz /= batch.len() as f32;
        let dh = dz.dot(&self.output.kernel.t()) * (1.0 - &h * &h);
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
        let h = self.hidden.forward(&images.pixels).tanh();
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
