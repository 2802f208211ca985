//! The checked inputs of a step.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::form::Form;
use super::storage::{AnyValue, AnyValues};
use crate::collective::Placement;

/// A variable checked against its record, and its gradient, checked against the variable.
#[derive(Debug)]
pub(crate) struct Input<'a, T> {
    /// The place of its record. New variables have places after the last record.
    pub(crate) place: usize,
    pub(crate) name: Cow<'a, str>,
    pub(crate) group: usize,
    pub(crate) value: AnyValue<'a, T>,
    pub(crate) gradient: Option<InputGradient<'a, T>>,
    /// The form of its future record, if the variable is new.
    pub(crate) new: Option<Box<Form>>,
    /// Its placement, if there are ranks.
    pub(crate) placed: Option<Box<Placed>>,
}

/// The placement of a variable on ranks.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) placement: Arc<Placement>,
    /// The form in which the caller gave the value and a dense gradient.
    pub(crate) form: Form,
}

/// A checked gradient.
#[derive(Debug)]
pub(crate) enum InputGradient<'a, T> {
    Dense(AnyValues<'a, T>),
    Sparse(Box<SparseGradient<'a, T>>),
}

/// Row indices and their values.
#[derive(Debug)]
pub(crate) struct SparseGradient<'a, T> {
    pub(crate) rows: Vec<usize>,
    pub(crate) values: AnyValues<'a, T>,
}

impl<T> Input<'_, T> {
    /// The same input with its numbers, which were not there when it was checked.
    pub(crate) fn with_value<'b>(&'b self, value: AnyValue<'b, T>) -> Input<'b, T> {
        let Self { place, name, group, gradient, .. } = self;
        let gradient = gradient.as_ref().map(InputGradient::reborrow);
        let name = Cow::Borrowed(&**name);
        Input { place: *place, name, group: *group, value, gradient, new: None, placed: None }
    }

    /// Whether this is all of the variable that the caller gave, and not only the part that this rank updates.
    pub(crate) fn is_whole(&self) -> bool {
        let placed = self.placed.as_deref();
        placed.is_none_or(|placed| self.value.len() == placed.form.shape.iter().product::<usize>())
    }

    /// Whether this rank updates a part of the variable, and its gradient is not reduced before.
    pub(crate) fn is_cut(&self) -> bool {
        let placement = self.placed.as_deref().map(|placed| &placed.placement);
        placement.is_some_and(|placement| placement.part.is_some() && placement.replicas.is_none())
    }
}

impl<'a, T> InputGradient<'a, T> {
    /// The same gradient, borrowed for a shorter time.
    pub(crate) fn reborrow(&self) -> InputGradient<'_, T> {
        match self {
            Self::Dense(values) => InputGradient::Dense(values.reborrow()),
            Self::Sparse(sparse) => {
                let own = SparseGradient { rows: sparse.rows.clone(), values: sparse.values.reborrow() };
                InputGradient::Sparse(Box::new(own))
            }
        }
    }

    /// The numbers as the caller gave them.
    pub(crate) fn values(&self) -> &AnyValues<'a, T> {
        match self {
            Self::Dense(values) => values,
            Self::Sparse(sparse) => &sparse.values,
        }
    }
}
