//! The formula of Adam and AdamW. The weight decay of AdamW is the engine's.

use opt_core::config::Dialect;
use opt_core::rule::{
    Block, Done, Kernel, Real, SlotSpec, SparseUpdate, Step, VariableScalars, VariableStep, WeightsOrder,
    coupled_decay, inverse_time_decay,
};
use opt_core::{Scalar, UpdateRule};

use crate::config::{Adam, AdamW};

/// The coefficients of a step, the same for all elements.
#[derive(Debug, Clone, Copy)]
struct Coefficients<E> {
    beta_1: E,
    one_minus_beta_1: E,
    beta_2: E,
    one_minus_beta_2: E,
    /// The learning rate, with the corrections of the biases.
    alpha: E,
    epsilon: E,
    epsilon_root: E,
    /// The factor that corrects the bias of v before it is compared with the largest v.
    v_correction: E,
    /// The smallest v that is known well enough to divide by its root.
    least_v: E,
}

fn element<E: Real, const EPSILON: bool>(k: &Coefficients<E>, w: E, g: E, [m, v]: [E; 2]) -> (E, [E; 2]) {
    let [m, v] = moments(k, g, [m, v]);
    (w - k.alpha * m / divisor::<E, EPSILON>(k, v), [m, v])
}

fn amsgrad<E: Real, const EPSILON: bool>(k: &Coefficients<E>, w: E, g: E, [m, v, v_max]: [E; 3]) -> (E, [E; 3]) {
    let [m, v] = moments(k, g, [m, v]);
    let v_max = v_max.max(k.v_correction * v);
    (w - k.alpha * m / divisor::<E, EPSILON>(k, v_max), [m, v, v_max])
}

fn moments<E: Real>(k: &Coefficients<E>, g: E, [m, v]: [E; 2]) -> [E; 2] {
    [k.beta_1 * m + k.one_minus_beta_1 * g, k.beta_2 * v + k.one_minus_beta_2 * g * g]
}

/// Without `EPSILON`: the square of a gradient may be too small for its type, though the gradient is not. A v below
/// `least_v` must not make the step long, and 0 must not be divided by 0.
fn divisor<E: Real, const EPSILON: bool>(k: &Coefficients<E>, v: E) -> E {
    if EPSILON { (v + k.epsilon_root).sqrt() + k.epsilon } else { v.max(k.least_v).sqrt() }
}

/// The hyperparameters that both classes have, without the learning rate.
#[derive(Debug, Clone, Copy)]
struct Formula {
    dialect: Dialect,
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    epsilon_root: f64,
    amsgrad: bool,
}

impl Adam {
    fn formula(&self) -> Formula {
        let Self { dialect, beta_1, beta_2, epsilon, epsilon_root, amsgrad, .. } = *self;
        Formula { dialect, beta_1, beta_2, epsilon, epsilon_root, amsgrad }
    }
}

impl AdamW {
    fn formula(&self) -> Formula {
        let Self { dialect, beta_1, beta_2, epsilon, epsilon_root, amsgrad, .. } = *self;
        Formula { dialect, beta_1, beta_2, epsilon, epsilon_root, amsgrad }
    }
}

impl Formula {
    fn is_of_keras(&self) -> bool {
        matches!(self.dialect, Dialect::Keras | Dialect::KerasLegacy)
    }

    /// A decay rate or its power. Keras rounds them to the type of the variable, and computes `1 - beta^t` from that. A
    /// number that would become 1 is not rounded: nothing would be left of `1 - beta`.
    fn rounded<T: Scalar>(&self, beta: f64) -> f64 {
        let rounded = T::literal(beta).as_();
        if self.is_of_keras() && rounded < 1.0 { rounded } else { beta }
    }

    /// `1 - beta_1^t` and `1 - beta_2^t`: the weights of all gradients together in m and in v after `t` steps.
    fn weights<T: Scalar>(&self, t: f64) -> [f64; 2] {
        [self.beta_1, self.beta_2].map(|beta| 1.0 - self.rounded::<T>(self.rounded::<T>(beta).powf(t)))
    }

    /// Only the legacy generation of Keras computes it from the rounded number.
    fn one_minus<T: Scalar>(&self, beta: f64) -> T {
        T::literal(1.0 - if self.dialect.is_legacy() { self.rounded::<T>(beta) } else { beta })
    }

