//! Variables cut into pieces for threads, and pieces walked block by block: every stage of a step runs on a block
//! before the next block is touched.

use std::array;
use std::mem;

use ndarray::iter::IterMut;
use ndarray::{ArrayViewD, ArrayViewMutD, Axis, IxDyn};

use super::records::Record;
use super::resolve::{Input, InputGradient};
use super::sparse::UniqueRows;
use super::threads::CHUNK;
use crate::real::Scalar;
use crate::rule::{BLOCK, Block, Kernel, Locals, MAX_ARRAY_SLOTS, Workspace};
use crate::stage::{self, Transform};

/// What happens to one variable in one step, besides the rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Clipping; the identity for sparse gradients, which are clipped before.
    pub(crate) transform: Transform,
    /// Decoupled weight decay times the learning rate.
    pub(crate) decay: Option<f64>,
    /// The momentum of the average.
    pub(crate) average: Option<f64>,
    /// Whether the average then replaces the value.
    pub(crate) overwrite: bool,
    /// The rule's numbers for this variable.
    pub(crate) locals: Locals,
}

/// A part of one variable, with all that belongs to it.
pub(crate) struct Piece<'a, T> {
    plan: Plan,
    value: Value<'a, T>,
    gradient: Gradient<'a, T>,
    slots: [&'a mut [T]; MAX_ARRAY_SLOTS],
    average: &'a mut [T],
}

