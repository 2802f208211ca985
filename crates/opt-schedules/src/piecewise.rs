//! Constant values between boundaries.

use opt_core::config::{HyperparameterError, Steps};
use opt_core::{Schedule, hyperparameters};

use crate::lists;

hyperparameters! {
    /// Constant values between boundaries.
    ///
    /// The classic recipe of image classification: divide the learning rate by 10 at a few chosen steps.
    ///
    /// ```text
    /// value(s) = v_i,   i = number of boundaries b with b < s
    /// ```
    ///
    /// The step at a boundary still has the value on the left.
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | b | `boundaries` | required, in steps, rising |
    /// | v | `values` | required, one more than boundaries |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{PiecewiseConstantDecay, Schedule};
    ///
    /// let rate = PiecewiseConstantDecay::new([100, 200], [1.0, 0.1, 0.01]);
    /// assert_eq!([0, 100, 101, 200, 201].map(|step| rate.value(step)), [1.0, 1.0, 0.1, 0.1, 0.01]);
    /// ```
    ///
    /// # Differences
    ///
    /// PyTorch's `MultiStepLR` and optax's `piecewise_constant_schedule` change *at* the boundary, Keras and this type
    /// one step later. Keras checks at some step of the training, not before, that boundaries rise.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses an empty list of boundaries, boundaries that do
    /// not rise strictly, a list of values that is not one longer than the boundaries, and values that are negative,
    /// infinite or NaN.
    ///
    /// # References
    ///
    /// K. He, X. Zhang, S. Ren, J. Sun, 2015: Deep Residual Learning for Image Recognition. arXiv:1512.03385.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PiecewiseConstantDecay {
        #[required] boundaries: Vec<Steps>, in 0.0.., "last step of each value but the last, b; rising";
        #[required] values: Vec<f64>, in 0.0.., "values, v; one more than boundaries";
    }
    schedule "PiecewiseConstantDecay" {
        check: Self::check,
    }
}

impl PiecewiseConstantDecay {
    /// Has the first value up to and including the first boundary, then the next value, and so on.
    #[must_use]
    pub fn new(boundaries: impl IntoIterator<Item = impl Into<Steps>>, values: impl Into<Vec<f64>>) -> Self {
        Self::with_defaults(boundaries.into_iter().map(Into::into).collect(), values.into())
    }

    fn check(&self) -> Result<(), HyperparameterError> {
        lists::not_empty("boundaries", self.boundaries.len())?;
        lists::rising(&self.boundaries, 0)?;
        lists::one_more("values", self.values.len(), self.boundaries.len())
    }
}

impl Schedule for PiecewiseConstantDecay {
    fn value(&self, step: u64) -> f64 {
        let passed = self.boundaries.partition_point(|boundary| *boundary < step.into());
        self.values.get(passed).copied().unwrap_or(f64::NAN)
    }
}
