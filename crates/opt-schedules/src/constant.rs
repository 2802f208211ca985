//! The same value at every step.

use opt_core::{Schedule, hyperparameters};

hyperparameters! {
    /// The same value at every step.
    ///
    /// Where a plain number is accepted, the number is simpler. `Constant` is for code that wants a [`Schedule`], and
    /// for a configuration that should keep its form when the value changes.
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
    /// Keras has no such class; a configuration with it is read by this library alone.
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
