//! Weights and gradients of a list of tensors.

use half::bf16;
use optimizers::{DynOptimizer, Error, StepReport, Variable};

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
    /// Value and gradient in 16 bits, if a contestant needs them.
    halves: [Vec<bf16>; 2],
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
            halves: Default::default(),
        };
        Self { tensors: shape.tensors.iter().zip(shape.sizes()).enumerate().map(tensor).collect() }
    }

    /// The tensors in the form that a step takes.
    pub fn variables(&mut self) -> impl ExactSizeIterator<Item = Variable<'_, T>> {
        self.tensors.iter_mut().map(|Tensor { name, shape, value, gradient, .. }| {
            Variable::new(name.as_str(), (&mut value[..], &shape[..])).gradient((&gradient[..], &shape[..]))
        })
    }

    /// The tensors with values and gradients in bfloat16, rounded the first time.
    ///
    /// # Panics
    ///
    /// For `f64`, whose optimizers have no such variables.
    pub fn halves(&mut self) -> impl ExactSizeIterator<Item = Variable<'_, T>> {
        self.tensors.iter_mut().map(|Tensor { name, shape, value, gradient, halves }| {
            if halves[1].len() < gradient.len() {
                *halves = [value, gradient].map(|numbers| numbers.iter().map(|x| bf16::from_f64(x.as_())).collect());
            }
            let [value, gradient] = halves;
            T::half(name, shape, value, gradient)
        })
    }

    /// A step of a contestant whose weights are [halves](crate::traffic::Traffic::halves) or not.
    ///
    /// # Errors
    ///
    /// When the step fails.
    pub fn step(&mut self, optimizer: &mut DynOptimizer<T>, halves: bool) -> Result<StepReport, Error> {
        if halves { optimizer.apply_gradients(self.halves()) } else { optimizer.apply_gradients(self.variables()) }
    }

    /// Whether no weight is infinite or NaN.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let is_finite = |tensor: &Tensor<T>| {
            tensor.value.iter().all(|w| w.is_finite()) && tensor.halves[0].iter().all(|w| w.is_finite())
        };
        self.tensors.iter().all(is_finite)
    }
}
