//! Sharding: the placement of variables on ranks, and the parts that this rank updates.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice};

use super::super::form::{Form, in_order, inverse};
use super::super::records::Records;
use super::super::step::input::{Input, InputGradient, Placed, SparseGradient};
use super::super::step::storage::{AnyValue, NOT_LENT, Value, Values};
use super::buckets::{Reduced, SparseRows};
use crate::collective::{CollectiveError, Distribution};
use crate::error::Error;
use crate::precision::Any;
use crate::real::Scalar;

/// Finds the placement of each variable.
pub(in crate::optimizer) fn locate<T: Scalar>(
    ranks: &dyn Distribution,
    records: &Records<T>,
    inputs: &mut [Input<'_, T>],
) -> Result<(), Error> {
    for input in inputs {
        refuse_half(input)?;
        let known = input.new.as_deref().unwrap_or_else(|| &records.at(input.place).form);
        let is_sparse = matches!(input.gradient, Some(InputGradient::Sparse(_)));
        let axes = known.axes.clone().filter(|_| !is_sparse);
        let form = Form { shape: known.given().into(), axes, whole: None };
        let placement = ranks.placement(&input.name, &form.shape)?;
        input.placed = Some(Box::new(Placed { placement, form }));
    }
    Ok(())
}

/// Refuses 16-bit numbers: ranks do not exchange them.
fn refuse_half<T>(input: &Input<'_, T>) -> Result<(), CollectiveError> {
    let full = matches!(input.value, Any::Full(_))
        && input.gradient.as_ref().is_none_or(|gradient| matches!(gradient.values(), Any::Full(_)));
    if full { Ok(()) } else { Err(CollectiveError::HalfPrecision { variable: input.name.to_string() }) }
}

/// The parts of all variables that this rank updates, with this rank's own gradients.
pub(in crate::optimizer) fn own_parts<'b, T: Scalar>(inputs: &'b mut [Input<'_, T>]) -> Vec<Input<'b, T>> {
    inputs.iter_mut().map(|input| own_part(input, None)).collect()
}

/// The parts of all variables that this rank updates, with reduced gradients where there are any.
pub(super) fn own_parts_reduced<'b, T: Scalar>(
    inputs: &'b mut [Input<'_, T>],
    reduced: &'b Reduced<T>,
    rows: &'b [Option<SparseRows<T>>],
) -> Vec<Input<'b, T>> {
    let with_reduced = |(i, input): (usize, &'b mut Input<'_, T>)| {
        let gradient = match (&rows[i], reduced.dense(i), &input.placed) {
            (Some((rows, values)), ..) => {
                let values = Any::Full(values.view().into());
                Some(InputGradient::Sparse(Box::new(SparseGradient { rows: rows.clone(), values })))
            }
            (None, Some(elements), Some(placed)) => {
                Some(InputGradient::Dense(Any::Full(shaped(elements, &placed.form))))
            }
            _ => None,
        };
        own_part(input, gradient)
    };
    inputs.iter_mut().enumerate().map(with_reduced).collect()
}

/// Views reduced elements, which are row-major, in the order of axes of the input.
pub(super) fn shaped<'b, T: Copy>(elements: &'b [T], form: &Form) -> Values<'b, T> {
    match &form.axes {
        None => Values::Slice(elements),
        Some(axes) => {
            let view = ArrayViewD::from_shape(IxDyn(&form.shape), elements).expect("as many as the variable has");
            in_order(view, Some(axes)).into()
        }
    }
}

/// The part of an input that this rank updates. `reduced`, if given, is the reduced gradient of the whole array, and
/// replaces this rank's own.
pub(super) fn own_part<'b, T: Scalar>(
    input: &'b mut Input<'_, T>,
    reduced: Option<InputGradient<'b, T>>,
) -> Input<'b, T> {
    let Input { place, name, group, value, gradient, new, placed } = input;
    let gradient = reduced.or_else(|| gradient.as_ref().map(InputGradient::reborrow));
    let (new, placed) = (new.clone(), placed.clone());
    let name = Cow::Borrowed(&**name);
    let value = value.reborrow();
    cut_to_own_part(Input { place: *place, name, group: *group, value, gradient, new, placed })
}

