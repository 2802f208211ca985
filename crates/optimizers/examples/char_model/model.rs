//! A network that predicts a character from the characters before it, and its gradients by hand.
//!
//! ```text
//! x = the embeddings of the context, side by side
//! h = tanh(x W1 + b1)
//! u = tanh(h W2 + b2)
//! p = softmax(u W3 + b3)
//! loss = mean of -ln p[next]
//! ```
//!
//! Variables and their gradients may be in 16 bits. Everything is computed in f32.

use half::bf16;
use ndarray::{Array1, Array2, Axis};
use optimizers::Parameters;
use optimizers::model::Stored;

use crate::random::Random;
use crate::text::{Batch, CONTEXT};

/// Numbers for each character.
const EMBEDDING: usize = 24;

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

impl Element for bf16 {
    fn round(number: f32) -> Self {
        Self::from_f32(number)
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }
}

/// One layer: `x W + b`.
#[derive(Debug, Parameters)]
struct Dense<E> {
    kernel: Array2<E>,
    bias: Array1<E>,
}

/// The network. A second value of the type holds the gradients.
#[derive(Debug, Parameters)]
pub(crate) struct Mlp<E = f32> {
    embedding: Array2<E>,
    lower: Dense<E>,
    upper: Dense<E>,
    output: Dense<E>,
}

/// The input of each layer, and the logarithms of the probabilities.
struct Forward {
    x: Array2<f32>,
    h: Array2<f32>,
    u: Array2<f32>,
    log_p: Array2<f32>,
}

impl<E: Copy> Dense<E> {
    fn map<F>(&self, convert: fn(E) -> F) -> Dense<F> {
        Dense { kernel: self.kernel.mapv(convert), bias: self.bias.mapv(convert) }
    }
}

impl Dense<f32> {
    /// Kernel by Glorot and Bengio (2010), bias 0.
    fn new(inputs: usize, outputs: usize, random: &mut Random) -> Self {
        let limit = (6.0 / (inputs + outputs) as f32).sqrt();
        let kernel = Array2::from_shape_simple_fn((inputs, outputs), || random.within(limit));
        Self { kernel, bias: Array1::zeros(outputs) }
    }

    fn forward(&self, x: &Array2<f32>) -> Array2<f32> {
        x.dot(&self.kernel) + &self.bias
    }

    /// The gradient of the input, from the gradient `dz` of the output.
    fn backward(&self, dz: &Array2<f32>) -> Array2<f32> {
        dz.dot(&self.kernel.t())
    }

    /// The gradients of kernel and bias, from the input and the gradient `dz` of the output.
    fn gradients(x: &Array2<f32>, dz: &Array2<f32>) -> Self {
        Self { kernel: x.t().dot(dz), bias: dz.sum_axis(Axis(0)) }
    }
}

impl<E: Copy> Mlp<E> {
    /// The same model in another element type.
    pub(crate) fn map<F>(&self, convert: fn(E) -> F) -> Mlp<F> {
        let embedding = self.embedding.mapv(convert);
        let [lower, upper, output] = [&self.lower, &self.upper, &self.output].map(|layer| layer.map(convert));
        Mlp { embedding, lower, upper, output }
    }
}

impl Mlp {
    /// A model for so many characters, with hidden layers of this width.
    pub(crate) fn new(characters: usize, hidden: usize, random: &mut Random) -> Self {
        Self {
            embedding: Array2::from_shape_simple_fn((characters, EMBEDDING), || random.within(1.0)),
            lower: Dense::new(CONTEXT * EMBEDDING, hidden, random),
            upper: Dense::new(hidden, hidden, random),
            output: Dense::new(hidden, characters, random),
        }
    }

    /// The loss over a batch.
    pub(crate) fn loss(&self, batch: &Batch) -> f64 {
        mean_loss(&self.forward(&batch.contexts).log_p, &batch.next)
    }

    /// The loss over a batch, and its gradients.
    pub(crate) fn gradients(&self, batch: &Batch) -> (f64, Self) {
        let Forward { x, h, u, log_p } = self.forward(&batch.contexts);
        let mut dz = log_p.exp();
        for (mut row, &next) in dz.rows_mut().into_iter().zip(&batch.next) {
            row[next] -= 1.0;
        }
        dz /= batch.len() as f32;
        let du = self.output.backward(&dz) * (1.0 - &u * &u);
        let dh = self.upper.backward(&du) * (1.0 - &h * &h);
        let gradients = Self {
            embedding: self.embedding_gradient(&batch.contexts, &self.lower.backward(&dh)),
            lower: Dense::gradients(&x, &dh),
            upper: Dense::gradients(&h, &du),
            output: Dense::gradients(&u, &dz),
        };
        (mean_loss(&log_p, &batch.next), gradients)
    }

    /// The probability of each character after a context.
    pub(crate) fn predict(&self, context: &[usize; CONTEXT]) -> Array1<f32> {
        let contexts = Array2::from_shape_fn((1, CONTEXT), |(_, i)| context[i]);
        self.forward(&contexts).log_p.row(0).exp()
    }

    fn forward(&self, contexts: &Array2<usize>) -> Forward {
        let x = self.embed(contexts);
        let h = self.lower.forward(&x).tanh();
        let u = self.upper.forward(&h).tanh();
        let log_p = log_softmax(self.output.forward(&u));
        Forward { x, h, u, log_p }
    }

    /// The embeddings of each context, side by side in a row.
    fn embed(&self, contexts: &Array2<usize>) -> Array2<f32> {
        let characters: Vec<usize> = contexts.iter().copied().collect();
        let rows = self.embedding.select(Axis(0), &characters);
        rows.into_shape_with_order((contexts.nrows(), CONTEXT * EMBEDDING)).expect("a row has a whole context")
    }

    /// The reverse of [`embed`](Self::embed): adds up the gradients `dx` of the places where a character stands.
    fn embedding_gradient(&self, contexts: &Array2<usize>, dx: &Array2<f32>) -> Array2<f32> {
        let dx = dx.to_shape((contexts.len(), EMBEDDING)).expect("a row has a whole context");
        let mut gradient = Array2::zeros(self.embedding.raw_dim());
        for (&character, dx) in contexts.iter().zip(dx.rows()) {
            let mut row = gradient.row_mut(character);
            row += &dx;
        }
        gradient
    }
}

fn mean_loss(log_p: &Array2<f32>, next: &[usize]) -> f64 {
    let losses = log_p.rows().into_iter().zip(next).map(|(row, &next)| -f64::from(row[next]));
    losses.sum::<f64>() / next.len() as f64
}

/// The logarithm of the softmax of each row. The largest number is subtracted first, so that nothing overflows.
fn log_softmax(mut logits: Array2<f32>) -> Array2<f32> {
    for mut row in logits.rows_mut() {
        let largest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row -= largest;
        let log_sum = row.exp().sum().ln();
        row -= log_sum;
    }
    logits
}

#[cfg(test)]
mod tests;
