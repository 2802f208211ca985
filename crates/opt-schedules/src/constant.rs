//! The same value at every step.

use opt_core::{Schedule, hyperparameters};

hyperparameters! {
    /// The same value at every step.
    ///
    /// Where a plain number is accepted, the number is simpler. `Constant` is for code that needs a [`Schedule`], and
    /// for a configuration whose form should not change with the value.
    ///
    /// ```text
    /// value(s) = v
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | v | `value` | required |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{Constant, Schedule};
    ///
    /// let rate = Constant::new(0.01);
    /// assert_eq!([rate.value(0), rate.value(u64::MAX)], [0.01, 0.01]);
    /// ```
    ///
    /// # Differences
    ///
    /// Keras has no such class; only this library can read a configuration with it.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses a `value` that is negative, infinite or NaN.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Constant {
        #[required] value: f64, in 0.0.., "value at every step, v";
    }
    schedule "Constant"
}

impl Constant {
    /// The same value at every step.
    #[must_use]
    pub fn new(value: f64) -> Self {
        Self::with_defaults(value)
    }
}

impl Schedule for Constant {
    fn value(&self, _step: u64) -> f64 {
        self.value
    }
}
