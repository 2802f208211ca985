//! Decay without an end: exponential, and inverse in time.

use opt_core::config::Steps;
use opt_core::{Schedule, hyperparameters};

use crate::numbers::{fraction, power, saturate};

/// Declares a decay that depends on the number of periods of `decay_steps` that have passed: the whole number (a
/// staircase), or with fractions.
///
/// The formula takes the initial rate, the decay rate and that number.
macro_rules! decay {
    ($(#[$documentation:meta])* $name:ident, $class_name:literal, $formula:expr) => {
        hyperparameters! {
            $(#[$documentation])*
            #[derive(Debug, Clone, PartialEq)]
            pub struct $name {
                #[required] initial_learning_rate: f64, in 0.0.., "value at step 0, l";
                #[required] decay_steps: Steps, in 1.0.., "steps of one decay, d";
                #[required] decay_rate: f64, in 0.0.., "strength of one decay, r";

                /// Sets whether the value stays the same for `decay_steps` steps, and then jumps.
                staircase: bool = false, "decay in jumps, every `decay_steps` steps";
            }
            schedule $class_name
        }

        impl $name {
            /// Decays from `initial_learning_rate`, by `decay_rate` once per `decay_steps`, smoothly.
            #[must_use]
            pub fn new(initial_learning_rate: f64, decay_steps: impl Into<Steps>, decay_rate: f64) -> Self {
                Self::with_defaults(initial_learning_rate, decay_steps.into(), decay_rate)
            }
        }

        impl Schedule for $name {
            fn value(&self, step: u64) -> f64 {
                let periods = if self.staircase {
                    self.decay_steps.split(step).0 as f64
                } else {
                    fraction(step, self.decay_steps)
                };
                let formula: fn(f64, f64, f64) -> f64 = $formula;
                saturate(formula(self.initial_learning_rate, self.decay_rate, periods))
            }
        }
    };
}

decay! {
    /// Multiplies the learning rate by the same factor every `decay_steps` steps.
    ///
    /// For long trainings without a known end. With a decay rate above 1, for a sweep over learning rates.
    ///
    /// ```text
    /// value(s) = l r^(s / d)           floor(s / d) if staircase
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | d | `decay_steps` | required |
    /// | r | `decay_rate` | required |
    /// | | `staircase` | false |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{ExponentialDecay, Schedule};
    ///
    /// let smooth = ExponentialDecay::new(0.8, 2, 0.25);
    /// assert_eq!([0, 1, 2, 3, 4].map(|step| smooth.value(step)), [0.8, 0.4, 0.2, 0.1, 0.05]);
    ///
    /// let stairs = smooth.staircase(true);
    /// assert_eq!([0, 1, 2, 3, 4].map(|step| stairs.value(step)), [0.8, 0.8, 0.2, 0.2, 0.05]);
    /// ```
    ///
    /// # Differences
    ///
    /// Keras computes in `f32`, takes a `decay_steps` below 1, and returns NaN with 0. With a decay rate above 1,
    /// growth stops at the largest finite number. PyTorch's `ExponentialLR` is `decay_steps = 1`, its `StepLR` is the
    /// staircase.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses `decay_steps` below 1, and rates that are negative, infinite
    /// or NaN.
    ExponentialDecay,
    "ExponentialDecay",
    |l, r, periods| l * power(r, periods)
}

decay! {
    /// Divides the learning rate by a number that grows with the step.
    ///
    /// Slower than exponential decay: the steps still add up to any distance, which the convergence proofs of
    /// stochastic approximation require.
    ///
    /// ```text
    /// value(s) = l / (1 + r s / d)     floor(s / d) if staircase
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | d | `decay_steps` | required |
    /// | r | `decay_rate` | required |
    /// | | `staircase` | false |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{InverseTimeDecay, Schedule};
    ///
    /// let smooth = InverseTimeDecay::new(1.0, 2, 1.0);
    /// assert_eq!([0, 2, 6, 14].map(|step| smooth.value(step)), [1.0, 0.5, 0.25, 0.125]);
    /// assert_eq!(smooth.staircase(true).value(13), 1.0 / 7.0);
    /// ```
    ///
    /// # Differences
    ///
    /// Keras computes in `f32`, and accepts negative decay rates, for which the value has a pole.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses `decay_steps` below 1, and rates that are negative, infinite
    /// or NaN.
    ///
    /// # References
    ///
    /// H. Robbins and S. Monro, 1951: A Stochastic Approximation Method. The Annals of Mathematical Statistics 22(3).
    InverseTimeDecay,
    "InverseTimeDecay",
    |l, r, periods| l / (1.0 + r * periods)
}
