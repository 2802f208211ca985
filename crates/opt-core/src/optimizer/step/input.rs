//! Checked inputs of a step.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::form::Form;
use super::storage::{AnyValue, AnyValues};
use crate::collective::Placement;

/// A variable that fits its record, with a gradient that fits the variable.
#[derive(Debug)]
pub(crate) struct Input<'a, T> {
    /// The place of its record; beyond the last one if it is new.
    pub(crate) place: usize,
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: AnyValue<'a, T>,
    pub(crate) gradient: Option<InputGradient<'a, T>>,
    /// What its record will be made of, if it is new.
    pub(crate) new: Option<Box<Form>>,
    /// How it lies on ranks, if there are any.
    pub(crate) placed: Option<Box<Placed>>,
}

/// How a variable lies on ranks.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) placement: Arc<Placement>,
    /// The form in which value and dense gradient were given.
    pub(crate) form: Form,
}

/// A checked gradient.
#[derive(Debug)]
pub(crate) enum InputGradient<'a, T> {
    Dense(AnyValues<'a, T>),
    Sparse(Box<SparseGradient<'a, T>>),
}

/// Rows and their values.
#[derive(Debug)]
pub(crate) struct SparseGradient<'a, T> {
    pub(crate) rows: Vec<usize>,
    pub(crate) values: AnyValues<'a, T>,
}

impl<'a, T> InputGradient<'a, T> {
    /// The numbers as they were given.
    pub(crate) fn values(&self) -> &AnyValues<'a, T> {
        match self {
            Self::Dense(values) => values,
            Self::Sparse(sparse) => &sparse.values,
        }
    }
}
