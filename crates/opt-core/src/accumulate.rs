//! Gradient accumulation: several micro-steps make one step.

use crate::config::{HyperparameterError, require};

/// Several calls make one step: their gradients are summed, and the last call applies the sum.
///
/// A batch that does not fit in memory is divided into `steps` micro-batches, and each call gets the gradients of one
/// of them. A call that only adds is a micro-step: it changes no variable, and returns
/// [`Outcome::Accumulated`](crate::Outcome::Accumulated). Step counter, schedules and averages move with the call that
/// applies. Clips and norms are those of the accumulated gradient.
///
/// * A variable may have gradients in some micro-steps only. If it has one in any of them, it is updated, and must be
///   in the list of the call that applies.
/// * Sparse gradients stay sparse as long as all gradients of the variable are.
/// * The accumulated gradients are part of the state.
/// * Under a policy for [`NonFinite`](crate::NonFinite) gradients, a micro-step whose gradients are not finite is
///   skipped or refused, and does not count.
///   A sum that is finite but too large for the rule is dropped by the call that would apply it.
/// * On several ranks, the gradients are reduced once, by the call that applies.
/// * [`Optimizer::flush`](crate::Optimizer::flush) applies what there is, at the end of an epoch.
///
/// # Examples
///
/// ```
/// use opt_core::{Accumulate, Optimizer, Outcome, Variable};
/// use opt_sgd::Sgd;
///
/// let mut w = [1.0];
/// let mut opt = Optimizer::builder(Sgd::new(0.5)).accumulate(Accumulate::mean(2)).build()?;
/// let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
/// assert_eq!((report.outcome, w), (Outcome::Accumulated { micro_step: 1, of: 2 }, [1.0]));
/// let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0])])?;
/// assert_eq!((report.outcome, w), (Outcome::Applied, [0.0]));
/// # Ok::<(), opt_core::Error>(())
/// ```
#[doc(alias = "MultiSteps")]
#[doc(alias = "gradient_accumulation_steps")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accumulate {
    pub(crate) steps: u64,
    pub(crate) mean: bool,
    pub(crate) keras3: bool,
}

impl Accumulate {
    /// The mean of the gradients of `steps` calls, at least 1: for a loss that is a mean over its micro-batch. 1 is no
    /// accumulation.
    #[must_use]
    pub fn mean(steps: u64) -> Self {
        Self { steps, mean: true, keras3: false }
    }

    /// The sum of the gradients of `steps` calls, at least 1: for a loss that is divided by `steps` already, or is a
    /// sum over its micro-batch.
    #[must_use]
    pub fn sum(steps: u64) -> Self {
        Self { steps, mean: false, keras3: false }
    }

    /// The mean of `steps` calls as Keras 3 does it, with its `gradient_accumulation_steps`: averages move in every
    /// call, learning-rate schedules count calls, and the call that applies updates only variables that have a gradient
    /// in this call; what others have accumulated is dropped.
    #[must_use]
    pub fn keras3(steps: u64) -> Self {
        Self { steps, mean: true, keras3: true }
    }

    /// The factor of a sum of this many gradients.
    pub(crate) fn factor(&self, micro_steps: u64) -> f64 {
        if self.mean { 1.0 / micro_steps as f64 } else { 1.0 }
    }

    pub(crate) fn validate(&self) -> Result<(), HyperparameterError> {
        // Whole numbers up to here are exact in the state.
        require("accumulate", self.steps as f64, 1.0..=9_007_199_254_740_992.0)
    }
}
