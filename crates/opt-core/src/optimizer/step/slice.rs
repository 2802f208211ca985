//! A slice of a variable, updated block by block: every stage of a step runs on a block before the next block is
//! touched.

use half::{bf16, f16};

use super::super::records::Record;
use super::blocks::Halves;
use super::input::InputGradient;
use super::norms::Norm;
use super::plan::{BlockState, StepPlan, VariablePlan};
use super::storage::{AnyValue, AnyValues};
use super::unique_rows::UniqueRows;
use crate::loops::slices::{block_of, split};
use crate::loops::{BLOCK, Buffer};
use crate::precision::Any;
use crate::precision::master::Masters;
use crate::precision::packed::PackedSlots;
use crate::precision::stochastic::Noise;
use crate::real::Scalar;
use crate::rule::{ArraySlots, Kernel, Workspace};

/// A slice of one variable, with its gradient, its state and its plan.
pub(crate) struct VariableSlice<'a, T> {
    /// The group of the variable.
    pub(crate) group: usize,
    value: AnyValue<'a, T>,
    gradient: SliceGradient<'a, T>,
    plan: VariablePlan<T>,
    state: SliceState<'a, T>,
    /// The master, if the variable is in 16 bits.
    master: Masters<'a, T>,
}

/// The state that the optimizer keeps for the elements of a slice, besides the master.
struct SliceState<'a, T> {
    slots: ArraySlots<'a, T>,
    packed: Option<PackedSlots<'a>>,
    /// The average; empty if there is none.
    average: &'a mut [T],
}

/// The gradient of a slice.
pub(crate) enum SliceGradient<'a, T> {
    Dense(AnyValues<'a, T>),
    Rows(Rows<'a, T>),
}

/// The rows of a slice that a sparse gradient touches.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    /// The row of the variable at which the slice starts.
    first: usize,
    /// The number of elements of a row.
    width: usize,
    /// The touched rows of the slice, in ascending order.
    rows: &'a [usize],
    values: &'a [T],
    /// The sum of squares of the gradient's values over all ranks, if there are any.
    square_sum: Option<f64>,
}

impl<'a, T: Scalar> VariableSlice<'a, T> {
    /// A slice that is the whole variable.
    pub(crate) fn of(
        record: &'a mut Record<T>,
        value: AnyValue<'a, T>,
        gradient: SliceGradient<'a, T>,
        plan: VariablePlan<T>,
        step: &StepPlan<'_, T>,
    ) -> Self {
        let noise = step.noise(record).filter(|_| !record.packed.is_empty());
        let state = SliceState {
            slots: ArraySlots::of(&mut record.arrays),
            packed: noise.map(|noise| PackedSlots::of(&mut record.packed, noise)),
            average: record.average.as_deref_mut().unwrap_or_default(),
        };
        let master = record.master.lend(|seed| Noise::of_master(seed, step.iteration, record.hash));
        Self { group: record.group, value, gradient, plan, state, master }
    }

    pub(crate) fn len(&self) -> usize {
        self.value.len()
    }

    /// The number of elements of a row. Strided arrays and variables with sparse gradients can be cut
    /// only along axis 0.
    fn width(&self) -> usize {
        self.value.width().max(self.gradient.width())
    }

    /// The number of elements of which slices are multiples: whole rows, and whole groups of slots that are stored in
    /// groups.
    pub(crate) fn unit(&self) -> usize {
        let (width, group) = (self.width(), self.state.packed.as_ref().map_or(1, PackedSlots::width));
        // A group is a power of two.
        width * (group >> width.trailing_zeros().min(group.trailing_zeros()))
    }

