//! Classes with a name and fields in a configuration: rules and schedules.

use std::fmt::Debug;
use std::sync::Arc;

use super::{Config, ConfigError, Dialect, Fields, HyperparameterError, HyperparameterSpec};
use crate::hyper::Hyper;
use crate::rule::Step;
use crate::trace::TracedKernel;

/// A rule or a schedule as configurations describe it: a class name, fields, and their ranges.
///
/// Object safe. [`hyperparameters!`](crate::hyperparameters) implements it; wrappers forward to the rule or schedule
/// inside.
pub trait Configurable: Debug + Send + Sync {
    /// The class name in configurations.
    fn class_name(&self) -> &str;

    /// The fields, with Keras's names.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotSerializable`] when a field holds code.
    fn config(&self) -> Result<Config, ConfigError>;

    /// Checks the ranges; `build()` calls it once.
    ///
    /// # Errors
    ///
    /// Names the first hyperparameter that is out of range.
    fn validate(&self) -> Result<(), HyperparameterError> {
        Ok(())
    }
}

/// The hyperparameters of an update rule: everything but the arithmetic.
///
/// Object safe, and without an element type; [`UpdateRule`](crate::UpdateRule) adds the formula.
/// [`hyperparameters!`](crate::hyperparameters) implements it; wrappers forward to the rule inside.
pub trait Hyperparameters: Configurable {
    /// The learning rate. The learning rate of a wrapper is that of the rule inside.
    fn learning_rate(&self) -> &Hyper;

    /// The learning rate, to be changed.
    fn learning_rate_mut(&mut self) -> &mut Hyper;

    /// The library whose arithmetic the rule follows.
    fn dialect(&self) -> Dialect {
        Dialect::Keras
    }

    /// The decoupled weight decay that the optimizer has unless
    /// [`OptimizerBuilder::weight_decay`](crate::OptimizerBuilder::weight_decay) sets another one. AdamW has one.
    fn default_weight_decay(&self) -> Option<f64> {
        None
    }

    /// Begins a step that is [recorded](crate::trace), as [`UpdateRule::begin_step`](crate::UpdateRule::begin_step)
    /// does. `None` if the rule cannot be recorded: it is written for one element type.
    fn begin_traced<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Option<TracedKernel<'a>> {
        let _ = (step, shared);
        None
    }
}

/// A class that is read from its own fields alone: every schedule, and every rule that wraps no other rule.
///
/// [`hyperparameters!`](crate::hyperparameters) implements it.
pub trait FromFields: Sized + 'static {
    /// The class name in configurations.
    const CLASS_NAME: &'static str;

    /// The class's own fields, which [`Configurable::config`] writes. Tables in the documents are generated from this
    /// list.
    #[must_use]
    fn hyperparameters() -> Vec<HyperparameterSpec> {
        Vec::new()
    }

    /// Reads the class's own fields. The other fields belong to the engine, or are refused.
    ///
    /// # Errors
    ///
    /// When a field is missing or has the wrong type.
    fn from_fields(fields: &mut Fields<'_>) -> Result<Self, ConfigError>;
}

macro_rules! forward {
    ($pointer:ident) => {
        #[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
        impl<C: Configurable + ?Sized> Configurable for $pointer<C> {
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

#[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
impl<H: Hyperparameters + ?Sized> Hyperparameters for Box<H> {
    fn learning_rate(&self) -> &Hyper {
        (**self).learning_rate()
    }
    fn learning_rate_mut(&mut self) -> &mut Hyper {
        (**self).learning_rate_mut()
    }
    fn dialect(&self) -> Dialect {
        (**self).dialect()
    }
    fn default_weight_decay(&self) -> Option<f64> {
        (**self).default_weight_decay()
    }
    fn begin_traced<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Option<TracedKernel<'a>> {
        (**self).begin_traced(step, shared)
    }
}
