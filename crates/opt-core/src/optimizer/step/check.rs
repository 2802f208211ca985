//! From a list of variables to checked inputs of a step: nothing is written here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use ndarray::{ArrayView, ArrayViewMut, IxDyn};

use super::super::records::{Records, in_order, in_order_mut, memory_order};
use super::storage::{AnyValue, AnyValues, Value, Values};
use crate::collective::Placement;
use crate::error::Error;
use crate::gradient::{Gradient, Indices};
use crate::precision::{Any, each, unbox};
use crate::real::Scalar;
use crate::variable::Variable;
use crate::view::{Change, Layout, Read, Shape, ShapeMismatch, View};

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
    pub(crate) lies: Option<Box<Lies>>,
}

/// How a variable lies on ranks.
#[derive(Debug, Clone)]
pub(crate) struct Lies {
    pub(crate) placement: Arc<Placement>,
    /// The form in which value and dense gradient were given.
    pub(crate) form: Form,
}

/// The shape of a variable, and the order in which its slots are stored.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    /// The order of axes, slowest first; `None` is row-major.
    pub(crate) axes: Option<Vec<usize>>,
    /// The shape in which the variable is given, if this rank keeps a part of it only.
    pub(crate) whole: Option<Shape>,
}

impl Form {
    /// The shape in which the variable is given.
    pub(crate) fn given(&self) -> &[usize] {
        self.whole.as_ref().unwrap_or(&self.shape)
    }

    /// The shape with its axes in stored order.
    pub(crate) fn stored_shape(&self) -> Shape {
        match &self.axes {
            None => self.shape.clone(),
            Some(axes) => axes.iter().map(|&axis| self.shape[axis]).collect(),
        }
    }
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
        let is_sparse = matches!(gradient, Some(Gradient::Sparse { .. }));
        let place = records.place(&name, position);
        let (place, new) = match place {
            Some(place) => {
                let shape = each!(&value.0, value => shape_of(&name, value))?;
                let record = records.at_mut(place);
                if record.seen_in == call {
                    return Err(Error::DuplicateVariable { name: name.into_owned() });
                }
                record.seen_in = call;
                if !same(record.form.given(), shape) {
                    let (variable, found) = (name.into_owned(), shape.to_vec());
                    return Err(Error::VariableShape { variable, expected: record.form.given().to_vec(), found });
                }
                let (expected, found) = (record.dtype, value.0.dtype(T::DTYPE));
                if expected != found {
                    return Err(Error::VariableType { variable: name.into_owned(), expected, found });
                }
                (place, None)
            }
            None if new_names.insert(name.to_string()) => {
                let shape = each!(&value.0, value => shape_of(&name, value))?.into();
                let axes = memory_order(&value).filter(|_| !is_sparse && !records.are_row_major());
                (records.len() + new_names.len() - 1, Some(Box::new(Form { shape, axes, whole: None })))
            }
            None => return Err(Error::DuplicateVariable { name: name.into_owned() }),
        };
        let form = new.as_deref().unwrap_or_else(|| &records.at(place).form);
        // Rows of a sparse gradient have to be rows in memory.
        let axes = form.axes.as_deref().filter(|_| !is_sparse);
        let gradient = match gradient {
            None => None,
            Some(Gradient::Dense(view)) => Some(dense(&name, form, view, axes)?),
            Some(Gradient::Sparse { indices, values }) => Some(sparse(&name, form, indices, values)?),
        };
        let value = unbox!(value.0, value => stored(value, axes));
        inputs.push(Input { place, name, value, gradient, new, lies: None });
    }
    if !inputs.is_sorted_by_key(|input| input.place) {
        inputs.sort_by_key(|input| input.place);
    }
    Ok(inputs)
}

#[inline]
fn shape_of<'v, T>(name: &str, value: &'v Change<'_, T>) -> Result<&'v [usize], Error> {
    match value {
        Layout::Filled { shape, .. } => Ok(shape),
        Layout::Strided(view) => Ok(view.shape()),
        Layout::Mismatch(mismatch) => {
            let ShapeMismatch { elements, shape } = mismatch.as_ref().clone();
            Err(Error::VariableData { variable: name.to_owned(), elements, shape })
        }
    }
}

