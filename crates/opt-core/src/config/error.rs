//! The errors of configurations and hyperparameters.

use serde_json::Value;

use super::{Interval, Target};

/// The reason why a configuration was not read or written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The value is not of the form `{"class_name": ..., "config": {...}}`.
    #[error("expected {{\"class_name\": ..., \"config\": {{...}}}}, found {found}")]
    NotAnObject {
        /// The beginning of the value.
        found: String,
    },

    /// The fields of an optimizer, as `get_config()` returns them, do not name its class.
    #[error(
        "the fields of an optimizer without its class, {found}: read {{\"class_name\": ..., \"config\": ...}} (what \
         keras.optimizers.serialize returns), or use from_config_of, which knows the class"
    )]
    WithoutClass {
        /// The beginning of the value.
        found: String,
    },

    /// A model's configuration without an optimizer.
    #[error(
        "a model without an optimizer, {found}: if the model is compiled, its optimizer is \"optimizer\" in \
         \"compile_config\" of config.json (a .keras file), or \"optimizer_config\" in training_config (an .h5 file)"
    )]
    WithoutOptimizer {
        /// The beginning of the value.
        found: String,
    },

    /// The class is not registered.
    #[error("unknown class {class_name:?}, registered are {known:?}")]
    UnknownClass {
        /// The class that was asked for.
        class_name: String,
        /// The registered classes.
        known: Vec<String>,
    },

    /// The class is not that of the type that reads it.
    #[error("class {found:?} cannot be read as {expected:?}")]
    OtherClass {
        /// The class in the configuration.
        found: String,
        /// The class of the type.
        expected: &'static str,
    },

    /// The class does not have this key.
    #[error("{class_name}: unknown key {key:?}")]
    UnknownKey {
        /// The class.
        class_name: String,
        /// The key.
        key: String,
    },

    /// A key asks for a feature that does not exist here.
    #[error("{class_name}: {key} is {found}: {reason}")]
    NotSupported {
        /// The class.
        class_name: String,
        /// The key.
        key: String,
        /// The beginning of the value.
        found: String,
        /// What to do instead.
        reason: &'static str,
    },

    /// A key is missing that the class needs.
    #[error("{class_name}: key {key:?} is missing")]
    MissingKey {
        /// The class.
        class_name: String,
        /// The key.
        key: String,
    },

    /// A value has the wrong type.
    #[error("{class_name}: {key} is {found}, expected {expected}")]
    WrongType {
        /// The class.
        class_name: String,
        /// The key.
        key: String,
        /// The beginning of the value.
        found: String,
        /// The expected type.
        expected: String,
    },

    /// A pattern is not a regular expression.
    #[error("{pattern:?} is not a regular expression: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The reason.
        reason: String,
    },

    /// An object cannot be written as a configuration.
    #[error("{what} cannot be written to a configuration: {reason}")]
    NotSerializable {
        /// The object.
        what: String,
        /// The reason.
        reason: &'static str,
    },

    /// The library that is to read a configuration does not have this class.
    #[error("{target} has no class {class_name}")]
    NoSuchClass {
        /// The library.
        target: Target,
        /// The class.
        class_name: String,
    },

    /// The library that is to read a configuration cannot express a field.
    #[error("{target} cannot express {class_name} with {key} = {value}: {reason}")]
    NotExpressible {
        /// The library.
        target: Target,
        /// The class.
        class_name: &'static str,
        /// The field.
        key: String,
        /// The beginning of its value.
        value: String,
        /// Why not.
        reason: &'static str,
    },

    /// A hyperparameter is out of range.
    #[error(transparent)]
    Hyperparameter(#[from] HyperparameterError),
}

impl ConfigError {
    pub(super) fn unknown_key(class_name: &str, key: &str) -> Self {
        Self::UnknownKey { class_name: class_name.to_owned(), key: key.to_owned() }
    }

    pub(crate) fn missing_key(class_name: &str, key: &str) -> Self {
        Self::MissingKey { class_name: class_name.to_owned(), key: key.to_owned() }
    }

    pub(crate) fn not_supported(class_name: &str, key: &str, found: &Value, reason: &'static str) -> Self {
        Self::NotSupported { class_name: class_name.to_owned(), key: key.to_owned(), found: shorten(found), reason }
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

/// A hyperparameter is out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} is {value}, expected {expected}")]
pub struct HyperparameterError {
    /// The field.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// The range in words.
    pub expected: String,
}

impl HyperparameterError {
    /// The error of a field that does not have the expected value.
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

/// The beginning of a value, for error messages.
pub(super) fn shorten(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
