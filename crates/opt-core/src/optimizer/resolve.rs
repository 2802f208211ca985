//! From a list of variables to checked inputs of a step: nothing is written here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use ndarray::{ArrayViewD, ArrayViewMutD};

use super::records::{Records, in_order, in_order_mut, memory_order};
use crate::collective::Placement;
use crate::error::Error;
use crate::gradient::{Gradient, Indices};
use crate::real::Scalar;
use crate::variable::Variable;
use crate::view::{ShapeMismatch, View};

/// A variable that fits its record, with a gradient that fits the variable.
#[derive(Debug)]
pub(crate) struct Input<'a, T> {
    /// The place of its record; beyond the last one if it is new.
    pub(crate) place: usize,
    pub(crate) name: Cow<'a, str>,
    pub(crate) shape: Vec<usize>,
    /// The shape in which the variable was given, if this is a part of it.
    pub(crate) given: Option<Vec<usize>>,
    /// How the variable lies on ranks, if there are any.
    pub(crate) placement: Option<Arc<Placement>>,
    /// The order in which `value` and a dense gradient have their axes, and slots are stored.
    pub(crate) axes: Option<Vec<usize>>,
    pub(crate) value: ArrayViewMutD<'a, T>,
    pub(crate) gradient: Option<InputGradient<'a, T>>,
}

/// A checked gradient.
#[derive(Debug)]
pub(crate) enum InputGradient<'a, T> {
    Dense(ArrayViewD<'a, T>),
    Sparse { rows: Vec<usize>, values: ArrayViewD<'a, T> },
}

impl<T> InputGradient<'_, T> {
    /// The numbers as they were given.
    pub(crate) fn values(&self) -> &ArrayViewD<'_, T> {
        match self {
            Self::Dense(values) | Self::Sparse { values, .. } => values,
        }
    }
}

/// Checks everything that can be checked about a list of variables: names, shapes, indices.
///
/// The result is in the order of the records.
pub(crate) fn resolve<'a, T: Scalar>(
    variables: impl Iterator<Item = Variable<'a, T>>,
    records: &mut Records<T>,
) -> Result<Vec<Input<'a, T>>, Error> {
    let call = records.next_call();
    let mut inputs: Vec<Input<'a, T>> = Vec::with_capacity(variables.size_hint().0);
    let mut new_names = HashSet::new();
    for (position, Variable { name, value, gradient }) in variables.enumerate() {
        let data =
            |ShapeMismatch { elements, shape }| Error::VariableData { variable: name.to_string(), elements, shape };
        let value = value.0.map_err(data)?;
        let shape = value.shape().to_vec();
        let place = match records.place(&name, position) {
            Some(place) => {
                let record = records.at_mut(place);
                if record.seen_in == call {
                    return Err(Error::DuplicateVariable { name: name.into_owned() });
                }
                record.seen_in = call;
                let known = record.given.as_ref().unwrap_or(&record.shape);
                if *known != shape {
                    let (variable, expected) = (name.into_owned(), known.clone());
                    return Err(Error::VariableShape { variable, expected, found: shape });
                }
                place
            }
            None if new_names.insert(name.to_string()) => records.len() + new_names.len() - 1,
            None => return Err(Error::DuplicateVariable { name: name.into_owned() }),
        };
        let axes = match gradient {
            // Rows of a sparse gradient have to be rows in memory.
            Some(Gradient::Sparse { .. }) => None,
            _ if place < records.len() => records.at_mut(place).axes.clone(),
            _ => memory_order(&value),
        };
        let gradient = match gradient {
            None => None,
            Some(Gradient::Dense(view)) => Some(dense(&name, &shape, view, axes.as_deref())?),
            Some(Gradient::Sparse { indices, values }) => Some(sparse(&name, &shape, indices, values)?),
        };
        let value = in_order_mut(value, axes.as_deref());
        inputs.push(Input { place, name, shape, given: None, placement: None, axes, value, gradient });
    }
    if !inputs.is_sorted_by_key(|input| input.place) {
        inputs.sort_by_key(|input| input.place);
    }
    Ok(inputs)
}

fn dense<'a, T>(
    name: &str,
    shape: &[usize],
    gradient: View<'a, T>,
    axes: Option<&[usize]>,
) -> Result<InputGradient<'a, T>, Error> {
    let gradient = gradient.0.map_err(|mismatch| gradient_data(name, mismatch))?;
    if gradient.shape() != shape {
        return Err(Error::GradientShape {
            variable: name.to_owned(),
            gradient: gradient.shape().to_vec(),
            shape: shape.to_vec(),
        });
    }
    Ok(InputGradient::Dense(in_order(gradient, axes)))
}

fn sparse<'a, T>(
    name: &str,
    shape: &[usize],
    indices: Indices<'_>,
    values: View<'a, T>,
) -> Result<InputGradient<'a, T>, Error> {
    let Some((&row_count, row_shape)) = shape.split_first() else {
        return Err(Error::SparseScalar { variable: name.to_owned() });
    };
    let values = values.0.map_err(|mismatch| gradient_data(name, mismatch))?;
    let mut expected = vec![indices.len()];
    expected.extend(row_shape);
    if values.shape() != expected {
        return Err(Error::SparseShape {
            variable: name.to_owned(),
            indices: indices.len(),
            values: values.shape().to_vec(),
            expected,
        });
    }
    let rows = indices.rows(row_count).map_err(|(position, index)| Error::IndexOutOfRange {
        variable: name.to_owned(),
        position,
        index,
        rows: row_count,
    })?;
    Ok(InputGradient::Sparse { rows, values })
}

fn gradient_data(name: &str, ShapeMismatch { elements, shape }: ShapeMismatch) -> Error {
    Error::GradientData { variable: name.to_owned(), elements, shape }
}
