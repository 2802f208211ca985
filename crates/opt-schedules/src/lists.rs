//! Checks of lists and their boundaries.

use opt_core::config::{HyperparameterError, Steps};

/// Accepts a list that is not empty.
pub(crate) fn not_empty(name: &str, length: usize) -> Result<(), HyperparameterError> {
    if length > 0 { Ok(()) } else { Err(HyperparameterError::new(format!("length of {name}"), 0.0, "at least 1")) }
}

/// Accepts boundaries that rise strictly, the first of which is at least `lowest`.
pub(crate) fn rising(boundaries: &[Steps], lowest: u64) -> Result<(), HyperparameterError> {
    let refuse = |index: usize, expected: String| {
        Err(HyperparameterError::new(format!("boundaries[{index}]"), boundaries[index].get(), expected))
    };
    if boundaries.first().is_some_and(|first| *first < lowest.into()) {
        return refuse(0, format!("a whole number of at least {lowest}"));
    }
    let is_out_of_order = |pair: &[Steps]| {
        let rises = pair[0] < pair[1];
        !rises
    };
    match boundaries.windows(2).position(is_out_of_order) {
        Some(index) => refuse(index + 1, format!("more than the boundary before it, {}", boundaries[index])),
        None => Ok(()),
    }
}

/// Accepts a list that is one longer than the list of boundaries.
pub(crate) fn one_more(name: &str, length: usize, boundaries: usize) -> Result<(), HyperparameterError> {
    let expected = boundaries + 1;
    if length == expected {
        return Ok(());
    }
    let expected = format!("{expected}, one more than boundaries");
    Err(HyperparameterError::new(format!("length of {name}"), length as f64, expected))
}
