//! Numbers of steps, whole or not.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use super::value::whole;
use super::{
    ConfigError, HyperparameterError, HyperparameterKind, HyperparameterValue, Interval, ScheduleRegistry, require,
};

/// A number of steps: whole, or with a fraction.
///
/// Keras takes any number for a length of a schedule: `decay_steps` is often the quotient of the number of samples and
/// the batch size. Calculations with whole numbers are exact for every `u64`. `u64` and `f64` convert into it.
///
/// # Examples
///
/// ```
/// use opt_core::config::Steps;
///
/// assert_eq!(Steps::from(900.0), Steps::from(900));
/// assert_eq!(Steps::from(1562.5).split(4_000), (2, Steps::from(875)));
/// assert!(Steps::from(1562.5) < Steps::from(1563));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps(Count);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Count {
    Whole(u64),
    /// Not a whole number, or one that `u64` does not have.
    Other(f64),
}

impl Steps {
    /// No steps.
    pub const ZERO: Self = Self(Count::Whole(0));

    /// The number in floating point.
    #[must_use]
    pub fn get(self) -> f64 {
        match self.0 {
            Count::Whole(steps) => steps as f64,
            Count::Other(steps) => steps,
        }
    }

    /// The number, if it is whole.
    #[must_use]
    pub fn whole(self) -> Option<u64> {
        match self.0 {
            Count::Whole(steps) => Some(steps),
            Count::Other(_) => None,
        }
    }

    /// The smaller of two numbers.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    /// The difference, or `None` if it is negative.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        match (self.0, other.0) {
            (Count::Whole(from), Count::Whole(taken)) => from.checked_sub(taken).map(Self::from),
            _ => Some(self.get() - other.get()).filter(|difference| *difference >= 0.0).map(Self::from),
        }
    }

    /// The number of periods of this length before a step, and the steps since. Never panics: the results for a length
    /// of 0 are meaningless.
    #[must_use]
    pub fn split(self, step: u64) -> (u64, Self) {
        match self.0 {
            Count::Whole(period) => {
                let period = period.max(1);
                (step / period, (step % period).into())
            }
            Count::Other(period) => {
                let step = step as f64;
                let rounded = (step / period).floor();
                // The quotient may have been rounded up to a whole number.
                let periods = if rounded * period > step { rounded - 1.0 } else { rounded };
                (periods as u64, (step - periods * period).max(0.0).min(period).into())
            }
        }
    }
}

impl PartialOrd for Steps {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.0, other.0) {
            (Count::Whole(one), Count::Whole(other)) => Some(one.cmp(&other)),
            _ => self.get().partial_cmp(&other.get()),
        }
    }
}

impl From<u64> for Steps {
    fn from(steps: u64) -> Self {
        Self(Count::Whole(steps))
    }
}

impl From<f64> for Steps {
    fn from(steps: f64) -> Self {
        whole(&steps.into()).map_or(Self(Count::Other(steps)), Self::from)
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Count::Whole(steps) => steps.fmt(f),
            Count::Other(steps) => steps.fmt(f),
        }
    }
}

impl HyperparameterValue for Steps {
    type Literal = Self;
    type Range = Interval;

    fn expected() -> String {
        "a number".to_owned()
    }
    fn from_json(value: &Value, _schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError> {
        Ok(whole(value).map(Self::from).or_else(|| value.as_f64().map(Self::from)))
    }
    fn to_json(&self) -> Result<Value, ConfigError> {
        Ok(match self.0 {
            Count::Whole(steps) => steps.into(),
            Count::Other(steps) => steps.into(),
        })
    }
    fn kind(range: Interval) -> HyperparameterKind {
        HyperparameterKind::Number(range)
    }
    fn check(&self, name: &str, range: Interval) -> Result<(), HyperparameterError> {
        require(name, self.get(), range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_exact() {
        assert_eq!(Steps::from(3).split(u64::MAX), (u64::MAX / 3, Steps::ZERO));
        assert_eq!(Steps::from(u64::MAX).checked_sub(Steps::from(u64::MAX - 1)), Some(Steps::from(1)));
        assert!(Steps::from(u64::MAX - 1) < Steps::from(u64::MAX));
        assert_eq!(Steps::ZERO.split(7), (7, Steps::ZERO));
    }

    #[test]
    fn fractions_are_split_below_the_step() {
        for period in [0.1, 0.3, 1.5, 1562.5, 7.7, 1e300] {
            for step in [0, 1, 3, 10, 77, 1_000_003, u64::MAX] {
                let (periods, since) = Steps::from(period).split(step);
                let inside = since.get() >= 0.0 && since.get() <= period;
                assert!(inside, "{step} in {period}: {periods}, {since}");
            }
        }
        assert_eq!(Steps::from(100).checked_sub(Steps::from(100.5)), None);
        assert_eq!(Steps::from(101).checked_sub(Steps::from(100.5)), Some(Steps::from(0.5)));
        assert_eq!(Steps::from(3).min(Steps::from(2.5)), Steps::from(2.5));
    }

    #[test]
    fn numbers_come_back() {
        let schedules = ScheduleRegistry::new();
        for value in [7_u64.into(), u64::MAX.into(), Value::from(1562.5), Value::from(1e300)] {
            let steps = Steps::from_json(&value, &schedules).unwrap().unwrap();
            assert_eq!(steps.to_json().unwrap(), value);
        }
        assert_eq!(Steps::from_json(&900.0.into(), &schedules).unwrap(), Some(Steps::from(900)));
        assert!(Steps::from(f64::NAN).check("n", Interval::POSITIVE).is_err());
    }
}
