//! The formula of Nadam.

use opt_core::config::Generation;
use opt_core::rule::{Kernel, Real, SlotSpec, SparseUpdate, Step, WeightsOrder, elementwise};
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
}

fn element<E: Real>(k: &Coefficients<E>, w: E, g: E, [m, v]: [E; 2]) -> (E, [E; 2]) {
    let m = k.beta_1 * m + k.one_minus_beta_1 * g;
    let v = k.beta_2 * v + k.one_minus_beta_2 * g * g;
    (w - (k.g_scale * g + k.m_scale * m) / ((v * k.v_scale).sqrt() + k.epsilon), [m, v])
}

impl Nadam {
    /// The momentum of step `t`, counted from 1.
    fn mu(&self, t: u64) -> f64 {
        match self.momentum_schedule {
            MomentumSchedule::Rising => self.beta_1 * (1.0 - 0.5 * 0.96_f64.powf(self.psi() * t as f64)),
            MomentumSchedule::Constant => self.beta_1,
        }
    }

    /// The coefficients of a step. Multiplies `c`, the product of the momenta, by the momentum of the step.
    fn coefficients<T: Scalar>(&self, step: &Step, c: &mut f64) -> Coefficients<T> {
        let (t, eta) = (step.number(), step.learning_rate);
        let (mu, next_mu) = (self.mu(t), self.mu(t + 1));
        *c *= mu;
        Coefficients {
            beta_1: T::literal(self.beta_1),
            one_minus_beta_1: T::literal(1.0 - self.beta_1),
            beta_2: T::literal(self.beta_2),
            one_minus_beta_2: T::literal(1.0 - self.beta_2),
            g_scale: T::literal(eta * (1.0 - mu) / (1.0 - *c)),
            m_scale: T::literal(eta * next_mu / (1.0 - *c * next_mu)),
            v_scale: T::literal(1.0 / (1.0 - self.beta_2.powf(t as f64))),
            // The smallest number stands for an epsilon of 0. Added to the root of any number above 0 it changes
            // nothing, and an element whose gradients have all been 0 does not change, because 0 is not divided by 0.
            epsilon: T::literal(self.epsilon).max(T::SMALLEST),
        }
    }
}

impl<T: Scalar> UpdateRule<T> for Nadam {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![SlotSpec::shared("momentum_cache", 1.0), SlotSpec::zeros("m").moment(), SlotSpec::zeros("v").moment()]
    }

    fn begin_step(&self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        let k = self.coefficients::<T>(step, &mut shared[0]);
        let sparse = match self.generation {
            Generation::Legacy => SparseUpdate::Moments,
            Generation::New => SparseUpdate::Dense,
        };
        Box::new(elementwise(k, element).sparse(sparse))
    }

    fn weights_order(&self) -> WeightsOrder {
        match self.generation {
            Generation::Legacy => WeightsOrder::BySlot,
            Generation::New => WeightsOrder::ByVariable,
        }
    }
}
