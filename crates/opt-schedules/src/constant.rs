//! The same value at every step.

use opt_core::{
    Config, ConfigError, Fields, HyperparameterError, HyperparameterSpec, Schedule, ScheduleFromConfig, config,
};

use crate::checks;
use crate::spec::{RATE, required};

/// The same value at every step.
///
/// Where a plain number is accepted, the number is simpler. `Constant` is for code that wants a [`Schedule`], and for a
/// configuration that should keep its form when the value changes.
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
/// [`validate`](Schedule::validate) refuses a `value` that is negative, infinite or NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    value: f64,
}

impl Constant {
    /// The same value at every step.
    #[must_use]
    pub fn new(value: f64) -> Self {
        Self { value }
    }
}

impl Schedule for Constant {
    fn value(&self, _step: u64) -> f64 {
        self.value
    }

    fn class_name(&self) -> &str {
        Self::CLASS_NAME
    }

    fn config(&self) -> Result<Config, ConfigError> {
        Ok(config([("value", self.value.into())]))
    }

    fn validate(&self) -> Result<(), HyperparameterError> {
        checks::rate("value", self.value)
    }
}

impl ScheduleFromConfig for Constant {
    const CLASS_NAME: &'static str = "Constant";

    const HYPERPARAMETERS: &'static [HyperparameterSpec] = &[required("value", RATE, "value at every step, v")];

    fn from_config(fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        Ok(Self::new(fields.f64("value")?))
    }
}
