//! Descriptions of hyperparameters: the source of the tables in the documents and of the JSON Schema.

use std::fmt;
use std::ops::{Bound, RangeBounds, RangeFrom};

use serde_json::Value;

use super::{Choice, Dialect, HyperparameterValue};

/// The description of one hyperparameter of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct HyperparameterSpec {
    /// The key in configurations.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: HyperparameterKind,
    /// The value if the key is missing; `None` if the key is required.
    pub default: Option<Value>,
    /// Its meaning, in a few words.
    pub meaning: &'static str,
}

impl HyperparameterSpec {
    /// A hyperparameter that a configuration must have.
    #[must_use]
    pub fn required<V: HyperparameterValue>(name: &'static str, range: V::Range, meaning: &'static str) -> Self {
        Self { name, kind: V::kind(range), default: None, meaning }
    }

    /// A hyperparameter with a default.
    #[must_use]
    pub fn optional<V: HyperparameterValue>(
        name: &'static str,
        default: V::Literal,
        range: V::Range,
        meaning: &'static str,
    ) -> Self {
        let default: V = default.into();
        Self { name, kind: V::kind(range), default: default.to_json().ok(), meaning }
    }

    /// The dialect, for a class that has the settings of several: see [`Dialect`].
    #[must_use]
    pub fn dialect<C>(settings: impl Fn(Dialect) -> Option<C>, own: Dialect) -> Self {
        let has = |(_, dialect): &&(&str, Dialect)| settings(*dialect).is_some();
        let known = Dialect::CHOICES.iter().filter(has).map(|(name, _)| *name).collect();
        let kind = HyperparameterKind::Choice(known);
        let meaning = "library whose arithmetic the rule follows; Keras's configurations tell it by their form";
        Self { name: Dialect::KEY, kind, default: Some(own.name().into()), meaning }
    }
}

/// The values that a hyperparameter takes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum HyperparameterKind {
    /// A number.
    Number(Interval),
    /// A number, or `null` for no number.
    OptionalNumber(Interval),
    /// A number or a schedule.
    NumberOrSchedule(Interval),
    /// A whole number of at least this value.
    Integer(u64),
    /// True or false.
    Bool,
    /// One of these texts.
    Choice(Vec<&'static str>),
    /// A list of numbers.
    Numbers(Interval),
    /// A list of whole numbers.
    Integers,
    /// A list of numbers and schedules.
    Schedules,
    /// A serialised optimizer.
    Rule,
}

/// An interval of numbers, in the usual notation: `low` and `high` with their brackets.
///
/// Rust's ranges of `f64` convert into it: `0.0..1.0` is `[0, 1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end, if there is one.
    pub low: Option<f64>,
    /// Whether the lower end itself is left out.
    pub low_open: bool,
    /// The upper end, if there is one.
    pub high: Option<f64>,
    /// Whether the upper end itself is left out.
    pub high_open: bool,
}

impl Interval {
    /// All finite numbers.
    pub const FINITE: Self = Self { low: None, low_open: true, high: None, high_open: true };
    /// Finite numbers of at least 0.
    pub const NOT_NEGATIVE: Self = Self { low: Some(0.0), low_open: false, ..Self::FINITE };
    /// Finite numbers above 0.
    pub const POSITIVE: Self = Self { low: Some(0.0), ..Self::FINITE };
    /// Finite numbers of at least 1.
    pub const AT_LEAST_ONE: Self = Self { low: Some(1.0), low_open: false, ..Self::FINITE };
    /// `[0, 1]`.
    pub const UNIT: Self = Self { low: Some(0.0), low_open: false, high: Some(1.0), high_open: false };
    /// `[0, 1)`.
    pub const UNIT_BELOW_ONE: Self = Self { high_open: true, ..Self::UNIT };
    /// `(0, 1]`.
    pub const UNIT_ABOVE_ZERO: Self = Self { low_open: true, ..Self::UNIT };

    /// Whether a number is finite and inside.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        let above = self.low.is_none_or(|low| if self.low_open { value > low } else { value >= low });
        let below = self.high.is_none_or(|high| if self.high_open { value < high } else { value <= high });
        value.is_finite() && above && below
    }
}

impl Default for Interval {
    fn default() -> Self {
        Self::FINITE
    }
}

impl<R: RangeBounds<f64>> From<R> for Interval {
    fn from(range: R) -> Self {
        let end = |bound: Bound<&f64>| match bound {
            Bound::Included(end) => (Some(*end), false),
            Bound::Excluded(end) => (Some(*end), true),
            Bound::Unbounded => (None, true),
        };
        let (low, low_open) = end(range.start_bound());
        let (high, high_open) = end(range.end_bound());
        Self { low, low_open, high, high_open }
    }
}

/// The usual notation: `[0, 1)`, `(-inf, inf)`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opening = if self.low_open { '(' } else { '[' };
        let closing = if self.high_open { ')' } else { ']' };
        let low = self.low.unwrap_or(f64::NEG_INFINITY);
        let high = self.high.unwrap_or(f64::INFINITY);
        write!(f, "{opening}{low}, {high}{closing}")
    }
}

/// Whole numbers of at least this value; `1..` converts into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtLeast(pub u64);

impl From<RangeFrom<u64>> for AtLeast {
    fn from(range: RangeFrom<u64>) -> Self {
        Self(range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_what_their_names_say() {
        assert_eq!(Interval::FINITE.to_string(), "(-inf, inf)");
        assert_eq!(Interval::NOT_NEGATIVE.to_string(), "[0, inf)");
        assert_eq!(Interval::POSITIVE.to_string(), "(0, inf)");
        assert_eq!(Interval::AT_LEAST_ONE.to_string(), "[1, inf)");
        assert_eq!(Interval::UNIT.to_string(), "[0, 1]");
        assert_eq!(Interval::UNIT_BELOW_ONE.to_string(), "[0, 1)");
        assert_eq!(Interval::UNIT_ABOVE_ZERO.to_string(), "(0, 1]");
    }

    #[test]
    fn intervals_are_made_of_ranges() {
        assert_eq!(Interval::from(..), Interval::FINITE);
        assert_eq!(Interval::from(0.0..), Interval::NOT_NEGATIVE);
        assert_eq!(Interval::from(0.0..=1.0), Interval::UNIT);
        assert_eq!(Interval::from(0.0..1.0), Interval::UNIT_BELOW_ONE);
        assert_eq!(Interval::from((Bound::Excluded(0.0), Bound::Included(1.0))), Interval::UNIT_ABOVE_ZERO);
        assert_eq!(AtLeast::from(3..), AtLeast(3));
    }

    #[test]
    fn intervals_contain_their_closed_ends_and_no_nan() {
        let inside = |interval: Interval| [-1.0, 0.0, 0.5, 1.0, 2.0].map(|value| interval.contains(value));
        assert_eq!(inside(Interval::FINITE), [true; 5]);
        assert_eq!(inside(Interval::UNIT), [false, true, true, true, false]);
        assert_eq!(inside(Interval::UNIT_BELOW_ONE), [false, true, true, false, false]);
        assert_eq!(inside(Interval::UNIT_ABOVE_ZERO), [false, false, true, true, false]);
        for outside in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!Interval::FINITE.contains(outside), "{outside}");
        }
    }
}
