//! Values that change with the step.

use std::fmt::Debug;
use std::sync::Arc;

use crate::config::{Config, ConfigError};
use crate::error::HyperparameterError;

/// A pure function from the step to a value: a learning rate, a weight decay.
///
/// The step counts from 0: it is the number of steps already applied, exact for every `u64`.
/// The crate `opt-schedules` holds the usual ones.
///
/// # Examples
///
/// ```
/// use opt_core::{Config, ConfigError, Schedule};
///
/// #[derive(Debug)]
/// struct Halving(f64);
///
/// impl Schedule for Halving {
///     fn value(&self, step: u64) -> f64 {
///         self.0 * 0.5_f64.powf(step as f64)
///     }
///     fn class_name(&self) -> &str {
///         "Halving"
///     }
///     fn config(&self) -> Result<Config, ConfigError> {
///         Ok(opt_core::config([("initial", self.0.into())]))
///     }
/// }
/// assert_eq!(Halving(1.0).value(3), 0.125);
/// ```
pub trait Schedule: Debug + Send + Sync {
    /// The value at a step.
    fn value(&self, step: u64) -> f64;

    /// The class name in configurations.
    fn class_name(&self) -> &str;

    /// The configuration, by Keras's names.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotSerializable`] when the schedule holds code.
    fn config(&self) -> Result<Config, ConfigError>;

    /// Checks the hyperparameters; called once, by `build()`.
    ///
    /// # Errors
    ///
    /// Names the first hyperparameter that is out of range.
    fn validate(&self) -> Result<(), HyperparameterError> {
        Ok(())
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        #[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
        impl<S: Schedule + ?Sized> Schedule for $pointer<S> {
            fn value(&self, step: u64) -> f64 {
                (**self).value(step)
            }
            fn class_name(&self) -> &str {
                (**self).class_name()
            }
            fn config(&self) -> Result<Config, ConfigError> {
                (**self).config()
            }
            fn validate(&self) -> Result<(), HyperparameterError> {
                (**self).validate()
            }
        }
    };
}

forward!(Box);
forward!(Arc);
