//! The formula of SGD.

use opt_core::rule::{
    Block, Done, Kernel, Real, SlotSpec, SparseUpdate, Step, VariableScalars, VariableStep, coupled_decay, elementwise,
    inverse_time_decay,
};
use opt_core::{Scalar, UpdateRule};

use crate::config::Sgd;

/// The coefficients of a step, the same for all elements.
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

/// Momentum, with the learning rate outside the velocity.
fn heavy_ball<E: Real>(k: &Coefficients<E>, w: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
    let m = k.mu * m + g;
    (w - k.eta * m, [m])
}

/// Nesterov momentum, with the learning rate outside the velocity.
fn heavy_ball_nesterov<E: Real>(k: &Coefficients<E>, w: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
    let m = k.mu * m + g;
    (w - k.eta * (g + k.mu * m), [m])
}

/// Momentum with the learning rate outside the velocity and dampening, which does not apply to the first gradient of a
/// variable.
struct Dampened {
    eta: f64,
    mu: f64,
    /// 1 - tau.
    gain: f64,
    /// Weight decay, coupled to the gradient.
    lambda: f64,
    sparse: SparseUpdate,
}

impl<T: Scalar> Kernel<T> for Dampened {
    fn begin_variable(&self, _variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        let gain = if scalars[0] == 0.0 { 1.0 } else { self.gain };
        scalars[0] = 1.0;
        [gain, 0.0, 0.0, 0.0]
    }

    fn update(&self, block: Block<'_, T>) -> Done {
        let k = [self.eta, self.mu, block.variable_scalars()[0]].map(T::literal);
        let element = |&[eta, mu, gain]: &[T; 3], w: T, g, [m]: [T; 1]| {
            let m = mu * m + gain * g;
            (w - eta * m, [m])
        };
        if self.lambda == 0.0 {
            return block.elementwise(self.sparse, &k, element);
        }
        block.elementwise(self.sparse, &(T::literal(self.lambda), k), coupled_decay(element))
    }

    fn visits_untouched_rows(&self) -> bool {
        self.sparse != SparseUpdate::Rows
    }
}

impl<T: Scalar> UpdateRule<T> for Sgd {
    fn adjusted_learning_rate(&self, learning_rate: f64, step: u64) -> f64 {
        inverse_time_decay(learning_rate, self.decay, step)
    }

    fn slots(&self) -> Vec<SlotSpec> {
        let momentum = (self.momentum != 0.0)
            .then(|| SlotSpec::zeros("momentum").moment().free_of_learning_rate(self.learning_rate_outside));
        momentum
            .into_iter()
            .chain(self.is_dampened().then(|| SlotSpec::scalar("started", 0.0).within(0.0..=1.0)))
            .collect()
    }

    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        let k = Coefficients { eta: T::literal(step.learning_rate), mu: T::literal(self.momentum) };
        let lambda = self.weight_decay.at(step.iteration);
        let sparse = if self.dialect.is_legacy() { SparseUpdate::Rows } else { SparseUpdate::Dense };
        if self.is_dampened() {
            let (eta, mu, gain) = (step.learning_rate, self.momentum, 1.0 - self.dampening);
            return Box::new(Dampened { eta, mu, gain, lambda, sparse });
        }
        let decay = Coupled { k, lambda, sparse };
        match (self.momentum == 0.0, self.learning_rate_outside, self.nesterov) {
            // A gradient of 0 changes nothing, so untouched rows need no visit.
            (true, ..) if lambda == 0.0 => Box::new(elementwise(k, plain).sparse(SparseUpdate::Rows)),
            (true, ..) => decay.kernel(plain),
            (false, false, false) => decay.kernel(momentum),
            (false, false, true) => decay.kernel(nesterov),
            (false, true, false) => decay.kernel(heavy_ball),
            (false, true, true) => decay.kernel(heavy_ball_nesterov),
        }
    }
}

/// The coefficients of a step, with a weight decay that may be part of the gradient.
struct Coupled<T> {
    k: Coefficients<T>,
    lambda: f64,
    sparse: SparseUpdate,
}

impl<T: Scalar> Coupled<T> {
    fn kernel<F, const N: usize>(self, element: F) -> Box<dyn Kernel<T>>
    where
        F: Fn(&Coefficients<T>, T, T, [T; N]) -> (T, [T; N]) + Send + Sync + 'static,
    {
        let Self { k, lambda, sparse } = self;
        if lambda == 0.0 {
            return Box::new(elementwise(k, element).sparse(sparse));
        }
        Box::new(elementwise((T::literal(lambda), k), coupled_decay(element)).sparse(sparse))
    }
}
