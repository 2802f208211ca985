//! Options of one call.

use crate::config::{HyperparameterError, require};

/// Options of a single step, for training loops that hand in numbers with each call.
///
/// # Examples
///
/// ```
/// use opt_core::{Optimizer, StepOptions};
/// use opt_sgd::Sgd;
///
/// let mut w = [1.0];
/// let mut opt = Optimizer::new(Sgd::new(0.5))?;
/// // The gradients are sums over a batch of 4.
/// let report = opt.step_with(&mut w, &[8.0], StepOptions::new().learning_rate(0.25).gradient_scale(0.25))?;
/// assert_eq!((w, report.learning_rate, opt.learning_rate()), ([0.5], 0.25, 0.5));
/// # Ok::<(), opt_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct StepOptions {
    /// The learning rate of this step, instead of the optimizer's own number or schedule: finite, at least 0. Built-in
    /// changes of the rule, such as a warmup, apply to it, and so do factors of groups. A group with a learning rate or
    /// a rule of its own keeps its own.
    pub learning_rate: Option<f64>,
    /// A positive, finite factor of all gradients of this call. Clips and norms are those of the scaled gradients. By
    /// default 1.
    pub gradient_scale: Option<f64>,
}

impl StepOptions {
    /// No options: the step is the same as without them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the [learning rate](field@Self::learning_rate) of this step.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = Some(learning_rate);
        self
    }

    /// Sets the [factor](field@Self::gradient_scale) of all gradients.
    #[must_use]
    pub fn gradient_scale(mut self, scale: f64) -> Self {
        self.gradient_scale = Some(scale);
        self
    }

    /// The factor of all gradients, checked.
    pub(crate) fn factor(&self) -> Result<f64, HyperparameterError> {
        let scale = self.gradient_scale.unwrap_or(1.0);
        require("gradient_scale", scale, f64::MIN_POSITIVE..=f64::MAX)?;
        Ok(scale)
    }
}
