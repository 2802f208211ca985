//! Hyperparameters that may follow a schedule.

use std::ops::RangeBounds;
use std::sync::Arc;

use serde_json::Value;

use crate::config::{ConfigError, Envelope};
use crate::error::{HyperparameterError, require};
use crate::schedule::Schedule;

/// A number, or a schedule that gives one for each step.
///
/// Numbers and schedules convert into it, so `Sgd::new(0.1)` and `Sgd::new(CosineDecay::new(0.1, 1_000))` both work.
#[derive(Debug, Clone)]
pub enum Hyper {
    /// The same value at every step.
    Constant(f64),
    /// A value for each step.
    Schedule(Scheduled),
}

/// A schedule together with what its configuration said besides the schedule's own fields.
#[derive(Debug, Clone)]
pub struct Scheduled {
    schedule: Arc<dyn Schedule>,
    envelope: Envelope,
}

impl Hyper {
    /// The value at a step (counted from 0).
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Schedule(scheduled) => scheduled.schedule.value(step),
        }
    }

    /// Whether the value follows a schedule.
    #[must_use]
    pub fn is_scheduled(&self) -> bool {
        matches!(self, Self::Schedule(_))
    }

    /// The schedule, if there is one.
    #[must_use]
    pub fn schedule(&self) -> Option<&dyn Schedule> {
        match self {
            Self::Constant(_) => None,
            Self::Schedule(scheduled) => Some(&*scheduled.schedule),
        }
    }

    /// The number, or the serialised schedule.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotSerializable`] when the schedule holds code.
    pub fn to_json(&self) -> Result<Value, ConfigError> {
        match self {
            Self::Constant(value) => Ok((*value).into()),
            Self::Schedule(Scheduled { schedule, envelope }) => {
                Ok(envelope.wrap(schedule.class_name(), schedule.config()?))
            }
        }
    }

    /// Checks the number against a range, or the schedule by its own rules.
    ///
    /// # Errors
    ///
    /// Names the field, its value and the range.
    pub fn validate(&self, name: &str, range: impl RangeBounds<f64>) -> Result<(), HyperparameterError> {
        match self {
            Self::Constant(value) => require(name, *value, range),
            Self::Schedule(scheduled) => scheduled.schedule.validate(),
        }
    }

    pub(crate) fn from_schedule(schedule: Arc<dyn Schedule>, envelope: Envelope) -> Self {
        Self::Schedule(Scheduled { schedule, envelope })
    }
}

impl From<f64> for Hyper {
    fn from(value: f64) -> Self {
        Self::Constant(value)
    }
}

impl<S: Schedule + 'static> From<S> for Hyper {
    fn from(schedule: S) -> Self {
        Self::from_schedule(Arc::new(schedule), Envelope::default())
    }
}

/// A learning rate: a number or a schedule, divided by `1 + decay * step` in Keras's legacy generation.
#[derive(Debug, Clone)]
pub struct LearningRate {
    base: Hyper,
    decay: f64,
}

impl LearningRate {
    /// A learning rate without inverse-time decay.
    #[must_use]
    pub fn new(base: impl Into<Hyper>) -> Self {
        Self { base: base.into(), decay: 0.0 }
    }

    /// Sets the inverse-time decay, in 1/step; 0 turns it off.
    #[must_use]
    pub fn decay(mut self, decay: f64) -> Self {
        self.decay = decay;
        self
    }

    /// The learning rate at a step (counted from 0).
    ///
    /// # Examples
    ///
    /// ```
    /// let rate = opt_core::LearningRate::new(1.0).decay(0.5);
    /// assert_eq!([rate.at(0), rate.at(2), rate.at(6)], [1.0, 0.5, 0.25]);
    /// ```
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        self.base.at(step) / (1.0 + self.decay * step as f64)
    }

    /// The number or schedule before inverse-time decay.
    #[must_use]
    pub fn base(&self) -> &Hyper {
        &self.base
    }

    /// The inverse-time decay, in 1/step.
    #[must_use]
    pub fn inverse_time_decay(&self) -> f64 {
        self.decay
    }

    /// Replaces the number or schedule; the inverse-time decay stays.
    pub fn set_base(&mut self, base: Hyper) {
        self.base = base;
    }

    /// Checks both parts: each must be finite and at least 0.
    ///
    /// # Errors
    ///
    /// Names the field, its value and the range.
    pub fn validate(&self) -> Result<(), HyperparameterError> {
        self.base.validate("learning_rate", 0.0..)?;
        require("decay", self.decay, 0.0..)
    }
}