/// Cuts value and dense gradient down to this rank's part; [`rows`] cuts sparse gradients.
fn cut_to_own_part<'b, T: Scalar>(mut input: Input<'b, T>) -> Input<'b, T> {
    let Some(placed) = &input.placed else { return input };
    let Some(part) = &placed.placement.part else { return input };
    let shape = placed.form.stored_shape();
    let range = part.range();
    let axis = placed.form.stored_axis(part.axis);
    let slice = Slice::from(range.clone());
    if let Some(form) = &mut input.new {
        form.whole = Some(form.shape.clone());
        form.shape[part.axis] = range.len();
    }
    let mut view = array_mut(input.value.into_full(), &shape);
    view.slice_axis_inplace(axis, slice);
    input.value = Any::Full(view.into());
    if let Some(InputGradient::Dense(values)) = input.gradient {
        let mut view = array(values.into_full(), &shape);
        view.slice_axis_inplace(axis, slice);
        input.gradient = Some(InputGradient::Dense(Any::Full(view.into())));
    }
    input
}

/// Numbers in their stored shape.
fn array<'b, T>(values: Values<'b, T>, stored_shape: &[usize]) -> ArrayViewD<'b, T> {
    match values {
        Values::Slice(slice) => ArrayViewD::from_shape(IxDyn(stored_shape), slice).expect("the shape was checked"),
        Values::Strided(view) => *view,
        Values::Sum(_) => unreachable!("accumulated gradients have been reduced"),
    }
}

fn array_mut<'b, T>(value: Value<'b, T>, stored_shape: &[usize]) -> ArrayViewMutD<'b, T> {
    match value {
        Value::Slice(slice) => ArrayViewMutD::from_shape(IxDyn(stored_shape), slice).expect("the shape was checked"),
        Value::Strided(view) => *view,
        Value::Later { .. } => unreachable!("{NOT_LENT}"),
    }
}

/// The sparse gradients for this rank's parts, where they differ from the given ones.
pub(super) fn rows<T: Scalar>(inputs: &[Input<'_, T>], reduced: &Reduced<T>) -> Vec<Option<SparseRows<T>>> {
    inputs.iter().enumerate().map(|(i, input)| rows_of_part(input, reduced.sparse(i))).collect()
}

fn rows_of_part<T: Scalar>(input: &Input<'_, T>, reduced: Option<&SparseRows<T>>) -> Option<SparseRows<T>> {
    let placed = input.placed.as_deref()?;
    let part = placed.placement.part.as_ref();
    let (rows, values) = match (reduced, &input.gradient) {
        (Some((rows, values)), _) => (rows, values.view()),
        (None, Some(InputGradient::Sparse(sparse))) if part.is_some() => {
            let mut shape = placed.form.shape.clone();
            shape[0] = sparse.rows.len();
            (&sparse.rows, array(sparse.values.reborrow().into_full(), &shape))
        }
        _ => return None,
    };
    Some(match part {
        None => (rows.clone(), values.to_owned()),
        Some(part) if part.axis == 0 => rows_within(rows, &values, &part.range()),
        Some(part) => {
            let own = values.slice_axis(Axis(part.axis), Slice::from(part.range()));
            (rows.clone(), own.as_standard_layout().into_owned())
        }
    })
}

/// The rows inside a range, with indices counted from its start.
fn rows_within<T: Scalar>(rows: &[usize], values: &ArrayViewD<'_, T>, range: &Range<usize>) -> SparseRows<T> {
    let kept: Vec<usize> = (0..rows.len()).filter(|&position| range.contains(&rows[position])).collect();
    let values: ArrayD<T> = values.select(Axis(0), &kept);
    (kept.into_iter().map(|position| rows[position] - range.start).collect(), values)
}

/// The part of a variable that this rank updates, with the axes in the variable's own order.
pub(super) fn own_order<'b, T>(
    value: &'b mut AnyValue<'_, T>,
    form: &Form,
    axis: usize,
    range: Range<usize>,
) -> ArrayViewMutD<'b, T> {
    let mut view = array_mut(value.reborrow().into_full(), &form.stored_shape());
    view.slice_axis_inplace(form.stored_axis(axis), Slice::from(range));
    match &form.axes {
        None => view,
        Some(axes) => view.permuted_axes(IxDyn(&inverse(axes))),
    }
}
