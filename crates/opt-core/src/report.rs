//! The report of a step.

use std::sync::Arc;

/// The report of a step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Whether the step was applied.
    pub outcome: Outcome,
    /// The number of steps that have been applied, including this one.
    pub iterations: u64,
    /// The learning rate of this step; with [groups](crate::Group), that of the default group.
    pub learning_rate: f64,
    /// The learning rates of the other groups, in their order, each with the name of the group.
    pub group_learning_rates: Vec<(Arc<str>, f64)>,
    /// The norm of all gradients together, before clipping by it; present with
    /// [`global_clipnorm`](crate::OptimizerBuilder::global_clipnorm).
    pub global_norm: Option<f64>,
    /// The factor by which the clip of the global norm multiplied all gradients; 1 if the norm was within the limit.
    /// Present with [`global_clipnorm`](crate::OptimizerBuilder::global_clipnorm).
    pub clip_factor: Option<f64>,
    /// The first gradient, in the order of the names of the variables, that is infinite, NaN or too large; present only
    /// with [`NonFinite::SkipStep`] or a dynamic [`LossScale`](crate::LossScale).
    pub non_finite: Option<NonFiniteGradient>,
}

impl StepReport {
    /// Whether the variables were updated.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.outcome == Outcome::Applied
    }
}

/// Whether a step was applied, or the reason why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The variables were updated, and `iterations` has grown by 1.
    Applied,
    /// The gradients were added to those of earlier micro-steps, and wait to be applied: see
    /// [`Accumulate`](crate::Accumulate).
    Accumulated {
        /// The number of micro-steps that wait.
        micro_step: u64,
        /// The number of micro-steps of a step.
        of: u64,
    },
    /// There were no variables: nothing changed.
    NoVariables,
    /// A gradient was infinite, NaN or too large: nothing changed, except a dynamic [`LossScale`](crate::LossScale).
    NonFinite,
}

/// The place of an infinity, of a NaN, or of a number that is too large, in a gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct NonFiniteGradient {
    /// The name of the variable.
    pub variable: String,
    /// The index in the gradient; for a sparse gradient, the index in its values.
    pub index: Vec<usize>,
    /// The value at this index.
    pub value: f64,
}

/// The policy for gradients that are infinite or NaN, and for gradients that are too large: their squares, after
/// clipping, overflow the second moment of the rule (above 1.8e19 in 32 bits), which would be infinite from then on,
/// so that the variable would never move again. Rules without a second moment take any finite gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// Use them. Under a clip by the global norm, a norm that is not finite makes every gradient NaN, as in Keras.
    #[default]
    Propagate,
    /// Skip the step: nothing changes, `iterations` included (a dynamic [`LossScale`](crate::LossScale) does). The
    /// report gives the place of the first such gradient.
    SkipStep,
    /// Refuse the step with [`Error::NonFiniteGradient`](crate::Error::NonFiniteGradient) or
    /// [`Error::GradientOverflow`](crate::Error::GradientOverflow).
    Error,
}
