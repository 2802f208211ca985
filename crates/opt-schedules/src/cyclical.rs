//! Triangular waves between two learning rates: of constant height, halved each cycle, or shrinking exponentially.

mod wave;

use opt_core::config::{HyperparameterError, Interval, Steps, require};
use opt_core::{Schedule, hyperparameters};

pub use wave::ScaleMode;
use wave::Wave;

use crate::numbers::power;

/// Declares a cyclical schedule: a [`Wave`] whose height is a function of the schedule and the cycle or step, and the
/// fields of that function.
macro_rules! cyclical {
    (
        $(#[$documentation:meta])* $name:ident, $class_name:literal, $default_mode:expr, $height:expr,
        fields: { $($fields:tt)* }, clauses: $clauses:tt
    ) => {
        hyperparameters! {
            $(#[$documentation])*
            #[derive(Debug, Clone, PartialEq)]
            pub struct $name {
                #[required] initial_learning_rate: f64, in 0.0.., "value at step 0, l";
                #[required] maximal_learning_rate: f64, in 0.0.., "value at the peak, h";
                #[required] step_size: Steps, in 1.0.., "steps of half a cycle, n";

                /// Sets whether the height depends on the cycle or on the step.
                scale_mode: ScaleMode = $default_mode, "what the height depends on";
                $($fields)*
            }
            schedule $class_name $clauses
        }

        impl $name {
            /// Rises from `initial_learning_rate` to `maximal_learning_rate` in `step_size` steps, and falls back in
            /// the same number of steps.
            #[must_use]
            pub fn new(
                initial_learning_rate: f64,
                maximal_learning_rate: f64,
                step_size: impl Into<Steps>,
            ) -> Self {
                Self::with_defaults(initial_learning_rate, maximal_learning_rate, step_size.into())
            }
        }

        impl Schedule for $name {
            fn value(&self, step: u64) -> f64 {
                let height: fn(&Self, f64) -> f64 = $height;
                let wave = Wave {
                    initial: self.initial_learning_rate,
                    maximal: self.maximal_learning_rate,
                    step_size: self.step_size,
                    scale_mode: self.scale_mode,
                };
                wave.value(step, |x| height(self, x))
            }
        }
    };
}

cyclical! {
    /// Rises and falls in straight lines between two learning rates.
    ///
    /// Needs no single good learning rate: a range test gives the two ends, and every cycle crosses all rates in
    /// between.
    ///
    /// ```text
    /// c = floor(1 + s / (2 n))            cycle, from 1
    /// x = |s / n - 2 c + 1|               1 at the ends of a cycle, 0 at its peak
    /// value(s) = l + (h - l) (1 - x)
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | h | `maximal_learning_rate` | required |
    /// | n | `step_size` | required: half a cycle |
    /// | | `scale_mode` | `"cycle"`, without effect here |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{Schedule, TriangularCyclicalLearningRate};
    ///
    /// let rate = TriangularCyclicalLearningRate::new(0.0, 1.0, 4);
    /// assert_eq!([0, 1, 2, 4, 6, 8, 12].map(|step| rate.value(step)), [0.0, 0.25, 0.5, 1.0, 0.5, 0.0, 1.0]);
    /// ```
    ///
    /// # Differences
    ///
    /// TensorFlow Addons treats any `scale_mode` other than `"cycle"` as `"iterations"`; here other modes are refused.
    /// Its values are `f32`, and NaN with a `step_size` of 0. PyTorch's `CyclicLR` is the same wave, but may fall at
    /// another speed.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses `step_size` below 1, and rates that are negative,
    /// infinite or NaN. The maximal rate may be below the initial rate, as for a momentum that falls while the learning
    /// rate rises.
    ///
    /// # References
    ///
    /// L. N. Smith, 2015: Cyclical Learning Rates for Training Neural Networks. arXiv:1506.01186.
    TriangularCyclicalLearningRate,
    "TriangularCyclicalLearningRate",
    ScaleMode::Cycle,
    |_, _| 1.0,
    fields: {},
    clauses: {}
}

cyclical! {
    /// Rises and falls in straight lines; each cycle has half the height of the cycle before.
    ///
    /// Like [`TriangularCyclicalLearningRate`], but with falling peaks, so that training settles.
    ///
    /// ```text
    /// value(s) = l + (h - l) (1 - x) / 2^(c - 1)      s in place of c with scale_mode "iterations"
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | h | `maximal_learning_rate` | required |
    /// | c, x | from `step_size` as for [`TriangularCyclicalLearningRate`] | required |
    /// | | `scale_mode` | `"cycle"` |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{Schedule, Triangular2CyclicalLearningRate};
    ///
    /// let rate = Triangular2CyclicalLearningRate::new(0.0, 1.0, 4);
    /// assert_eq!([0, 4, 8, 12, 16, 20].map(|step| rate.value(step)), [0.0, 1.0, 0.0, 0.5, 0.0, 0.25]);
    /// ```
    ///
    /// # Differences
    ///
    /// As for [`TriangularCyclicalLearningRate`].
    ///
    /// # Errors
    ///
    /// As for [`TriangularCyclicalLearningRate`].
    ///
    /// # References
    ///
    /// L. N. Smith, 2015: Cyclical Learning Rates for Training Neural Networks. arXiv:1506.01186.
    Triangular2CyclicalLearningRate,
    "Triangular2CyclicalLearningRate",
    ScaleMode::Cycle,
    |_, x| power(0.5, x - 1.0),
    fields: {},
    clauses: {}
}

cyclical! {
    /// Rises and falls in straight lines; the height shrinks exponentially.
    ///
    /// Like [`TriangularCyclicalLearningRate`], but with peaks that fall as fast as you choose.
    ///
    /// ```text
    /// value(s) = l + (h - l) (1 - x) g^s              c in place of s with scale_mode "cycle"
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | h | `maximal_learning_rate` | required |
    /// | c, x | from `step_size` as for [`TriangularCyclicalLearningRate`] | required |
    /// | g | `gamma` | 1 |
    /// | | `scale_mode` | `"iterations"` |
    ///
    /// Cycles count from 1: with `scale_mode` `"cycle"`, the first peak is already multiplied by `gamma`.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{ExponentialCyclicalLearningRate, ScaleMode, Schedule};
    ///
    /// let rate = ExponentialCyclicalLearningRate::new(0.0, 1.0, 2).gamma(0.5);
    /// assert_eq!([0, 1, 2, 3, 6].map(|step| rate.value(step)), [0.0, 0.25, 0.25, 0.0625, 0.015625]);
    ///
    /// let rate = rate.scale_mode(ScaleMode::Cycle);
    /// assert_eq!([0, 2, 6].map(|step| rate.value(step)), [0.0, 0.5, 0.25]);
    /// ```
    ///
    /// # Differences
    ///
    /// As for [`TriangularCyclicalLearningRate`]. TensorFlow Addons fails here if steps are integers. With a `gamma`
    /// above 1, growth stops at the largest finite number.
    ///
    /// # Errors
    ///
    /// As for [`TriangularCyclicalLearningRate`]. Also refuses a `gamma` that is not above 0, or that is above 1 while
    /// the maximal rate is below the initial rate: the value would become negative.
    ///
    /// # References
    ///
    /// L. N. Smith, 2015: Cyclical Learning Rates for Training Neural Networks. arXiv:1506.01186.
    ExponentialCyclicalLearningRate,
    "ExponentialCyclicalLearningRate",
    ScaleMode::Iterations,
    |rate, x| power(rate.gamma, x),
    fields: {
        /// Sets the factor for each step or cycle, above 0.
        gamma: f64 = 1.0, in Interval::POSITIVE, "factor for each step or cycle, g";
    },
    clauses: {
        check: Self::check,
    }
}

impl ExponentialCyclicalLearningRate {
    /// Refuses a falling wave that grows: it would fall below 0.
    fn check(&self) -> Result<(), HyperparameterError> {
        let goes_down = self.maximal_learning_rate < self.initial_learning_rate;
        if goes_down { require("gamma", self.gamma, ..=1.0) } else { Ok(()) }
    }
}
