//! What can be wrong with a configuration or a hyperparameter.

use serde_json::Value;

use super::Interval;

/// Why a configuration was not read or written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not of the form `{"class_name": ..., "config": {...}}`.
    #[error("expected {{\"class_name\": ..., \"config\": {{...}}}}, found {found}")]
    NotAnObject {
        /// The beginning of what was found.
        found: String,
    },

    /// A class that is not registered.
    #[error("unknown class {class_name:?}, registered are {known:?}")]
    UnknownClass {
        /// The class asked for.
        class_name: String,
        /// The classes that are registered.
        known: Vec<String>,
    },

    /// A class other than the type that reads it.
    #[error("class {found:?} cannot be read as {expected:?}")]
    OtherClass {
        /// The class in the configuration.
        found: String,
        /// The class of the type.
        expected: &'static str,
    },

    /// A key that the class does not have.
    #[error("{class_name}: unknown key {key:?}")]
    UnknownKey {
        /// The class.
        class_name: String,
        /// The key.
        key: String,
    },

    /// A key that the class needs.
    #[error("{class_name}: key {key:?} is missing")]
    MissingKey {
        /// The class.
        class_name: String,
        /// The key.
        key: String,
    },

    /// A value of the wrong type.
    #[error("{class_name}: {key} is {found}, expected {expected}")]
    WrongType {
        /// The class.
        class_name: String,
        /// The key.
        key: String,
        /// The beginning of the value found.
        found: String,
        /// The type expected.
        expected: String,
    },

    /// A pattern that is no regular expression.
    #[error("{pattern:?} is not a regular expression: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Something that has no form in a configuration.
    #[error("{what} cannot be written to a configuration: {reason}")]
    NotSerializable {
        /// What it is.
        what: String,
        /// Why not.
        reason: &'static str,
    },

    /// A hyperparameter out of range.
    #[error(transparent)]
    Hyperparameter(#[from] HyperparameterError),
}

impl ConfigError {
    pub(super) fn unknown_key(class_name: &str, key: &str) -> Self {
        Self::UnknownKey { class_name: class_name.to_owned(), key: key.to_owned() }
    }

    pub(super) fn missing_key(class_name: &str, key: &str) -> Self {
        Self::MissingKey { class_name: class_name.to_owned(), key: key.to_owned() }
    }

    pub(crate) fn wrong_type(class_name: &str, key: &str, found: &Value, expected: &str) -> Self {
        Self::WrongType {
            class_name: class_name.to_owned(),
            key: key.to_owned(),
            found: shorten(found),
            expected: expected.to_owned(),
        }
    }
}

/// A hyperparameter out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} is {value}, expected {expected}")]
pub struct HyperparameterError {
    /// The field.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// The range, in words.
    pub expected: String,
}

impl HyperparameterError {
    /// The error that a field does not have the value expected.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, expected: impl Into<String>) -> Self {
        Self { name: name.into(), value, expected: expected.into() }
    }
}

/// Accepts a finite number inside a range.
///
/// # Errors
///
/// Names the field, its value and the range. NaN and infinities are never inside.
///
/// # Examples
///
/// ```
/// use opt_core::config::require;
///
/// assert!(require("momentum", 0.9, 0.0..=1.0).is_ok());
/// let error = require("momentum", f64::NAN, 0.0..=1.0).unwrap_err();
/// assert_eq!(error.to_string(), "momentum is NaN, expected a number in [0, 1]");
/// ```
pub fn require(name: &str, value: f64, range: impl Into<Interval>) -> Result<(), HyperparameterError> {
    let range = range.into();
    if range.contains(value) {
        return Ok(());
    }
    Err(HyperparameterError::new(name, value, format!("a number in {range}")))
}

/// The beginning of a value, for messages.
pub(super) fn shorten(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
