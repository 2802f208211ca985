//! Lists of tensors.

use optimizers::Variable;
use optimizers::core::Scalar;

/// Named tensors, none of whose numbers is 0.
#[derive(Clone)]
pub(crate) struct Tensors<T> {
    pub(crate) names: Vec<String>,
    pub(crate) values: Vec<Vec<T>>,
}

impl<T: Scalar> Tensors<T> {
    pub(crate) fn new(sizes: &[usize], seed: u64) -> Self {
        let mut rng = opt_conformance::problem::Rng(seed);
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

    /// As a step takes them.
    pub(crate) fn with<'a>(&'a mut self, gradients: &'a Self) -> impl Iterator<Item = Variable<'a, T>> {
        let named = self.names.iter().zip(&mut self.values).zip(&gradients.values);
        named.map(|((name, value), gradient)| Variable::new(name.as_str(), value).gradient(gradient))
    }
}
