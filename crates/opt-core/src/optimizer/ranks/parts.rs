//! Where variables lie on the ranks, and the parts that this rank updates.

use std::borrow::Cow;

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice};

use super::reduce::{Reduced, SparseRows};
use crate::collective::Distribution;
use crate::error::Error;
use crate::optimizer::records::in_order;
use crate::optimizer::resolve::{Input, InputGradient};
use crate::real::Scalar;

/// Finds out how each variable lies on the ranks.
pub(in crate::optimizer) fn place<T>(ranks: &dyn Distribution, inputs: &mut [Input<'_, T>]) -> Result<(), Error> {
    for input in inputs {
        input.placement = Some(ranks.placement(&input.name, &input.shape)?);
    }
    Ok(())
}

/// The parts of all variables, without gradients.
pub(in crate::optimizer) fn parts<'b, T: Scalar>(inputs: &'b mut [Input<'_, T>]) -> Vec<Input<'b, T>> {
    inputs.iter_mut().map(|input| part(input, None)).collect()
}

/// The parts of all variables, with reduced gradients where there are any, else with their own.
pub(super) fn narrowed<'b, T: Scalar>(
    inputs: &'b mut [Input<'_, T>],
    reduced: &'b Reduced<T>,
    rows: &'b [Option<SparseRows<T>>],
) -> Vec<Input<'b, T>> {
    let narrow = |(i, input): (usize, &'b mut Input<'_, T>)| {
        let gradient = match (&rows[i], reduced.dense(i)) {
            (Some((rows, values)), _) => Some(InputGradient::Sparse { rows: rows.clone(), values: values.view() }),
            (None, Some(elements)) => Some(InputGradient::Dense(shaped(elements, &input.shape, input.axes.as_deref()))),
            (None, None) => None,
        };
        part(input, gradient)
    };
    inputs.iter_mut().enumerate().map(narrow).collect()
}

/// Reduced elements, which are row by row, in the order of axes in which the input has them.
pub(super) fn shaped<'b, T>(elements: &'b [T], shape: &[usize], axes: Option<&[usize]>) -> ArrayViewD<'b, T> {
    let view = ArrayViewD::from_shape(IxDyn(shape), elements).expect("as many elements as the variable has");
    in_order(view, axes)
}

/// The part of an input that this rank updates, with another gradient (of the whole) than its own if one is given.
pub(super) fn part<'b, T: Scalar>(input: &'b mut Input<'_, T>, reduced: Option<InputGradient<'b, T>>) -> Input<'b, T> {
    let gradient = match (reduced, &input.gradient) {
        (Some(gradient), _) => Some(gradient),
        (None, Some(InputGradient::Dense(values))) => Some(InputGradient::Dense(values.view())),
        (None, Some(InputGradient::Sparse { rows, values })) => {
            Some(InputGradient::Sparse { rows: rows.clone(), values: values.view() })
        }
        (None, None) => None,
    };
    let mut part = Input {
        place: input.place,
        name: Cow::Borrowed(&*input.name),
        shape: input.shape.clone(),
        given: input.given.clone(),
        placement: input.placement.clone(),
        axes: input.axes.clone(),
        value: input.value.view_mut(),
        gradient,
    };
    narrow(&mut part);
    part
}

/// Cuts value and dense gradient down to this rank's part; sparse gradients are cut by [`rows`].
fn narrow<T: Scalar>(input: &mut Input<'_, T>) {
    let Some(part) = input.placement.as_ref().and_then(|placement| placement.part.as_ref()) else { return };
    let range = part.range();
    input.given = Some(input.shape.clone());
    input.shape[part.axis] = range.len();
    let axis = stored_axis(input.axes.as_deref(), part.axis);
    input.value.slice_axis_inplace(axis, Slice::from(range.clone()));
    if let Some(InputGradient::Dense(values)) = &mut input.gradient {
        values.slice_axis_inplace(axis, Slice::from(range));
    }
}

/// Where an axis of the variable is among the axes in stored order.
fn stored_axis(axes: Option<&[usize]>, axis: usize) -> Axis {
    Axis(axes.map_or(axis, |axes| axes.iter().position(|&stored| stored == axis).unwrap_or(axis)))
}

/// The sparse gradients of this rank's parts, where they are not simply the given ones.
pub(super) fn rows<T: Scalar>(inputs: &[Input<'_, T>], reduced: &Reduced<T>) -> Vec<Option<SparseRows<T>>> {
    inputs.iter().enumerate().map(|(i, input)| rows_of_part(input, reduced.sparse(i))).collect()
}

fn rows_of_part<T: Scalar>(input: &Input<'_, T>, reduced: Option<&SparseRows<T>>) -> Option<SparseRows<T>> {
    let part = input.placement.as_ref()?.part.as_ref();
    let (rows, values) = match (reduced, &input.gradient) {
        (Some((rows, values)), _) => (rows, values.view()),
        (None, Some(InputGradient::Sparse { rows, values })) if part.is_some() => (rows, values.view()),
        _ => return None,
    };
    Some(match part {
        None => (rows.clone(), values.to_owned()),
        Some(part) if part.axis == 0 => rows_within(rows, &values, part.range()),
        Some(part) => (rows.clone(), values.slice_axis(Axis(part.axis), Slice::from(part.range())).to_owned()),
    })
}

/// The rows inside a range, counted from its start.
fn rows_within<T: Scalar>(rows: &[usize], values: &ArrayViewD<'_, T>, range: std::ops::Range<usize>) -> SparseRows<T> {
    let kept: Vec<usize> = (0..rows.len()).filter(|&position| range.contains(&rows[position])).collect();
    let values: ArrayD<T> = values.select(Axis(0), &kept);
    (kept.into_iter().map(|position| rows[position] - range.start).collect(), values)
}

/// A part of a variable, with the axes in the variable's own order.
pub(super) fn own_order<'b, T>(
    value: &'b mut ArrayViewMutD<'_, T>,
    axes: Option<&[usize]>,
    axis: usize,
    range: std::ops::Range<usize>,
) -> ArrayViewMutD<'b, T> {
    let mut view = value.view_mut();
    view.slice_axis_inplace(stored_axis(axes, axis), Slice::from(range));
    match axes {
        None => view,
        Some(axes) => view.permuted_axes(IxDyn(&crate::optimizer::records::inverse(axes))),
    }
}
