//! The formula of Nadam.

use opt_core::config::Dialect;
use opt_core::rule::{
    Block, Done, Kernel, Real, SlotSpec, SparseUpdate, Step, VariableScalars, VariableStep, WeightsOrder, coupled_decay,
};
use opt_core::{Scalar, UpdateRule};

use crate::config::{MomentumSchedule, Nadam};

/// The coefficients of a step, the same for all elements.
#[derive(Debug, Clone, Copy)]
struct Coefficients<E> {
    beta_1: E,
    one_minus_beta_1: E,
    beta_2: E,
    one_minus_beta_2: E,
    /// `eta (1 - mu_t) / (1 - c_t)`.
    g_scale: E,
    /// `eta mu_{t+1} / (1 - c_t mu_{t+1})`.
    m_scale: E,
    /// `1 / (1 - beta_2^t)`.
    v_scale: E,
    epsilon: E,
    /// The smallest v that is known well enough to divide by its root.
    least_v: E,
}

fn element<E: Real>(k: &Coefficients<E>, w: E, g: E, [m, v]: [E; 2]) -> (E, [E; 2]) {
    let m = k.beta_1 * m + k.one_minus_beta_1 * g;
    let v = k.beta_2 * v + k.one_minus_beta_2 * g * g;
    (w - (k.g_scale * g + k.m_scale * m) / ((v * k.v_scale).sqrt() + k.epsilon), [m, v])
}

/// As [`element`], for an epsilon of 0. The square of a gradient may be too small for its type, though the gradient is
/// not: a v below `least_v` must not make the step long.
fn without_epsilon<E: Real>(k: &Coefficients<E>, w: E, g: E, [m, v]: [E; 2]) -> (E, [E; 2]) {
    let m = k.beta_1 * m + k.one_minus_beta_1 * g;
    let v = k.beta_2 * v + k.one_minus_beta_2 * g * g;
    (w - (k.g_scale * g + k.m_scale * m) / (v.max(k.least_v) * k.v_scale).sqrt(), [m, v])
}

impl Nadam {
    /// The momentum of step `t`, counted from 1.
    fn mu(&self, t: u64) -> f64 {
        match self.momentum_schedule {
            MomentumSchedule::Rising => self.beta_1 * (1.0 - 0.5 * self.base().powf(self.psi() * t as f64)),
            MomentumSchedule::Constant => self.beta_1,
        }
    }

    /// The base of the rising momentum. Keras of the newer generation, where psi is 1, holds it in 32 bits, also for
    /// variables in 64 bits.
    fn base(&self) -> f64 {
        let is_keras = self.dialect == Dialect::Keras && self.psi() == 1.0;
        if is_keras { f64::from(0.96_f32) } else { 0.96 }
    }

    /// The decay rates of m and v.
    fn betas<T: Scalar>(&self) -> [f64; 2] {
        [self.beta_1, self.beta_2].map(|beta| self.rounded::<T>(beta))
    }

    /// A decay rate or its power. Keras of the newer generation rounds them to the type of the variable, and computes
    /// `1 - beta` from that. A number that would become 1 is not rounded: nothing would be left of `1 - beta`.
    fn rounded<T: Scalar>(&self, beta: f64) -> f64 {
        let rounded = T::literal(beta).as_();
        if self.dialect == Dialect::Keras && rounded < 1.0 { rounded } else { beta }
    }

    /// The factors of g, m and v in step `t`. Multiplies `c`, the product of the momenta, by the momentum of the step.
    fn scales<T: Scalar>(&self, t: u64, eta: f64, c: &mut f64) -> [f64; 3] {
        let mu = self.mu(t);
        let next_mu = self.mu(t + 1);
        *c *= mu;
        let [_, beta_2] = self.betas::<T>();
        let power = self.rounded::<T>(beta_2.powf(t as f64));
        [eta * (1.0 - mu) / (1.0 - *c), eta * next_mu / (1.0 - *c * next_mu), 1.0 / (1.0 - power)]
    }

    fn coefficients<T: Scalar>(&self, scales: [f64; 3]) -> Coefficients<T> {
        let [g_scale, m_scale, v_scale] = scales.map(T::literal);
        let [beta_1, beta_2] = self.betas::<T>();
        Coefficients {
            beta_1: T::literal(beta_1),
            one_minus_beta_1: T::literal(1.0 - beta_1),
            beta_2: T::literal(beta_2),
            one_minus_beta_2: T::literal(1.0 - beta_2),
            g_scale,
            m_scale,
            v_scale,
            epsilon: T::literal(self.epsilon),
            least_v: T::literal(T::SMALLEST.as_() / (1.0 - self.beta_2)),
        }
    }
}

/// One step over all variables.
struct NadamStep<'a, T> {
    rule: &'a Nadam,
    eta: f64,
    /// Weight decay, coupled to the gradient.
    lambda: f64,
    sparse: SparseUpdate,
    /// The coefficients, unless t and c belong to the variable.
    of_all: Option<Coefficients<T>>,
}

impl<T: Scalar> Kernel<T> for NadamStep<'_, T> {
    fn begin_variable(&self, _variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        let [t, c] = scalars else { return VariableScalars::default() };
        *t += 1.0;
        let [g_scale, m_scale, v_scale] = self.rule.scales::<T>(*t as u64, self.eta, c);
        [g_scale, m_scale, v_scale, 0.0]
    }

    fn update(&self, block: Block<'_, T>) -> Done {
        let [g_scale, m_scale, v_scale, _] = *block.variable_scalars();
        let k = self.of_all.unwrap_or_else(|| self.rule.coefficients([g_scale, m_scale, v_scale]));
        let lambda = T::literal(self.lambda);
        match (self.rule.epsilon == 0.0, self.lambda == 0.0) {
            (false, true) => block.elementwise(self.sparse, &k, element),
            (true, true) => block.elementwise(self.sparse, &k, without_epsilon),
            (false, false) => block.elementwise(self.sparse, &(lambda, k), coupled_decay(element)),
            (true, false) => block.elementwise(self.sparse, &(lambda, k), coupled_decay(without_epsilon)),
        }
    }

    fn visits_untouched_rows(&self) -> bool {
        true
    }
}

impl<T: Scalar> UpdateRule<T> for Nadam {
    fn slots(&self) -> Vec<SlotSpec> {
        let counters = match self.dialect {
            Dialect::Pytorch => {
                vec![SlotSpec::counter("step"), SlotSpec::scalar("momentum_cache", 1.0).within(0.0..=1.0)]
            }
            _ => vec![SlotSpec::shared("momentum_cache", 1.0).within(0.0..=1.0)],
        };
        let moments = [SlotSpec::zeros("m").moment(), SlotSpec::zeros("v").moment().within(0.0..)];
        counters.into_iter().chain(moments).collect()
    }

    fn begin_step<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        let eta = step.learning_rate;
        let sparse = if self.dialect.is_legacy() { SparseUpdate::Moments } else { SparseUpdate::Dense };
        // PyTorch's dialect has no shared slot.
        let of_all = shared.first_mut().map(|c| self.coefficients(self.scales::<T>(step.number(), eta, c)));
        Box::new(NadamStep { rule: self, eta, lambda: self.weight_decay.at(step.iteration), sparse, of_all })
    }

    fn weights_order(&self) -> WeightsOrder {
        if self.dialect.is_legacy() { WeightsOrder::BySlot } else { WeightsOrder::ByVariable }
    }
}
