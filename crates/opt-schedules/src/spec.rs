//! Short forms of [`HyperparameterSpec`], and the fields that several classes have.

use opt_core::{HyperparameterKind, HyperparameterSpec, Interval};

/// A field that a configuration must have.
pub(crate) const fn required(
    name: &'static str,
    kind: HyperparameterKind,
    meaning: &'static str,
) -> HyperparameterSpec {
    HyperparameterSpec { name, kind, default: None, meaning }
}

/// A field with a default, as JSON.
pub(crate) const fn optional(
    name: &'static str,
    kind: HyperparameterKind,
    default: &'static str,
    meaning: &'static str,
) -> HyperparameterSpec {
    HyperparameterSpec { name, kind, default: Some(default), meaning }
}

/// A finite number of at least 0.
pub(crate) const RATE: HyperparameterKind = HyperparameterKind::Number(Interval::NOT_NEGATIVE);

/// A number from 0 to 1.
pub(crate) const PART: HyperparameterKind = HyperparameterKind::Number(Interval::UNIT);

/// A whole number of at least 1.
pub(crate) const STEPS: HyperparameterKind = HyperparameterKind::Integer(1);

/// The learning rate at step 0.
pub(crate) const INITIAL_LEARNING_RATE: HyperparameterSpec =
    required("initial_learning_rate", RATE, "value at step 0, l");
