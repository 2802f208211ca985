//! Variables cut into pieces for threads, and pieces walked block by block: every stage of a step runs on a block
//! before the next block is touched.

use std::mem;

use half::{bf16, f16};

use super::norms::Norm;
use super::records::Record;
use super::resolve::InputGradient;
use super::sparse::UniqueRows;
use super::stages::{Packed, Pass, Plan, Stages};
use super::values::{AnyValue, AnyValues, Halves};
use crate::moments::{self, MAX_NARROW};
use crate::precision::Any;
use crate::real::Scalar;
use crate::rule::{BLOCK, Buffer, Kernel, MAX_ARRAY_SLOTS, Workspace};

/// A part of one variable, with all that belongs to it.
pub(crate) struct Piece<'a, T> {
    value: AnyValue<'a, T>,
    gradient: Gradient<'a, T>,
    state: State<'a, T>,
}

/// The slots of a piece.
enum State<'a, T> {
    /// All of the variable: what happens to it is found out by the thread that gets the piece.
    Whole { record: &'a mut Record<T>, norm: Option<Norm> },
    /// A part of the variable.
    Part(Box<Part<'a, T>>),
}

struct Part<'a, T> {
    plan: Plan<T>,
    slots: [&'a mut [T]; MAX_ARRAY_SLOTS],
    /// How many slots there are.
    count: usize,
    packed: Option<Box<Packed<'a>>>,
    average: &'a mut [T],
    master: &'a mut [T],
}

enum Gradient<'a, T> {
    Dense(AnyValues<'a, T>),
    Rows(Box<Rows<'a, T>>),
}

/// Rows that a sparse gradient touches.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    /// The row of the variable at which the piece starts.
    first: usize,
    /// Elements of a row.
    width: usize,
    /// The touched rows of the piece, ascending.
    rows: &'a [usize],
    values: &'a [T],
    /// The sum of squares of the variable's values on all ranks, if there are any.
    square_sum: Option<f64>,
}

impl<'a, T: Scalar> Piece<'a, T> {
    /// A whole variable; nothing if there are no elements. `norm` is present if it is known already.
    pub(crate) fn whole(
        value: AnyValue<'a, T>,
        gradient: &'a InputGradient<'_, T>,
        unique: Option<&'a UniqueRows<T>>,
        record: &'a mut Record<T>,
        norm: Option<Norm>,
    ) -> Option<Self> {
        if value.len() == 0 {
            return None;
        }
        let gradient = match (gradient, unique) {
            (InputGradient::Dense(values), _) => Gradient::Dense(values.reborrow()),
            (InputGradient::Sparse(_), unique) => {
                let UniqueRows { rows, values, square_sum } = unique?;
                let width = value.len() / record.shape().first()?;
                Gradient::Rows(Box::new(Rows { first: 0, width, rows, values, square_sum: *square_sum }))
            }
        };
        Some(Self { value, gradient, state: State::Whole { record, norm } })
    }

    /// Cuts a variable into pieces of about as many elements as `share` says, given how many are `left` to be cut.
    pub(crate) fn cut(
        mut self,
        left: &mut usize,
        share: impl Fn(usize) -> usize,
        pass: &Pass<'_, T>,
        pieces: &mut Vec<Self>,
    ) {
        // Elements that must stay together: a strided array and rows can be cut along axis 0 only.
        let width = self.value.width().max(match &self.gradient {
            Gradient::Dense(values) => values.width(),
            Gradient::Rows(rows) => rows.width,
        });
        let rows = |left: usize| (share(left) / width).max(1);
        if self.len() > rows(*left) * width {
            self.state = match self.state {
                State::Whole { record, norm } => {
                    let plan = self.gradient.plan(record, norm, pass);
                    State::Part(Box::new(Part::all_of(record, plan, pass)))
                }
                part @ State::Part(_) => part,
            };
            while self.len() > rows(*left) * width {
                let (front, back) = self.split_at(rows(*left), width);
                *left -= front.len();
                pieces.push(front);
                self = back;
            }
        }
        *left -= self.len();
        pieces.push(self);
    }

    pub(crate) fn len(&self) -> usize {
        self.value.len()
    }

    fn split_at(self, row: usize, width: usize) -> (Self, Self) {
        let at = row * width;
        let (value, value_back) = self.value.split_at(at, row);
        let (gradient, gradient_back) = match self.gradient {
            Gradient::Dense(values) => {
                let (front, back) = values.split_at(at, row);
                (Gradient::Dense(front), Gradient::Dense(back))
            }
            Gradient::Rows(rows) => {
                let (front, back) = rows.split_at(row);
                (Gradient::Rows(Box::new(front)), Gradient::Rows(Box::new(back)))
            }
        };
        let State::Part(mut part) = self.state else { unreachable!("only parts are split") };
        let back = part.cut_off(at);
        (
            Self { value, gradient, state: State::Part(part) },
            Self { value: value_back, gradient: gradient_back, state: State::Part(Box::new(back)) },
        )
    }

    /// Runs all stages over the piece.
    pub(crate) fn run(&mut self, pass: &Pass<'_, T>, buffers: &mut Buffers<T>) {
        match &mut self.state {
            State::Whole { record, norm } => {
                let plan = self.gradient.plan(record, *norm, pass);
                Part::all_of(record, plan, pass).run(&mut self.value, &self.gradient, pass.kernel, buffers);
            }
            State::Part(part) => part.run(&mut self.value, &self.gradient, pass.kernel, buffers),
        }
    }
}

impl<T: Scalar> Gradient<'_, T> {
    /// What happens to a variable with this gradient.
    fn plan(&self, record: &mut Record<T>, norm: Option<Norm>, pass: &Pass<'_, T>) -> Plan<T> {
        match self {
            Self::Dense(values) => pass.plan(record, norm.unwrap_or_else(|| pass.norm(values))),
            Self::Rows(rows) => pass.sparse_plan(record, rows.values, rows.square_sum),
        }
    }
}

