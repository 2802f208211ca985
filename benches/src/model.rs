//! Weights and gradients of a list of tensors.

use optimizers::Variable;

use crate::Element;
use crate::random::Random;
use crate::shapes::Shape;

/// Named tensors with gradients.
///
/// Gradients are between 0.01 and 1 in size, of random sign, and constant. Neither they nor the moments of rules come
/// near the denormal numbers, whose slow arithmetic would be timed instead of memory.
#[derive(Debug, Clone)]
pub struct Model<T> {
    tensors: Vec<Tensor<T>>,
}

#[derive(Debug, Clone)]
struct Tensor<T> {
    name: String,
    shape: Vec<usize>,
    value: Vec<T>,
    gradient: Vec<T>,
}

impl<T: Element> Model<T> {
    /// A model of this shape, always with the same numbers.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        let mut random = Random::new(0x5eed);
        let tensor = |(number, (shape, size)): (usize, (&Vec<usize>, usize))| Tensor {
            name: format!("layers.{number}.weight"),
            shape: shape.clone(),
            value: (0..size).map(|_| T::literal(random.signed())).collect(),
            gradient: (0..size).map(|_| T::literal(random.signed())).collect(),
        };
        Self { tensors: shape.tensors.iter().zip(shape.sizes()).enumerate().map(tensor).collect() }
    }

    /// The tensors in the form that a step takes.
    pub fn variables(&mut self) -> impl Iterator<Item = Variable<'_, T>> {
        self.tensors.iter_mut().map(|Tensor { name, shape, value, gradient }| {
            Variable::new(name.as_str(), (&mut value[..], &shape[..])).gradient((&gradient[..], &shape[..]))
        })
    }

    /// Whether no weight is infinite or NaN.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.tensors.iter().all(|tensor| tensor.value.iter().all(|w| w.is_finite()))
    }
}