enum Value<'a, T> {
    Slice(&'a mut [T]),
    Strided(ArrayViewMutD<'a, T>),
}

enum Gradient<'a, T> {
    Slice(&'a [T]),
    Strided(ArrayViewD<'a, T>),
    Rows {
        /// The row of the variable at which the piece starts.
        first: usize,
        /// Elements of a row.
        width: usize,
        /// The touched rows of the piece, ascending.
        rows: &'a [usize],
        values: &'a [T],
    },
}

impl<'a, T: Scalar> Piece<'a, T> {
    /// Cuts one variable into pieces of about [`CHUNK`] elements. Without gradient or elements there are none.
    pub(crate) fn cut(
        input: &'a mut Input<'_, T>,
        unique: Option<&'a UniqueRows<T>>,
        record: &'a mut Record<T>,
        plan: Plan,
        pieces: &mut Vec<Self>,
    ) {
        let Some(gradient) = &input.gradient else { return };
        let len = input.value.len();
        if len == 0 {
            return;
        }
        // Elements per entry of axis 0 (in stored order): what a strided array and rows can be cut at.
        let row = input.value.shape().first().map_or(1, |rows| len / rows);
        let gradient = match (gradient, unique) {
            (InputGradient::Dense(view), _) => match view.as_slice() {
                Some(slice) => Gradient::Slice(slice),
                None => Gradient::Strided(view.view()),
            },
            (InputGradient::Sparse { .. }, Some(UniqueRows { rows, values, .. })) => {
                Gradient::Rows { first: 0, width: row, rows, values }
            }
            (InputGradient::Sparse { .. }, None) => return,
        };
        let value = if input.value.is_standard_layout() {
            Value::Slice(input.value.as_slice_mut().unwrap_or_default())
        } else {
            Value::Strided(input.value.view_mut())
        };
        let mut slots: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        for (slot, array) in slots.iter_mut().zip(&mut record.arrays) {
            *slot = array;
        }
        let average = record.average.as_deref_mut().unwrap_or_default();
        let mut rest = Self { plan, value, gradient, slots, average };

        let anywhere = matches!((&rest.value, &rest.gradient), (Value::Slice(_), Gradient::Slice(_)));
        let row = if anywhere { 1 } else { row };
        let rows_per_piece = (CHUNK / row).max(1);
        while rest.len() > rows_per_piece * row {
            let (front, back) = rest.split_at(rows_per_piece, row);
            pieces.push(front);
            rest = back;
        }
        pieces.push(rest);
    }

    pub(crate) fn len(&self) -> usize {
        match &self.value {
            Value::Slice(slice) => slice.len(),
            Value::Strided(view) => view.len(),
        }
    }

    fn split_at(self, row: usize, width: usize) -> (Self, Self) {
        let at = row * width;
        let (value, value_back) = match self.value {
            Value::Slice(slice) => {
                let (front, back) = slice.split_at_mut(at);
                (Value::Slice(front), Value::Slice(back))
            }
            Value::Strided(view) => {
                let (front, back) = view.split_at(Axis(0), row);
                (Value::Strided(front), Value::Strided(back))
            }
        };
        let (gradient, gradient_back) = match self.gradient {
            Gradient::Slice(slice) => {
                let (front, back) = slice.split_at(at);
                (Gradient::Slice(front), Gradient::Slice(back))
            }
            Gradient::Strided(view) => {
                let (front, back) = view.split_at(Axis(0), row);
                (Gradient::Strided(front), Gradient::Strided(back))
            }
            Gradient::Rows { first, width, rows, values } => {
                let next = first + row;
                let (rows, rows_back) = rows.split_at(rows.partition_point(|&touched| touched < next));
                let (values, values_back) = values.split_at(rows.len() * width);
                (
                    Gradient::Rows { first, width, rows, values },
                    Gradient::Rows { first: next, width, rows: rows_back, values: values_back },
                )
            }
        };
        let mut slots_back: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        let mut slots = self.slots;
        for (slot, back) in slots.iter_mut().zip(&mut slots_back) {
            *back = cut_off(slot, at);
        }
        let mut average = self.average;
        let average_back = cut_off(&mut average, at);
        (
            Self { plan: self.plan, value, gradient, slots, average },
            Self {
                plan: self.plan,
                value: value_back,
                gradient: gradient_back,
                slots: slots_back,
                average: average_back,
            },
        )
    }

    /// Runs all stages over the piece.
    pub(crate) fn run(&mut self, kernel: &dyn Kernel<T>, buffers: &mut Buffers<T>) {
        let Self { plan, value, gradient, slots, average } = self;
        let len = match value {
            Value::Slice(slice) => slice.len(),
            Value::Strided(view) => view.len(),
        };
        let mut stages = Stages { plan, kernel, slots, average, workspace: &mut buffers.workspace };
        let mut cursor = match value {
            Value::Slice(slice) => Cursor::Slice(slice),
            Value::Strided(view) => Cursor::Strided {
                elements: view.iter_mut(),
                block: Vec::with_capacity(BLOCK),
                buffer: &mut buffers.value,
            },
        };
        match gradient {
            Gradient::Slice(gradient) => {
                for at in (0..len).step_by(BLOCK) {
                    let n = BLOCK.min(len - at);
                    let g = clipped(&gradient[at..at + n], plan.transform, &mut buffers.gradient);
                    cursor.visit(at, n, |value| stages.run(at, value, Some(g)));
                }
            }
            Gradient::Strided(gradient) => {
                let mut elements = gradient.iter().copied();
                for at in (0..len).step_by(BLOCK) {
                    let n = BLOCK.min(len - at);
                    for (to, g) in buffers.gradient[..n].iter_mut().zip(elements.by_ref()) {
                        *to = plan.transform.apply(g);
                    }
                    cursor.visit(at, n, |value| stages.run(at, value, Some(&buffers.gradient[..n])));
                }
            }
            Gradient::Rows { first, width, rows, values } => {
                let visit_untouched = kernel.visits_untouched_rows() || plan.decay.is_some() || plan.average.is_some();
                for (range, touched) in runs(rows, *first, len / *width, *width) {
                    if touched.is_none() && !visit_untouched {
                        cursor.skip(range.len());
                        continue;
                    }
                    for at in range.clone().step_by(BLOCK) {
                        let n = BLOCK.min(range.end - at);
                        let g = touched.map(|start| &values[start + at - range.start..][..n]);
                        cursor.visit(at, n, |value| stages.run(at, value, g));
                    }
                }
            }
        }
    }
}

/// Splits a slice that may be absent (empty).
fn cut_off<'a, T>(slice: &mut &'a mut [T], at: usize) -> &'a mut [T] {
    if slice.is_empty() {
        return Default::default();
    }
    let (front, back) = mem::take(slice).split_at_mut(at);
    *slice = front;
    back
}

/// The part of a slice that may be absent (empty).
fn part<T>(slice: &mut [T], at: usize, n: usize) -> &mut [T] {
    if slice.is_empty() { slice } else { &mut slice[at..at + n] }
}

/// The gradient of a block, clipped into a buffer if there is anything to clip.
fn clipped<'a, T: Scalar>(gradient: &'a [T], transform: Transform, buffer: &'a mut [T; BLOCK]) -> &'a [T] {
    if transform.is_identity() {
        return gradient;
    }
    let buffer = &mut buffer[..gradient.len()];
    stage::transform(buffer, gradient, transform);
    buffer
}

