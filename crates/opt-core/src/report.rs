//! What a step tells.

/// What happened in a step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Whether the step was applied.
    pub outcome: Outcome,
    /// How many steps have been applied, this one included.
    pub iterations: u64,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The norm of all gradients together, before it was clipped; present with
    /// [`global_clipnorm`](crate::OptimizerBuilder::global_clipnorm).
    pub global_norm: Option<f64>,
    /// What all gradients were multiplied with by the clip of the global norm; 1 if it was small enough.
    pub clip_factor: Option<f64>,
    /// The first gradient, by the names of the variables, that is infinite or NaN; looked for with
    /// [`NonFinite::SkipStep`].
    pub non_finite: Option<NonFiniteGradient>,
}

impl StepReport {
    /// Whether the variables were updated.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.outcome == Outcome::Applied
    }
}

/// Whether a step was applied, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The variables were updated and `iterations` counted on.
    Applied,
    /// There were no variables: nothing changed.
    NoVariables,
    /// A gradient was infinite or NaN: nothing changed.
    NonFinite,
}

/// Where a gradient is infinite or NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct NonFiniteGradient {
    /// The variable.
    pub variable: String,
    /// Where in the gradient; for a sparse gradient, where in its values.
    pub index: Vec<usize>,
    /// The value found there.
    pub value: f64,
}

/// What to do about gradients that are infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// Use them. As in Keras, a global norm that is not finite then makes every gradient NaN.
    #[default]
    Propagate,
    /// Leave the step out: nothing changes, `iterations` included, and the report says where the first one is.
    SkipStep,
    /// Refuse the step with [`Error::NonFiniteGradient`](crate::Error::NonFiniteGradient).
    Error,
}