    /// Splits before an element, at a multiple of [`unit`](Self::unit).
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        let row = at / self.width();
        let Self { group, value, gradient, plan, state, master } = self;
        let (value, value_back) = value.split_at(at, row);
        let (gradient, gradient_back) = gradient.split_at(at, row);
        let (state, state_back) = state.split_at(at);
        let (master, master_back) = master.split_at(at);
        let back =
            Self { group, value: value_back, gradient: gradient_back, plan, state: state_back, master: master_back };
        (Self { group, value, gradient, plan, state, master }, back)
    }

    /// Updates the slice, block by block.
    pub(crate) fn update_slice(&mut self, kernel: &dyn Kernel<T>, buffers: &mut Buffers<T>) {
        let Self { value, gradient, plan, state, master, .. } = self;
        let len = value.len();
        let buffer = &mut buffers.master;
        let workspace = &mut buffers.workspace;
        let mut cursor = match value {
            Any::Full(value) => Any::Full(value.cursor(&mut buffers.value)),
            Any::Bf16(value) => Any::Bf16(Halves { cursor: value.cursor(&mut buffers.bf16), master, buffer }),
            Any::F16(value) => Any::F16(Halves { cursor: value.cursor(&mut buffers.f16), master, buffer }),
        };
        match gradient {
            SliceGradient::Dense(gradient) => {
                let mut gradient = gradient.reader();
                let mut at = 0;
                while at < len {
                    let n = state.block_len(at, len);
                    let g = gradient.block(n, plan.limit, &mut buffers.gradient);
                    cursor.visit(at, n, |value| {
                        plan.update_block(kernel, value, Some(g), state.block(at, n), workspace);
                    });
                    state.round_lent(at, n, workspace);
                    at += n;
                }
            }
            SliceGradient::Rows(Rows { first, width, rows, values, .. }) => {
                let visit_untouched = plan.visits_untouched_rows(kernel);
                for (range, touched) in runs(rows, *first, len / *width, *width) {
                    if touched.is_none() && !visit_untouched {
                        cursor.skip(range.len());
                        continue;
                    }
                    let mut at = range.start;
                    while at < range.end {
                        let n = state.block_len(at, range.end);
                        let g = touched.map(|start| &values[start + at - range.start..][..n]);
                        cursor.visit(at, n, |value| {
                            plan.update_block(kernel, value, g, state.block(at, n), workspace);
                        });
                        state.round_lent(at, n, workspace);
                        at += n;
                    }
                }
            }
        }
    }
}

impl<T: Scalar> SliceState<'_, T> {
    /// The length of the block that starts at `at` and ends at `end` or before.
    fn block_len(&self, at: usize, end: usize) -> usize {
        self.packed.as_ref().map_or(BLOCK.min(end - at), |packed| packed.block_len(at, end))
    }

    /// The elements `at..at + n`.
    fn block(&mut self, at: usize, n: usize) -> BlockState<'_, T> {
        BlockState {
            slots: self.slots.block(at, n),
            packed: self.packed.as_mut().map(|packed| packed.block(at, n)),
            average: block_of(self.average, at, n),
        }
    }

    /// Rounds the slots in fewer bits of the elements `at..at + n`, if a rule was lent them in its element type.
    fn round_lent(&mut self, at: usize, n: usize, workspace: &mut Workspace<T>) {
        if let Some(packed) = &mut self.packed
            && workspace.wide.are_lent()
        {
            packed.block(at, n).round(&mut workspace.wide);
        }
    }

    /// Splits before an element.
    fn split_at(self, at: usize) -> (Self, Self) {
        let Self { slots, packed, average } = self;
        let (slots, slots_back) = slots.split_at(at);
        let (packed, packed_back) = packed.map(|packed| packed.split_at(at)).unzip();
        let (average, average_back) = split(average, at);
        let back = Self { slots: slots_back, packed: packed_back, average: average_back };
        (Self { slots, packed, average }, back)
    }
}

impl<'a, T: Scalar> SliceGradient<'a, T> {
    /// The gradient of a variable of this shape, with `len` elements.
    pub(crate) fn new(
        gradient: &'a InputGradient<'_, T>,
        unique: Option<&'a UniqueRows<T>>,
        shape: &[usize],
        len: usize,
    ) -> Self {
        match (gradient, unique) {
            (InputGradient::Dense(values), _) => Self::Dense(values.reborrow()),
            (InputGradient::Sparse(_), Some(UniqueRows { rows, values, square_sum })) => {
                let width = len / shape[0];
                Self::Rows(Rows { first: 0, width, rows, values, square_sum: *square_sum })
            }
            (InputGradient::Sparse(_), None) => unreachable!("rows of sparse gradients have been summed"),
        }
    }

    /// The plan of a variable with this gradient.
    pub(crate) fn plan(&self, record: &mut Record<T>, norm: Option<&Norm>, step: &StepPlan<'_, T>) -> VariablePlan<T> {
        match self {
            Self::Dense(values) => step.dense(record, norm.copied().unwrap_or_else(|| step.norm_of(values))),
            Self::Rows(rows) => step.sparse(record, rows.values, rows.square_sum),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Dense(values) => values.width(),
            Self::Rows(rows) => rows.width,
        }
    }

    /// Splits before an element, the first of a row.
    fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        match self {
            Self::Dense(values) => {
                let (front, back) = values.split_at(at, row);
                (Self::Dense(front), Self::Dense(back))
            }
            Self::Rows(rows) => {
                let (front, back) = rows.split_at(row);
                (Self::Rows(front), Self::Rows(back))
            }
        }
    }
}

impl<'a, T: Scalar> Rows<'a, T> {
    /// Splits before a row, counted from the start of the slice.
    fn split_at(self, row: usize) -> (Self, Self) {
        let Self { first, width, rows, values, square_sum } = self;
        let next = first + row;
        let (rows, rows_back) = rows.split_at(rows.partition_point(|&touched| touched < next));
        let (values, values_back) = values.split_at(rows.len() * width);
        let back = Self { first: next, width, rows: rows_back, values: values_back, square_sum };
        (Self { first, width, rows, values, square_sum }, back)
    }
}

