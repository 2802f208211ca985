//! One half cosine, with an optional linear warmup.

use opt_core::config::{HyperparameterError, Steps};
use opt_core::{Schedule, hyperparameters};

use super::above_floor;
use crate::numbers::{blend, fraction, half_cosine};

hyperparameters! {
    /// Falls along half a cosine to a fraction of the initial learning rate, and stays there.
    ///
    /// The usual choice when the number of steps is known; transformers are trained with the warmup.
    ///
    /// ```text
    /// no warmup:       value(s) = l [(1 - a) (1 + cos(pi p)) / 2 + a],   p = min(s, d) / d
    /// warmup, s < w:   value(s) = l + (t - l) s / w
    /// warmup, s >= w:  value(s) = t [(1 - a) (1 + cos(pi p)) / 2 + a],   p = min(s - w, d) / d
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | d | `decay_steps` | required, not counting the warmup |
    /// | a | `alpha` | 0: the end, as a fraction of the highest value |
    /// | t | `warmup_target` | none |
    /// | w | `warmup_steps` | 0 |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{CosineDecay, Schedule};
    ///
    /// let rate = CosineDecay::new(1.0, 100).alpha(0.2);
    /// assert_eq!([0, 50, 100, 1_000].map(|step| rate.value(step)), [1.0, 0.6, 0.2, 0.2]);
    ///
    /// // From 0 to 0.5 in 10 steps, then down to 0 at step 110.
    /// let rate = CosineDecay::with_warmup(0.0, 0.5, 10, 110);
    /// assert_eq!([0, 4, 10, 60, 110].map(|step| rate.value(step)), [0.0, 0.2, 0.5, 0.25, 0.0]);
    /// ```
    ///
    /// # Differences
    ///
    /// Keras ignores `warmup_steps` without a `warmup_target`; here that is an error. Keras accepts an `alpha` above 1,
    /// computes in `f32`, takes a `decay_steps` below 1, and returns NaN with 0. PyTorch's `CosineAnnealingLR` has no
    /// warmup and rises again after the end. In optax's `warmup_cosine_decay_schedule`, `decay_steps` includes the
    /// warmup, as `total_steps` of [`with_warmup`](Self::with_warmup) does.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses `decay_steps` below 1, an `alpha` outside [0, 1] (it is a
    /// fraction), rates that are negative, infinite or NaN, and `warmup_steps` without `warmup_target`.
    ///
    /// # References
    ///
    /// * I. Loshchilov and F. Hutter, 2016: SGDR: Stochastic Gradient Descent with Warm Restarts. arXiv:1608.03983.
    /// * P. Goyal et al., 2017: Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour. arXiv:1706.02677 (warmup).
    #[derive(Debug, Clone, PartialEq)]
    pub struct CosineDecay {
        #[required] initial_learning_rate: f64, in 0.0.., "value at step 0, l";
        #[required] decay_steps: Steps, in 1.0.., "steps of the decay, after the warmup, d";

        /// Sets the end value, as a fraction of the highest value, in [0, 1].
        alpha: f64 = 0.0, in 0.0..=1.0, "end, as a fraction of the highest value, a";
        warmup_target: Option<f64> = None, in 0.0.., "value after the warmup, t";
        warmup_steps: Steps = Steps::ZERO, in 0.0.., "steps of the warmup, w; 0 without `warmup_target`";
    }
    schedule "CosineDecay" {
        check: Self::check,
    }
}

impl CosineDecay {
    /// Falls from `initial_learning_rate` to 0 in `decay_steps` steps.
    #[doc(alias = "CosineAnnealingLR")]
    #[doc(alias = "cosine_decay_schedule")]
    #[must_use]
    pub fn new(initial_learning_rate: f64, decay_steps: impl Into<Steps>) -> Self {
        Self::with_defaults(initial_learning_rate, decay_steps.into())
    }

    /// Rises from `start` to `peak` in `warmup_steps` steps, then falls to 0 at step `total_steps`, which includes the
    /// warmup.
    ///
    /// `total_steps` must be above `warmup_steps`; otherwise `decay_steps`, the difference, is 0 and is refused when
    /// the optimizer is built.
    #[doc(alias = "warmup_cosine_decay_schedule")]
    #[doc(alias = "get_cosine_schedule_with_warmup")]
    #[must_use]
    pub fn with_warmup(start: f64, peak: f64, warmup_steps: impl Into<Steps>, total_steps: impl Into<Steps>) -> Self {
        let warmup_steps = warmup_steps.into();
        let decay_steps = total_steps.into().checked_sub(warmup_steps).unwrap_or(Steps::ZERO);
        Self::new(start, decay_steps).warmup(peak, warmup_steps)
    }

    /// Adds a warmup, in Keras's terms: before the decay, the value rises from the initial learning rate to `target` in
    /// `steps` steps. [`with_warmup`](Self::with_warmup) sets the same fields in one call.
    #[must_use]
    pub fn warmup(mut self, target: f64, steps: impl Into<Steps>) -> Self {
        self.warmup_target = Some(target);
        self.warmup_steps = steps.into();
        self
    }

    fn check(&self) -> Result<(), HyperparameterError> {
        if self.warmup_target.is_some() || self.warmup_steps == Steps::ZERO {
            return Ok(());
        }
        Err(HyperparameterError::new("warmup_steps", self.warmup_steps.get(), "0 without warmup_target"))
    }

    fn decayed(&self, from: f64, step: Steps) -> f64 {
        let p = fraction(step.min(self.decay_steps), self.decay_steps);
        above_floor(from, self.alpha, half_cosine(p))
    }
}

impl Schedule for CosineDecay {
    fn value(&self, step: u64) -> f64 {
        match (self.warmup_target, Steps::from(step).checked_sub(self.warmup_steps)) {
            (None, _) => self.decayed(self.initial_learning_rate, step.into()),
            (Some(target), None) => blend(self.initial_learning_rate, target, fraction(step, self.warmup_steps)),
            (Some(target), Some(since_warmup)) => self.decayed(target, since_warmup),
        }
    }
}
