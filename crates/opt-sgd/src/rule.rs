//! The formula of SGD.

use opt_core::{
    Config, ConfigError, Generation, HyperparameterError, Kernel, LearningRate, Real, Scalar, SlotSpec, SparseUpdate,
    Step, UpdateRule, elementwise,
};

use crate::config::Sgd;

/// What is the same for all elements of a step.
#[derive(Debug, Clone, Copy)]
struct Coefficients<E> {
    /// Learning rate.
    eta: E,
    /// Momentum.
    mu: E,
}

fn plain<E: Real>(k: &Coefficients<E>, w: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
    (w - k.eta * g, [])
}

fn momentum<E: Real>(k: &Coefficients<E>, w: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
    let m = k.mu * m - k.eta * g;
    (w + m, [m])
}

fn nesterov<E: Real>(k: &Coefficients<E>, w: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
    let m = k.mu * m - k.eta * g;
    (w + (k.mu * m - k.eta * g), [m])
}

impl<T: Scalar> UpdateRule<T> for Sgd {
    fn class_name(&self) -> &str {
        "SGD"
    }

    fn learning_rate(&self) -> &LearningRate {
        &self.learning_rate
    }

    fn learning_rate_mut(&mut self) -> &mut LearningRate {
        &mut self.learning_rate
    }

    fn validate(&self) -> Result<(), HyperparameterError> {
        self.check()
    }

    fn slots(&self) -> Vec<SlotSpec> {
        if self.momentum == 0.0 { vec![] } else { vec![SlotSpec::zeros("momentum")] }
    }

    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        let k = Coefficients { eta: T::literal(step.learning_rate), mu: T::literal(self.momentum) };
        let sparse = match self.generation {
            Generation::Legacy => SparseUpdate::Rows,
            Generation::New => SparseUpdate::Dense,
        };
        match (self.momentum == 0.0, self.nesterov) {
            // A gradient of 0 changes nothing: both generations agree, and untouched rows need no visit.
            (true, _) => Box::new(elementwise(k, plain).sparse(SparseUpdate::Rows)),
            (false, false) => Box::new(elementwise(k, momentum).sparse(sparse)),
            (false, true) => Box::new(elementwise(k, nesterov).sparse(sparse)),
        }
    }

    fn config(&self) -> Result<Config, ConfigError> {
        self.fields()
    }

    fn generation(&self) -> Generation {
        self.generation
    }
}