/// Visits the rows of a slice as runs of touched and of untouched rows. A run is a range of elements; a touched run
/// also has the place where its values start.
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

/// The buffers of one thread.
#[derive(Default)]
pub(crate) struct Buffers<T> {
    value: Buffer<T>,
    bf16: Buffer<bf16>,
    f16: Buffer<f16>,
    gradient: Buffer<T>,
    master: Buffer<T>,
    pub(super) workspace: Workspace<T>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use half::bf16;
    use proptest::prelude::*;

    use super::super::super::groups::Groups;
    use super::super::super::records::{Fill, NewSlots, Records};
    use super::super::admit::add_records;
    use super::super::check::resolve;
    use super::super::storage::Values;
    use super::*;
    use crate::master::Master;
    use crate::moments::MomentStorage;
    use crate::precision::packed::PackedSlot;
    use crate::rule::{Block, Done, SlotSpec, SparseUpdate};
    use crate::variable::Variable;

    /// Momentum, in 16 bits.
    struct Momentum;

    impl Kernel<f32> for Momentum {
        fn update(&self, block: Block<'_, f32>) -> Done {
            block.elementwise(SparseUpdate::Dense, &(), |(), w, g, [m]: [f32; 1]| {
                let m = 0.9 * m + g;
                (w - m, [m])
            })
        }
        fn visits_untouched_rows(&self) -> bool {
            true
        }
    }

    /// The moments after one step over `len` elements, starting at element `first` of the variable and cut at `cuts`.
    fn moments(storage: MomentStorage, len: usize, first: usize, cuts: &[usize]) -> Vec<bf16> {
        let step = StepPlan::plain(&Momentum, storage);
        let gradient: Vec<f32> = (0..len).map(|i| 1.0 + i as f32 / 1000.0).collect();
        let mut value = vec![0.0_f32; len];
        let mut records = Records::new(step.storage);
        let groups = Groups::of_one_rule(vec![SlotSpec::zeros("m").moment()]);
        let mut inputs = resolve([Variable::new("w", &mut value)].into_iter(), &mut records, &groups).unwrap();
        let new = |group| NewSlots {
            specs: groups.slots_of(group),
            averages: false,
            master: Master::Full,
            fill: Fill::Initial,
        };
        add_records(&mut records, &mut inputs, new, |_| true);
        let dense = SliceGradient::Dense(Any::Full(Values::Slice(&gradient)));
        let plan = dense.plan(records.at_mut(0), None, &step);
        let mut slice = VariableSlice::of(records.at_mut(0), inputs[0].value.reborrow(), dense, plan, &step);
        slice.state.packed.as_mut().unwrap().first = first;
        let (mut start, mut buffers) = (0, Buffers::default());
        for cut in cuts {
            let (mut front, back) = slice.split_at(cut - start);
            assert_eq!((front.len(), back.len()), (cut - start, len - cut));
            front.update_slice(&Momentum, &mut buffers);
            (slice, start) = (back, *cut);
        }
        slice.update_slice(&Momentum, &mut buffers);
        match records.at(0).packed[0].clone() {
            Some(PackedSlot::Bf16(moments)) => moments,
            Some(PackedSlot::Float8(moments)) => moments.to_bf16(),
            None => panic!("moments in full"),
        }
    }

    /// The roundings do not depend on where a variable is cut, even where the count of elements exceeds 32 bits.
    #[test]
    fn roundings_do_not_depend_on_cuts() {
        let halves = |first: usize, cuts: &[usize]| moments(MomentStorage::Bf16 { seed: 1 }, 100, first, cuts);
        for first in [0, (1 << 32) - 50, (3 << 32) - 1] {
            let whole = halves(first, &[]);
            assert_eq!(halves(first, &[1, 49, 50, 51, 99]), whole, "{first}");
            assert_eq!(halves(first, &[(1 << 32) - first % (1 << 32)].map(|cut| cut.min(100))), whole, "{first}");
        }
        assert_ne!(halves(0, &[]), halves((1 << 32) - 50, &[]));
        let bytes = |first: usize, cuts: &[usize]| moments(MomentStorage::Float8 { seed: 1 }, 1700, first, cuts);
        for first in [0, 512, (1 << 32) - 512] {
            assert_eq!(bytes(first, &[512, 1536]), bytes(first, &[]), "{first}");
        }
        assert_ne!(bytes(0, &[]), bytes(512, &[]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 256 }))]

        /// Runs cover every element of the slice once, in order; touched rows get their values, no others do.
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
