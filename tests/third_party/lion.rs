//! Lion, written against the public interface alone.
//!
//! X. Chen et al., "Symbolic discovery of optimization algorithms", arXiv:2302.06675.

use optimizers::rule::{Kernel, Real, SlotSpec, Step, elementwise};
use optimizers::{Hyper, Scalar, UpdateRule, hyperparameters};

hyperparameters! {
    /// The sign of an interpolation between momentum and gradient.
    #[derive(Debug, Clone)]
    pub(crate) struct Lion {
        learning_rate: Hyper = 1e-4, in 0.0.., "learning rate, eta";
        beta_1: f64 = 0.9, in 0.0..1.0, "weight of the momentum in a step";
        beta_2: f64 = 0.99, in 0.0..1.0, "decay rate of the momentum";
    }
    rule "Lion"
}

struct Coefficients<E> {
    eta: E,
    beta_1: E,
    beta_2: E,
}

fn element<E: Real>(k: &Coefficients<E>, w: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
    let c = g + k.beta_1 * (m - g);
    let sign = c / c.max(E::literal(0.0) - c).max(E::literal(f64::from(f32::MIN_POSITIVE)));
    (w - k.eta * sign, [g + k.beta_2 * (m - g)])
}

impl<T: Scalar> UpdateRule<T> for Lion {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![SlotSpec::zeros("m")]
    }

    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        let [eta, beta_1, beta_2] = [step.learning_rate, self.beta_1, self.beta_2].map(T::literal);
        Box::new(elementwise(Coefficients { eta, beta_1, beta_2 }, element))
    }
}
