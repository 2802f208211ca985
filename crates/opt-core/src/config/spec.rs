//! What a class says about its hyperparameters: the source of the tables in the documents and of the JSON Schema.

use serde_json::Value;

/// A hyperparameter of a class that can be configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HyperparameterSpec {
    /// The key in configurations.
    pub name: &'static str,
    /// What values it takes.
    pub kind: HyperparameterKind,
    /// The value where the key is missing, as JSON; `None` if the key is required.
    pub default: Option<&'static str>,
    /// What it does, in a few words.
    pub meaning: &'static str,
}

impl HyperparameterSpec {
    /// Whether a value is the default; numbers by value.
    pub(super) fn is_default(&self, value: &Value) -> bool {
        let default = self.default.and_then(|text| serde_json::from_str::<Value>(text).ok());
        default.is_some_and(|default| match (default.as_f64(), value.as_f64()) {
            (Some(default), Some(value)) => default == value,
            _ => default == *value,
        })
    }
}

/// What values a hyperparameter takes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HyperparameterKind {
    /// A number.
    Number(Interval),
    /// A number, or `null` for none.
    OptionalNumber(Interval),
    /// A number or a schedule.
    NumberOrSchedule(Interval),
    /// A whole number of at least this.
    Integer(u64),
    /// True or false.
    Bool,
    /// One of these texts.
    Choice(&'static [&'static str]),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notation(Interval { low, low_open, high, high_open }: Interval) -> String {
        let (opening, closing) = (if low_open { '(' } else { '[' }, if high_open { ')' } else { ']' });
        format!("{opening}{}, {}{closing}", low.unwrap_or(-f64::INFINITY), high.unwrap_or(f64::INFINITY))
    }

    #[test]
    fn intervals_are_what_their_names_say() {
        assert_eq!(notation(Interval::FINITE), "(-inf, inf)");
        assert_eq!(notation(Interval::NOT_NEGATIVE), "[0, inf)");
        assert_eq!(notation(Interval::POSITIVE), "(0, inf)");
        assert_eq!(notation(Interval::AT_LEAST_ONE), "[1, inf)");
        assert_eq!(notation(Interval::UNIT), "[0, 1]");
        assert_eq!(notation(Interval::UNIT_BELOW_ONE), "[0, 1)");
        assert_eq!(notation(Interval::UNIT_ABOVE_ZERO), "(0, 1]");
    }
}