impl<'a, T: Scalar> Rows<'a, T> {
    /// Cuts before the row of the piece with this number.
    fn split_at(self, row: usize) -> (Self, Self) {
        let Self { first, width, rows, values, square_sum } = self;
        let next = first + row;
        let (rows, rows_back) = rows.split_at(rows.partition_point(|&touched| touched < next));
        let (values, values_back) = values.split_at(rows.len() * width);
        let back = Self { first: next, width, rows: rows_back, values: values_back, square_sum };
        (Self { first, width, rows, values, square_sum }, back)
    }
}

impl<'a, T: Scalar> Part<'a, T> {
    fn all_of(record: &'a mut Record<T>, plan: Plan<T>, pass: &Pass<'_, T>) -> Self {
        let noise = pass.noise(record).filter(|_| !record.packed.is_empty());
        let count = record.arrays.len();
        let mut slots: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        for (slot, array) in slots.iter_mut().zip(&mut record.arrays) {
            *slot = array;
        }
        let packed = noise.map(|noise| {
            let mut packed = Packed { slots: Default::default(), places: [usize::MAX; MAX_NARROW], noise, first: 0 };
            let full = record.packed.iter_mut().enumerate().filter(|(_, packed)| !packed.is_empty());
            for ((slot, at), (place, array)) in packed.slots.iter_mut().zip(&mut packed.places).zip(full) {
                (*slot, *at) = (array, place);
            }
            Box::new(packed)
        });
        let average = record.average.as_deref_mut().unwrap_or_default();
        Self { plan, slots, count, packed, average, master: &mut record.master }
    }

    /// Keeps the elements before `at`.
    fn cut_off(&mut self, at: usize) -> Self {
        let mut slots: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        for (slot, back) in self.slots.iter_mut().zip(&mut slots) {
            *back = cut_off(slot, at);
        }
        let packed = self.packed.as_mut().map(|packed| {
            let mut slots: [&mut [bf16]; MAX_NARROW] = Default::default();
            for (slot, back) in packed.slots.iter_mut().zip(&mut slots) {
                *back = cut_off(slot, at);
            }
            let Packed { places, noise, first, .. } = **packed;
            Box::new(Packed { slots, places, noise, first: first + at })
        });
        let (average, master) = (cut_off(&mut self.average, at), cut_off(&mut self.master, at));
        Self { plan: self.plan, slots, count: self.count, packed, average, master }
    }

    fn run(
        &mut self,
        value: &mut AnyValue<'_, T>,
        gradient: &Gradient<'_, T>,
        kernel: &dyn Kernel<T>,
        buffers: &mut Buffers<T>,
    ) {
        let Self { plan, slots, count, packed, average, master } = self;
        let len = value.len();
        let turn = packed.as_ref().map(|packed| packed.first);
        // How long the block is that starts at `at` and ends before `end`.
        let block = |at: usize, end: usize| {
            let longest = turn.map_or(BLOCK, |first| BLOCK.min(moments::before_turn(first + at)));
            longest.min(end - at)
        };
        let packed = packed.as_deref_mut();
        let count = *count;
        let mut stages = Stages { plan, kernel, slots, count, packed, average, workspace: &mut buffers.workspace };
        let mut cursor = match value {
            Any::Full(value) => Any::Full(value.cursor(&mut buffers.value)),
            Any::Bf16(value) => Any::Bf16(Halves { cursor: value.cursor(&mut buffers.bf16), master }),
            Any::F16(value) => Any::F16(Halves { cursor: value.cursor(&mut buffers.f16), master }),
        };
        match gradient {
            Gradient::Dense(gradient) => {
                let (mut gradient, mut at) = (gradient.reader(), 0);
                while at < len {
                    let n = block(at, len);
                    let g = gradient.block(n, plan.limit, &mut buffers.gradient);
                    cursor.visit(at, n, |value| stages.run(at, value, Some(g)));
                    at += n;
                }
            }
            Gradient::Rows(sparse) => {
                let Rows { first, width, rows, values, .. } = **sparse;
                let visit_untouched = stages.visits_untouched_rows();
                for (range, touched) in runs(rows, first, len / width, width) {
                    if touched.is_none() && !visit_untouched {
                        cursor.skip(range.len());
                        continue;
                    }
                    let mut at = range.start;
                    while at < range.end {
                        let n = block(at, range.end);
                        let g = touched.map(|start| &values[start + at - range.start..][..n]);
                        cursor.visit(at, n, |value| stages.run(at, value, g));
                        at += n;
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
#[derive(Default)]
pub(crate) struct Buffers<T> {
    value: Buffer<T>,
    bf16: Buffer<bf16>,
    f16: Buffer<f16>,
    gradient: Buffer<T>,
    workspace: Workspace<T>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 256 }))]

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