/// Walks over the rows of a piece as runs of touched and of untouched rows: the range of elements, and for touched
/// ones where their values start.
fn runs(
    touched: &[usize],
    first: usize,
    rows: usize,
    width: usize,
) -> impl Iterator<Item = (std::ops::Range<usize>, Option<usize>)> {
    let (mut row, mut next) = (0, 0);
    std::iter::from_fn(move || {
        if row == rows {
            return None;
        }
        let start = row;
        let values = next * width;
        while next < touched.len() && touched[next] - first == row {
            (row, next) = (row + 1, next + 1);
        }
        if row > start {
            return Some((start * width..row * width, Some(values)));
        }
        row = touched.get(next).map_or(rows, |row| row - first);
        Some((start * width..row * width, None))
    })
}

/// Buffers of one thread.
pub(crate) struct Buffers<T> {
    value: [T; BLOCK],
    gradient: [T; BLOCK],
    workspace: Workspace<T>,
}

impl<T: Scalar> Buffers<T> {
    pub(crate) fn new() -> Self {
        Self { value: [T::zero(); BLOCK], gradient: [T::zero(); BLOCK], workspace: Workspace::new() }
    }
}

/// Gives blocks of a value, wherever it lies in memory.
enum Cursor<'a, T> {
    Slice(&'a mut [T]),
    Strided { elements: IterMut<'a, T, IxDyn>, block: Vec<&'a mut T>, buffer: &'a mut [T; BLOCK] },
}

impl<T: Scalar> Cursor<'_, T> {
    /// Lends the elements `at..at + n`; blocks must be visited or skipped in order.
    fn visit(&mut self, at: usize, n: usize, change: impl FnOnce(&mut [T])) {
        match self {
            Self::Slice(slice) => change(&mut slice[at..at + n]),
            Self::Strided { elements, block, buffer } => {
                block.clear();
                block.extend(elements.take(n));
                let buffer = &mut buffer[..n];
                buffer.iter_mut().zip(&*block).for_each(|(to, from)| *to = **from);
                change(buffer);
                block.iter_mut().zip(&*buffer).for_each(|(to, from)| **to = *from);
            }
        }
    }

    fn skip(&mut self, n: usize) {
        if let Self::Strided { elements, .. } = self {
            elements.take(n).for_each(drop);
        }
    }
}

/// Everything that happens to a block, in order.
struct Stages<'p, 'a, T> {
    plan: &'p Plan,
    kernel: &'p dyn Kernel<T>,
    slots: &'p mut [&'a mut [T]; MAX_ARRAY_SLOTS],
    average: &'p mut [T],
    workspace: &'p mut Workspace<T>,
}

impl<T: Scalar> Stages<'_, '_, T> {
    /// Runs the block that starts at element `at` of the piece: decay, rule (with whatever it wraps), average.
    fn run(&mut self, at: usize, value: &mut [T], gradient: Option<&[T]>) {
        let n = value.len();
        if let Some(factor) = self.plan.decay {
            stage::decay(value, factor);
        }
        if gradient.is_some() || self.kernel.visits_untouched_rows() {
            let mut slots = self.slots.each_mut().map(|slot| &mut **slot);
            self.kernel.update(Block {
                value,
                gradient,
                slots: array::from_fn(|slot| part(mem::take(&mut slots[slot]), at, n)),
                locals: &self.plan.locals,
                workspace: self.workspace,
            });
        }
        if let Some(momentum) = self.plan.average {
            let average = part(self.average, at, n);
            stage::average(average, value, momentum);
            if self.plan.overwrite {
                value.copy_from_slice(average);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Runs cover every element of the piece once, in order; touched rows get their values, no others do.
        #[test]
        fn runs_cover_all_rows(touched in proptest::collection::btree_set(0..40_usize, 0..40), first in 0..9_usize, width in 1..4_usize) {
            let rows: Vec<usize> = touched.iter().map(|row| row + first).collect();
            let mut next = 0;
            let mut seen = BTreeSet::new();
            for (range, values) in runs(&rows, first, 40, width) {
                prop_assert_eq!(range.start, next);
                prop_assert!(range.end > range.start);
                next = range.end;
                for element in range.clone() {
                    let row = element / width;
                    let at = values.map(|start| start + element - range.start);
                    let place = rows.binary_search(&(row + first)).ok();
                    prop_assert_eq!(at, place.map(|place| place * width + element % width));
                    seen.insert(row);
                }
            }
            prop_assert_eq!((next, seen.len()), (40 * width, 40));
        }
    }
}