    fn coefficients<T: Scalar>(&self, eta: f64, [m_weight, v_weight]: [f64; 2]) -> Coefficients<T> {
        // optax compares values of v that are already corrected. Elsewhere the root of v is corrected by alpha, and
        // with it an epsilon that was meant for the root of the corrected v.
        let is_corrected = self.amsgrad && self.dialect == Dialect::Optax;
        let left = if is_corrected { 1.0 } else { v_weight };
        let epsilon_scale = if self.is_of_keras() { 1.0 } else { left.sqrt() };
        let v_correction = left / v_weight;
        Coefficients {
            beta_1: T::literal(self.beta_1),
            one_minus_beta_1: self.one_minus(self.beta_1),
            beta_2: T::literal(self.beta_2),
            one_minus_beta_2: self.one_minus(self.beta_2),
            alpha: T::literal(eta * left.sqrt() / m_weight),
            epsilon: T::literal(self.epsilon * epsilon_scale),
            epsilon_root: T::literal(self.epsilon_root * left),
            v_correction: T::literal(v_correction),
            least_v: T::literal(v_correction * T::SMALLEST.as_() / (1.0 - self.beta_2)),
        }
    }

    fn slots(&self) -> Vec<SlotSpec> {
        let counter = (self.dialect == Dialect::Pytorch).then(|| SlotSpec::counter("step"));
        let moments = [SlotSpec::zeros("m").moment(), SlotSpec::zeros("v").moment().within(0.0..)];
        let largest = self.amsgrad.then(|| SlotSpec::zeros("vhat").within(0.0..).listed_last());
        counter.into_iter().chain(moments).chain(largest).collect()
    }

    fn weights_order(&self) -> WeightsOrder {
        if self.dialect.is_legacy() { WeightsOrder::BySlot } else { WeightsOrder::ByVariable }
    }

    /// One step over all variables. `lambda` is weight decay, coupled to the gradient.
    fn begin_step<T: Scalar>(self, step: &Step, lambda: f64) -> Box<dyn Kernel<T>> {
        let eta = step.learning_rate;
        let counts_by_variable = self.dialect == Dialect::Pytorch;
        let of_all = (!counts_by_variable).then(|| self.coefficients(eta, self.weights::<T>(step.number() as f64)));
        Box::new(AdamStep { formula: self, eta, lambda, of_all })
    }
}

/// One step over all variables.
struct AdamStep<T> {
    formula: Formula,
    eta: f64,
    /// Weight decay, coupled to the gradient.
    lambda: f64,
    /// The coefficients, unless t belongs to the variable.
    of_all: Option<Coefficients<T>>,
}

impl<T: Scalar> AdamStep<T> {
    fn run<F, const N: usize>(&self, block: Block<'_, T>, k: Coefficients<T>, element: F) -> Done
    where
        F: Fn(&Coefficients<T>, T, T, [T; N]) -> (T, [T; N]),
    {
        if self.lambda == 0.0 {
            return block.elementwise(SparseUpdate::Dense, &k, element);
        }
        block.elementwise(SparseUpdate::Dense, &(T::literal(self.lambda), k), coupled_decay(element))
    }
}

impl<T: Scalar> Kernel<T> for AdamStep<T> {
    fn begin_variable(&self, _variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        let [t] = scalars else { return VariableScalars::default() };
        *t += 1.0;
        let [m_weight, v_weight] = self.formula.weights::<T>(*t);
        [m_weight, v_weight, 0.0, 0.0]
    }

    fn update(&self, block: Block<'_, T>) -> Done {
        let [m_weight, v_weight, ..] = *block.variable_scalars();
        let k = self.of_all.unwrap_or_else(|| self.formula.coefficients(self.eta, [m_weight, v_weight]));
        let epsilon = self.formula.epsilon != 0.0 || self.formula.epsilon_root != 0.0;
        match (self.formula.amsgrad, epsilon) {
            (false, true) => self.run(block, k, element::<T, true>),
            (false, false) => self.run(block, k, element::<T, false>),
            (true, true) => self.run(block, k, amsgrad::<T, true>),
            (true, false) => self.run(block, k, amsgrad::<T, false>),
        }
    }

    fn visits_untouched_rows(&self) -> bool {
        true
    }
}

impl<T: Scalar> UpdateRule<T> for Adam {
    fn adjusted_learning_rate(&self, learning_rate: f64, step: u64) -> f64 {
        inverse_time_decay(learning_rate, self.decay, step)
    }

    fn slots(&self) -> Vec<SlotSpec> {
        self.formula().slots()
    }

    fn begin_step<'a>(&'a self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        self.formula().begin_step(step, self.weight_decay.at(step.iteration))
    }

    fn weights_order(&self) -> WeightsOrder {
        self.formula().weights_order()
    }
}

impl<T: Scalar> UpdateRule<T> for AdamW {
    fn slots(&self) -> Vec<SlotSpec> {
        self.formula().slots()
    }

    fn begin_step<'a>(&'a self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        self.formula().begin_step(step, 0.0)
    }

    fn weights_order(&self) -> WeightsOrder {
        self.formula().weights_order()
    }
}
