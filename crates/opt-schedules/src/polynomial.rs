//! Polynomial decay to an end value, once or repeatedly.

use opt_core::config::Steps;
use opt_core::{Schedule, hyperparameters};

use crate::numbers::blend;

hyperparameters! {
    /// Falls along a polynomial to an end value, and stays there or starts again from a lower point.
    ///
    /// `power = 1`, the default, is linear decay, the usual choice for fine-tuning.
    ///
    /// ```text
    /// value(s) = (l - e) (1 - p)^q + e
    /// p = min(s, d) / d                   without cycle
    /// p = s / (d max(1, ceil(s / d)))     with cycle
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | d | `decay_steps` | required |
    /// | e | `end_learning_rate` | 0.0001 |
    /// | q | `power` | 1 |
    /// | | `cycle` | false |
    ///
    /// With `cycle`, every multiple of `decay_steps` has exactly the end value, and the step after it starts a longer
    /// decay: at step `s`, the current decay ends at the first multiple that is at least `s`.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{PolynomialDecay, Schedule};
    ///
    /// let linear = PolynomialDecay::new(1.0, 4).end_learning_rate(0.5);
    /// assert_eq!([0, 1, 2, 4, 99].map(|step| linear.value(step)), [1.0, 0.875, 0.75, 0.5, 0.5]);
    ///
    /// let saw = linear.cycle(true);
    /// assert_eq!([3, 4, 5, 6, 8, 9].map(|step| saw.value(step)), [0.625, 0.5, 0.6875, 0.625, 0.5, 0.625]);
    /// ```
    ///
    /// # Differences
    ///
    /// Keras's documentation of `cycle` speaks of the first multiple *bigger* than the step; its code, like this type,
    /// uses the step itself if it is a multiple. Keras computes in `f32`, takes a `decay_steps` below 1, and returns
    /// NaN with 0.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses `decay_steps` below 1, and rates and powers that are
    /// negative, infinite or NaN. The end value may be above the first value.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PolynomialDecay {
        #[required] initial_learning_rate: f64, in 0.0.., "value at step 0, l";
        #[required] decay_steps: Steps, in 1.0.., "steps of one decay, d";

        /// Sets the value at the end, at least 0.
        end_learning_rate: f64 = 0.0001, in 0.0.., "value at the end, e";

        /// Sets the power of the polynomial, at least 0. With 1 it is a straight line, with more it falls faster at
        /// first, with 0 it does not fall.
        power: f64 = 1.0, in 0.0.., "power of the polynomial, q";

        /// Sets whether the decay starts again after `decay_steps`.
        cycle: bool = false, "start again after `decay_steps`";
    }
    schedule "PolynomialDecay"
}

impl PolynomialDecay {
    /// Falls from `initial_learning_rate` to 0.0001 in `decay_steps` steps, on a straight line.
    #[must_use]
    pub fn new(initial_learning_rate: f64, decay_steps: impl Into<Steps>) -> Self {
        Self::with_defaults(initial_learning_rate, decay_steps.into())
    }

    /// `1 - p`, computed from whole numbers where possible: exactly 0 at the end of every decay.
    fn remaining(&self, step: u64) -> f64 {
        let (decays, since) = self.decay_steps.split(step);
        let decays = if since == Steps::ZERO { decays } else { decays.saturating_add(1) };
        let decays = if self.cycle { decays.max(1) } else { 1 };
        match self.decay_steps.whole() {
            Some(decay_steps) => {
                let end = u128::from(decay_steps.max(1)) * u128::from(decays);
                end.saturating_sub(step.into()) as f64 / end as f64
            }
            None => {
                let end = self.decay_steps.get() * decays as f64;
                (end - step as f64).max(0.0) / end
            }
        }
    }
}

impl Schedule for PolynomialDecay {
    fn value(&self, step: u64) -> f64 {
        let remaining = self.remaining(step).powf(self.power);
        blend(self.end_learning_rate, self.initial_learning_rate, remaining)
    }
}
