//! Checks of hyperparameters that several schedules share.

use opt_core::{ConfigError, Fields, Hyper, HyperparameterError, require};

/// Accepts a finite number of at least 0.
pub(crate) fn rate(name: &str, value: f64) -> Result<(), HyperparameterError> {
    require(name, value, 0.0..)
}

/// Accepts a number from 0 to 1.
pub(crate) fn part(name: &str, value: f64) -> Result<(), HyperparameterError> {
    require(name, value, 0.0..=1.0)
}

/// Accepts a whole number of at least 1.
pub(crate) fn at_least_one(name: &str, value: u64) -> Result<(), HyperparameterError> {
    accept(value >= 1, || error(name, value as f64, "a whole number of at least 1"))
}

/// Accepts a list with something in it.
pub(crate) fn not_empty(name: &str, length: usize) -> Result<(), HyperparameterError> {
    accept(length > 0, || error(&format!("length of {name}"), 0.0, "at least 1"))
}

/// Accepts boundaries of which the first is at least `lowest`, and each is above the one before it.
pub(crate) fn rising(boundaries: &[u64], lowest: u64) -> Result<(), HyperparameterError> {
    let refuse = |index: usize, expected: String| {
        Err(error(&format!("boundaries[{index}]"), boundaries[index] as f64, expected))
    };
    if boundaries.first().is_some_and(|first| *first < lowest) {
        return refuse(0, format!("a whole number of at least {lowest}"));
    }
    match boundaries.windows(2).position(|pair| pair[0] >= pair[1]) {
        Some(index) => refuse(index + 1, format!("more than the boundary before it, {}", boundaries[index])),
        None => Ok(()),
    }
}

/// Accepts a list that is one longer than the list of boundaries.
pub(crate) fn one_more(name: &str, length: usize, boundaries: &[u64]) -> Result<(), HyperparameterError> {
    let expected = boundaries.len() + 1;
    accept(length == expected, || {
        error(&format!("length of {name}"), length as f64, format!("{expected}, one more than boundaries"))
    })
}

/// Checks a number or a schedule that stands inside another one; the error says where.
pub(crate) fn nested(name: &str, inner: &Hyper) -> Result<(), HyperparameterError> {
    let result = inner.validate(name, 0.0..);
    match inner {
        Hyper::Constant(_) => result,
        Hyper::Schedule(_) => {
            result.map_err(|error| HyperparameterError { name: format!("{name}.{}", error.name), ..error })
        }
    }
}

/// Refuses with an error unless a condition holds.
pub(crate) fn accept(condition: bool, error: impl FnOnce() -> HyperparameterError) -> Result<(), HyperparameterError> {
    if condition { Ok(()) } else { Err(error()) }
}

/// The error that a field is out of its range.
pub(crate) fn error(name: &str, value: f64, expected: impl Into<String>) -> HyperparameterError {
    HyperparameterError { name: name.to_owned(), value, expected: expected.into() }
}

/// Reads one of two names.
pub(crate) fn choice<C: Copy>(
    fields: &mut Fields<'_>,
    key: &str,
    default: C,
    choices: [(&str, C); 2],
) -> Result<C, ConfigError> {
    if !fields.contains(key) {
        return Ok(default);
    }
    let found = fields.string_or(key, "")?;
    let choice = choices.into_iter().find(|(name, _)| *name == found);
    choice.map(|(_, choice)| choice).ok_or_else(|| ConfigError::WrongType {
        class_name: fields.class_name().to_owned(),
        key: key.to_owned(),
        found: format!("{found:?}"),
        expected: format!("{:?} or {:?}", choices[0].0, choices[1].0),
    })
}