/// Whether two shapes are the same. They are short: a call for comparing memory would take longer.
#[inline]
fn same(a: &[usize], b: &[usize]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// A value with its axes in stored order.
#[inline]
fn stored<'a, T>(value: Change<'a, T>, axes: Option<&[usize]>) -> Value<'a, T> {
    let view = match (value, axes) {
        (Layout::Filled { data, .. }, None) => return Value::Slice(data),
        (Layout::Filled { data, shape }, _) => {
            ArrayViewMut::from_shape(IxDyn(&shape), data).expect("the shape was checked")
        }
        (Layout::Strided(view), _) => *view,
        (Layout::Mismatch(_), _) => unreachable!("the shape was checked"),
    };
    let view = in_order_mut(view, axes);
    if view.is_standard_layout() {
        Value::Slice(view.into_slice().expect("standard layout is a slice"))
    } else {
        Value::Strided(Box::new(view))
    }
}

/// Numbers to read, of a given shape, with their axes in stored order.
fn stored_values<'a, T>(
    values: Read<'a, T>,
    axes: Option<&[usize]>,
    fits: impl FnOnce(&[usize]) -> Result<(), Error>,
    mismatch: impl FnOnce(ShapeMismatch) -> Error,
) -> Result<Values<'a, T>, Error> {
    let view = match (values, axes) {
        (Layout::Filled { data, shape }, None) => {
            fits(&shape)?;
            return Ok(Values::Slice(data));
        }
        (Layout::Filled { data, shape }, _) => {
            fits(&shape)?;
            ArrayView::from_shape(IxDyn(&shape), data).expect("a view's shape fits its data")
        }
        (Layout::Strided(view), _) => {
            fits(view.shape())?;
            *view
        }
        (Layout::Mismatch(found), _) => return Err(mismatch(*found)),
    };
    let view = in_order(view, axes);
    Ok(match view.to_slice() {
        Some(slice) => Values::Slice(slice),
        None => Values::Strided(Box::new(view)),
    })
}

#[inline]
fn dense<'a, T>(
    name: &str,
    form: &Form,
    gradient: View<'a, T>,
    axes: Option<&[usize]>,
) -> Result<InputGradient<'a, T>, Error> {
    let shape = form.given();
    // Nearly all of them.
    if let (Any::Full(Layout::Filled { data, shape: found }), None) = (&gradient.0, axes)
        && same(found, shape)
    {
        return Ok(InputGradient::Dense(Any::Full(Values::Slice(data))));
    }
    scattered(name, shape, gradient, axes)
}

/// As [`dense`], for gradients that do not lie in memory as the slots do, or do not fit.
#[cold]
fn scattered<'a, T>(
    name: &str,
    shape: &[usize],
    gradient: View<'a, T>,
    axes: Option<&[usize]>,
) -> Result<InputGradient<'a, T>, Error> {
    let fits = |found: &[usize]| {
        if same(found, shape) {
            return Ok(());
        }
        let (variable, gradient) = (name.to_owned(), found.to_vec());
        Err(Error::GradientShape { variable, gradient, shape: shape.to_vec() })
    };
    let mismatch = |mismatch| gradient_data(name, mismatch);
    Ok(InputGradient::Dense(unbox!(gradient.0, gradient => stored_values(gradient, axes, fits, mismatch)?)))
}

fn sparse<'a, T>(
    name: &str,
    form: &Form,
    indices: Indices<'_>,
    values: View<'a, T>,
) -> Result<InputGradient<'a, T>, Error> {
    let Some((&row_count, row_shape)) = form.given().split_first() else {
        return Err(Error::SparseScalar { variable: name.to_owned() });
    };
    let fits = |found: &[usize]| {
        if found.split_first() == Some((&indices.len(), row_shape)) {
            return Ok(());
        }
        let (variable, indices) = (name.to_owned(), indices.len());
        let expected = [&[indices], row_shape].concat();
        Err(Error::SparseShape { variable, indices, values: found.to_vec(), expected })
    };
    let mismatch = |mismatch| gradient_data(name, mismatch);
    let values = unbox!(values.0, values => stored_values(values, None, fits, mismatch)?);
    let rows = indices.rows(row_count).map_err(|(position, index)| Error::IndexOutOfRange {
        variable: name.to_owned(),
        position,
        index,
        rows: row_count,
    })?;
    Ok(InputGradient::Sparse(Box::new(SparseGradient { rows, values })))
}

fn gradient_data(name: &str, ShapeMismatch { elements, shape }: ShapeMismatch) -> Error {
    Error::GradientData { variable: name.to_owned(), elements, shape }
}
