//! Hyperparameters that may follow a schedule.

use std::sync::Arc;

use serde_json::Value;

use crate::config::{ConfigError, Envelope, HyperparameterError, Interval, require};
use crate::schedule::Schedule;

/// A number, or a schedule that gives a number for each step.
///
/// Numbers and schedules convert into it: `Sgd::new(0.1)`, `Sgd::new(1)` and `Sgd::new(CosineDecay::new(0.1, 1_000))`
/// all work. A number in 32 bits keeps its value, which is not the decimal that was written: `0.1_f32` becomes
/// 0.10000000149011612.
///
/// # Examples
///
/// ```
/// use opt_core::Hyper;
///
/// assert_eq!(Hyper::from(0.1).at(0), 0.1);
/// assert_eq!(Hyper::from(1).at(0), 1.0);
/// assert_eq!(Hyper::from(0.1_f32).at(0), 0.10000000149011612);
/// ```
#[derive(Debug, Clone)]
pub enum Hyper {
    /// The same value at every step.
    Constant(f64),
    /// A value for each step.
    Schedule(Scheduled),
}

/// A schedule, with the entries of its configuration that are not fields of the schedule.
#[derive(Debug, Clone)]
pub struct Scheduled {
    schedule: Arc<dyn Schedule>,
    envelope: Envelope,
}

impl Hyper {
    /// The value at a step (counted from 0, the number of steps already applied).
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

    /// Checks that the number is in a range, or that the schedule's hyperparameters are valid.
    ///
    /// # Errors
    ///
    /// Names the field, its value and the range.
    pub fn validate(&self, name: &str, range: impl Into<Interval>) -> Result<(), HyperparameterError> {
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

/// Numbers that 64 bits hold exactly.
macro_rules! exact {
    ($($number:ty),+) => {$(
        impl From<$number> for Hyper {
            fn from(value: $number) -> Self {
                Self::Constant(value.into())
            }
        }
    )+};
}

exact!(f32, i32, u32);

impl<S: Schedule + 'static> From<S> for Hyper {
    fn from(schedule: S) -> Self {
        Self::from_schedule(Arc::new(schedule), Envelope::default())
    }
}
