//! Lists of tensors.

use opt_core::{Scalar, Variable};

use crate::problem::Rng;

/// Named tensors without zeros.
#[derive(Debug, Clone)]
pub struct Tensors<T> {
    /// The names: place and size.
    pub names: Vec<String>,
    /// Their elements.
    pub values: Vec<Vec<T>>,
}

impl<T: Scalar> Tensors<T> {
    /// Tensors of these sizes.
    #[must_use]
    pub fn new(sizes: &[usize], seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut number = || loop {
            match rng.number() {
                0.0 => {}
                number => return T::literal(number),
            }
        };
        Self {
            names: sizes.iter().enumerate().map(|(i, size)| format!("{i} of {size}")).collect(),
            values: sizes.iter().map(|&size| (0..size).map(|_| number()).collect()).collect(),
        }
    }

    /// The variables, with gradients, for a step.
    pub fn with<'a>(&'a mut self, gradients: &'a Self) -> impl Iterator<Item = Variable<'a, T>> {
        let named = self.names.iter().zip(&mut self.values).zip(&gradients.values);
        named.map(|((name, value), gradient)| Variable::new(name.as_str(), value).gradient(gradient))
    }
}
