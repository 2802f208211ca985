//! A linear warmup before any schedule.

use opt_core::{Hyper, Schedule, hyperparameters};

use crate::numbers::{blend, fraction};

hyperparameters! {
    /// Rises on a straight line to the value of another schedule, and then follows that schedule.
    ///
    /// Large batches and adaptive rules are unstable in the first steps, while their statistics are poor; a few hundred
    /// steps of warmup cure that. The inner schedule may also be a number.
    ///
    /// ```text
    /// s < w:    value(s) = v + (inner(0) - v) s / w        inner(s) in place of inner(0) without delay_inner
    /// s >= w:   value(s) = inner(s - w)                    inner(s) without delay_inner
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | inner | `inner` | required: a number or a schedule |
    /// | w | `warmup_steps` | required; 0 is no warmup |
    /// | v | `start_value` | 0 |
    /// | | `delay_inner` | true |
    ///
    /// * With `delay_inner`, the inner schedule starts when the warmup ends: it counts its steps from there and runs in
    ///   full, so the whole takes `warmup_steps` longer. The ramp leads to its first value.
    /// * Without `delay_inner`, the inner schedule counts from the first step, so the whole takes as long as the inner
    ///   schedule alone. The ramp leads to the current value of the inner schedule: the ramp is a curve if that value
    ///   changes.
    ///
    /// Step `w` is the first step with the full value. Step 0 has `start_value`, which is 0 by default: such a step
    /// moves nothing. To start at `1 / w` of the full value, set [`start_value`](Self::start_value).
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{LinearWarmup, PolynomialDecay, Schedule};
    ///
    /// let decay = PolynomialDecay::new(1.0, 8).end_learning_rate(0.0);
    /// let later = LinearWarmup::new(decay.clone(), 4);
    /// assert_eq!([0, 1, 2, 4, 8, 12].map(|step| later.value(step)), [0.0, 0.25, 0.5, 1.0, 0.5, 0.0]);
    ///
    /// let at_once = LinearWarmup::new(decay, 4).delay_inner(false);
    /// assert_eq!([0, 2, 4, 6, 8].map(|step| at_once.value(step)), [0.0, 0.375, 0.5, 0.25, 0.0]);
    ///
    /// let constant = LinearWarmup::new(0.5, 2).start_value(0.25);
    /// assert_eq!([0, 1, 2, 3].map(|step| constant.value(step)), [0.25, 0.375, 0.5, 0.5]);
    /// ```
    ///
    /// # Differences
    ///
    /// In Keras only `CosineDecay` has a warmup; `LinearWarmup::new(CosineDecay::new(t, d), w).start_value(l)` gives
    /// the same values as `CosineDecay::new(l, d).warmup(t, w)`. PyTorch's `LinearLR` is a factor on another scheduler,
    /// which counts from the first step, as without `delay_inner`. optax joins a `linear_schedule` and another
    /// schedule, which is the default here.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses a `start_value` that is negative, infinite or
    /// NaN, and an inner schedule that is not valid itself. [`config`](opt_core::config::Configurable::config) fails if
    /// the inner schedule holds code.
    ///
    /// # References
    ///
    /// P. Goyal et al., 2017: Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour. arXiv:1706.02677.
    #[derive(Debug, Clone)]
    pub struct LinearWarmup {
        #[required] inner: Hyper, in 0.0.., "what comes after the warmup";
        #[required] warmup_steps: u64, "steps of the warmup, w";

        /// Sets the value at step 0, at least 0.
        start_value: f64 = 0.0, in 0.0.., "value at step 0, v";

        /// Sets whether the inner schedule counts its steps from the end of the warmup, rather than from the first
        /// step.
        delay_inner: bool = true, "count the inner schedule's steps from the end of the warmup";
    }
    schedule "LinearWarmup"
}

impl LinearWarmup {
    /// Rises from 0 to the first value of `inner` in `warmup_steps` steps; then follows `inner` from its start.
    #[must_use]
    pub fn new(inner: impl Into<Hyper>, warmup_steps: u64) -> Self {
        Self::with_defaults(inner.into(), warmup_steps)
    }
}

impl Schedule for LinearWarmup {
    fn value(&self, step: u64) -> f64 {
        let inner_step = if self.delay_inner { step.saturating_sub(self.warmup_steps) } else { step };
        let inner = self.inner.at(inner_step);
        if step < self.warmup_steps { blend(self.start_value, inner, fraction(step, self.warmup_steps)) } else { inner }
    }
}
