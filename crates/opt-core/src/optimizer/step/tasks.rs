//! The tasks of threads: small variables share a task, larger ones have a task each, the largest are cut into slices.

use smallvec::SmallVec;

use super::super::records::Record;
use super::input::{Input, InputGradient};
use super::measure::Measured;
use super::norms::Norm;
use super::plan::StepPlan;
use super::slice::{Buffers, SliceGradient, VariableSlice};
use super::storage::{AnyValue, Value, Values};
use super::threads::{CHUNK, Shares};
use super::unique_rows::UniqueRows;
use crate::loops::BLOCK;
use crate::precision::Any;
use crate::real::Scalar;

/// A unit of work for a thread.
pub(crate) enum Task<'a, 'v, T> {
    Batch(Batch<'a, 'v, T>),
    Variable(WholeVariable<'a, 'v, T>),
    Slice(Box<VariableSlice<'a, T>>),
}

/// The tasks of a step, or the only one of a short step.
pub(crate) type TaskList<'a, 'v, T> = SmallVec<[Task<'a, 'v, T>; 1]>;

/// Small variables with dense gradients or none, whose records are consecutive.
pub(crate) struct Batch<'a, 'v, T> {
    inputs: &'a mut [Input<'v, T>],
    records: &'a mut [Record<T>],
    measured: &'a Measured,
    /// The number of the first input.
    first: usize,
    /// The number of elements that get an update.
    len: usize,
}

/// A whole variable: the thread that takes it makes its plan.
pub(crate) struct WholeVariable<'a, 'v, T> {
    pub(crate) value: &'a mut AnyValue<'v, T>,
    /// The number of elements, at least 1.
    pub(crate) len: usize,
    pub(crate) gradient: &'a InputGradient<'v, T>,
    pub(crate) unique: Option<&'a UniqueRows<T>>,
    pub(crate) record: &'a mut Record<T>,
    /// The norm, if it was measured before.
    pub(crate) norm: Option<&'a Norm>,
}

/// Divides the inputs, which are in the order of their records, into tasks. `first` is the number of the first input;
/// `unique` has the rows of sparse gradients, by the numbers of the inputs.
pub(crate) fn tasks<'a, 'v, T: Scalar>(
    mut inputs: &'a mut [Input<'v, T>],
    mut first: usize,
    mut records: &'a mut [Record<T>],
    unique: &'a [(usize, UniqueRows<T>)],
    measured: &'a Measured,
    shares: impl FnOnce(usize) -> Shares,
    plans: &[StepPlan<'_, T>],
) -> TaskList<'a, 'v, T> {
    let mut left = inputs.iter().map(updated).sum();
    let shares = shares(left);
    let mut place = 0;
    let before = unique.partition_point(|(input, _)| *input < first);
    let mut unique = unique[before..].iter().peekable();
    let mut tasks = TaskList::with_capacity(inputs.len().min(left / CHUNK + 1));
    while let Some(input) = inputs.first() {
        // Skips the records of variables that are not in the list.
        records = &mut records[input.place - place..];
        place = input.place;
        let (count, len) = if plans[0].on_ranks { (0, 0) } else { Batch::fitting(inputs) };
        let step = count.max(1);
        let (taken, behind) = inputs.split_at_mut(step);
        let (of_taken, records_behind) = records.split_at_mut(step);
        if count > 0 {
            left -= len;
            tasks.push(Task::Batch(Batch { inputs: taken, records: of_taken, measured, first, len }));
        } else if let Input { value, gradient: Some(gradient), .. } = &mut taken[0] {
            let record = &mut of_taken[0];
            let plan = &plans[record.group];
            let unique = unique.next_if(|(input, _)| *input == first).map(|(_, rows)| rows);
            if unique.is_some() {
                record.make_row_major();
            }
            let len = value.len();
            if len == 0 {
                // Its scalar slots change as those of other variables: on other ranks the variable may have elements.
                plan.update_scalars(record, unique, *measured.norm(first));
            } else {
                let norm = measured.known(first, len);
                let whole = WholeVariable { value, len, gradient, unique, record, norm };
                whole.cut(&mut left, &shares, plan, &mut tasks);
            }
        }
        first += step;
        place += step;
        inputs = behind;
        records = records_behind;
    }
    tasks
}

impl<'a, 'v, T: Scalar> Task<'a, 'v, T> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.len,
            Self::Variable(variable) => variable.len,
            Self::Slice(slice) => slice.len(),
        }
    }

    /// Updates all variables of the task.
    /// `plans` are those of the groups.
    pub(crate) fn update(&mut self, plans: &[StepPlan<'_, T>], buffers: &mut Buffers<T>) {
        match self {
            Self::Batch(batch) => batch.update_variables(plans, buffers),
            Self::Variable(variable) => variable.update_variable(&plans[variable.record.group], buffers),
            Self::Slice(slice) => slice.update_slice(plans[slice.group].kernel, buffers),
        }
    }
}

/// The number of elements of an input that get an update.
fn updated<T>(input: &Input<'_, T>) -> usize {
    if input.gradient.is_some() { input.value.len() } else { 0 }
}

impl<T: Scalar> Batch<'_, '_, T> {
    /// The number of first inputs that make a batch, and the number of their elements that get an update.
    fn fitting(inputs: &[Input<'_, T>]) -> (usize, usize) {
        let first = inputs[0].place;
        let mut fitting = (0, 0);
        for (number, input) in inputs.iter().enumerate() {
            let len = fitting.1 + updated(input);
            let is_sparse = matches!(input.gradient, Some(InputGradient::Sparse(_)));
            if input.place != first + number || len > CHUNK || is_sparse {
                break;
            }
            fitting = (number + 1, len);
        }
        fitting
    }

    /// Updates each variable in turn.
    fn update_variables(&mut self, plans: &[StepPlan<'_, T>], buffers: &mut Buffers<T>) {
        let Self { inputs, records, measured, first, .. } = self;
        for ((number, Input { value, gradient, .. }), record) in inputs.iter_mut().enumerate().zip(&mut **records) {
            let Some(gradient) = gradient else { continue };
            let len = value.len();
            let plan = &plans[record.group];
            if len == 0 {
                plan.update_scalars(record, None, Norm::NONE);
            } else {
                let norm = measured.known(*first + number, len);
                WholeVariable { value, len, gradient, unique: None, record, norm }.update_variable(plan, buffers);
            }
        }
    }
}

impl<'a, 'v, T: Scalar> WholeVariable<'a, 'v, T> {
    /// Cuts the variable into slices, whose sizes `shares` gives; `left` is the number of elements that are still to be
    /// cut.
    fn cut(self, left: &mut usize, shares: &Shares, plan: &StepPlan<'_, T>, tasks: &mut TaskList<'a, 'v, T>) {
        if self.len <= shares.of(*left) {
            *left -= self.len;
            return tasks.push(Task::Variable(self));
        }
        let Self { value, gradient, unique, record, norm, .. } = self;
        let gradient = SliceGradient::new(gradient, unique, record.shape(), value.len());
        let of_variable = gradient.plan(record, norm, plan);
        let mut slice = VariableSlice::of(record, value.reborrow(), gradient, of_variable, plan);
        let unit = slice.unit();
        loop {
            let len = (shares.of(*left) / unit).max(1) * unit;
            if slice.len() <= len {
                *left -= slice.len();
                return tasks.push(Task::Slice(Box::new(slice)));
            }
            let (front, back) = slice.split_at(len);
            *left -= front.len();
            tasks.push(Task::Slice(Box::new(front)));
            slice = back;
        }
    }

    /// Makes the plan of the variable, and updates it.
    #[inline(always)]
    fn update_variable(&mut self, plan: &StepPlan<'_, T>, buffers: &mut Buffers<T>) {
        let Self { value, len, gradient, record, norm, .. } = self;
        if let Any::Full(Value::Slice(value)) = &mut **value
            && let InputGradient::Dense(values) = *gradient
            && let Any::Full(Values::Slice(gradient)) = values
            && *len <= BLOCK
            && record.packed.is_empty()
            && plan.question.limit.is_none()
        {
            let wanted = || norm.copied().unwrap_or_else(|| plan.question.answer(values));
            let norm = plan.is_norm_wanted().then(wanted);
            plan.update_small(record, value, gradient, norm, &mut buffers.workspace);
            return;
        }
        self.update_blocks(plan, buffers);
    }

    /// As [`update_variable`](Self::update_variable), for variables of any length and kind.
    #[inline(never)]
    pub(crate) fn update_blocks(&mut self, plan: &StepPlan<'_, T>, buffers: &mut Buffers<T>) {
        let Self { value, len, gradient, unique, record, norm } = self;
        let gradient = SliceGradient::new(gradient, *unique, record.shape(), *len);
        let of_variable = gradient.plan(record, *norm, plan);
        VariableSlice::of(record, value.reborrow(), gradient, of_variable, plan).update_slice(plan.kernel, buffers);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis, Slice};

    use super::super::super::groups::Groups;
    use super::super::super::records::{Fill, NewSlots, Records};
    use super::super::admit::add_records;
    use super::super::check::resolve;
    use super::super::threads::Threads;
    use super::*;
    use crate::master::Master;
    use crate::moments::MomentStorage;
    use crate::rule::{Block, Done, Kernel};
    use crate::variable::Variable;

    struct Nothing;

    impl Kernel<f32> for Nothing {
        fn update(&self, block: Block<'_, f32>) -> Done {
            block.done()
        }
        fn visits_untouched_rows(&self) -> bool {
            false
        }
    }

    /// The lengths of the tasks in chunks, and whether each of them is a batch.
    fn cut(threads: usize, variables: Vec<Variable<'_, f32>>) -> Vec<(f64, bool)> {
        let mut records = Records::new(MomentStorage::Full);
        let groups = Groups::of_one_rule(Vec::new());
        let mut inputs = resolve(variables.into_iter(), &mut records, &groups).unwrap();
        let new = |_| NewSlots { specs: &[], averages: false, master: Master::Full, fill: Fill::Initial };
        add_records(&mut records, &mut inputs, new, |_| true);
        let plan = StepPlan::plain(&Nothing, MomentStorage::Full);
        let (measured, threads) = (Measured::default(), Threads::new(Some(threads)).unwrap());
        let shares = |total| threads.shares(total);
        let tasks = tasks(&mut inputs, 0, records.as_mut_slice(), &[], &measured, shares, &[plan]);
        let length = |task: &Task<'_, '_, f32>| task.len() as f64 / CHUNK as f64;
        tasks.iter().map(|task| (length(task), matches!(task, Task::Batch(_)))).collect()
    }

    fn of_lengths<'a>(numbers: &'a mut [Vec<f32>], gradients: &'a [Vec<f32>]) -> Vec<Variable<'a, f32>> {
        let variable = |(i, (value, gradient)): (usize, (&'a mut Vec<f32>, &'a Vec<f32>))| {
            Variable::new(format!("v{i}"), value).gradient(gradient)
        };
        numbers.iter_mut().zip(gradients).enumerate().map(variable).collect()
    }

    /// Large variables are cut into slices, which get smaller towards the end; small variables share a task.
    #[test]
    fn variables_are_shared_out() {
        let lengths = [20 * CHUNK, CHUNK / 2, CHUNK / 4, CHUNK / 4, 1, 9 * CHUNK];
        let gradients = lengths.map(|len| vec![0.0_f32; len]);
        let cut = |threads: usize| cut(threads, of_lengths(&mut gradients.clone(), &gradients));
        let large = |lengths: &[f64]| lengths.iter().map(|&length| (length, false)).collect::<Vec<_>>();
        let batches = [(1.0, true), (1.0 / CHUNK as f64, true)];
        assert_eq!(cut(1), [large(&[20.0]), batches.to_vec(), large(&[9.0])].concat());
        // Each slice is an eighth of the rest: of a little more than 30 chunks, then of 26, and so on.
        let first = large(&[4.0, 4.0, 3.0, 3.0, 3.0, 2.0, 1.0]);
        let last = large(&[2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(cut(2), [first, batches.to_vec(), last].concat());
    }

    /// Scattered numbers are cut between rows.
    #[test]
    fn scattered_variables_are_cut_between_rows() {
        let (rows, width) = (4 * 5, CHUNK / 4);
        let (mut room, gradient) = (Array2::<f32>::zeros((rows, width + 1)), Array2::<f32>::zeros((rows, width)));
        let value = room.slice_axis_mut(Axis(1), Slice::from(..width));
        let lengths = cut(2, vec![Variable::new("w", value).gradient(&gradient)]);
        assert_eq!(lengths, [1.0; 5].map(|length| (length, false)));
    }
}
