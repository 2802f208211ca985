//! What threads work on: variables as they are, small ones together, large ones in parts.

use super::super::records::Record;
use super::Measured;
use super::check::{Input, InputGradient};
use super::norms::Norm;
use super::plan::Pass;
use super::slice::{Buffers, Gradient, Part};
use super::storage::{AnyValue, Value, Values};
use super::threads::{CHUNK, Shares};
use super::unique_rows::UniqueRows;
use crate::precision::Any;
use crate::real::Scalar;
use crate::rule::{BLOCK, MAX_ARRAY_SLOTS};

/// Something for a thread to work on.
pub(crate) enum Piece<'a, 'v, T> {
    Batch(Batch<'a, 'v, T>),
    Whole(Whole<'a, 'v, T>),
    Part(Box<Part<'a, T>>),
}

/// Small variables with dense gradients, or none, whose records follow one another.
pub(crate) struct Batch<'a, 'v, T> {
    inputs: &'a mut [Input<'v, T>],
    records: &'a mut [Record<T>],
    measured: &'a Measured,
    /// The number of the first input.
    first: usize,
    /// How many elements get an update.
    len: usize,
}

/// All of a variable: what happens to it is found out by the thread that gets it.
pub(crate) struct Whole<'a, 'v, T> {
    value: &'a mut AnyValue<'v, T>,
    /// How many elements there are; at least one.
    len: usize,
    gradient: &'a InputGradient<'v, T>,
    unique: Option<&'a UniqueRows<T>>,
    record: &'a mut Record<T>,
    /// If it is known already.
    norm: Option<&'a Norm>,
}

/// Shares out inputs, which are in the order of their records. `unique` has the rows of sparse gradients by the numbers
/// of the inputs.
pub(crate) fn pieces<'a, 'v, T: Scalar>(
    mut inputs: &'a mut [Input<'v, T>],
    mut records: &'a mut [Record<T>],
    unique: &'a [(usize, UniqueRows<T>)],
    measured: &'a Measured,
    shares: impl FnOnce(usize) -> Shares,
    pass: &Pass<'_, T>,
) -> Vec<Piece<'a, 'v, T>> {
    let mut left = inputs.iter().map(updated).sum();
    let shares = shares(left);
    let (mut first, mut place) = (0, 0);
    let (mut unique, mut pieces) = (unique.iter().peekable(), Vec::with_capacity(inputs.len().min(left / CHUNK + 1)));
    while let Some(input) = inputs.first() {
        // Variables that are not in the list.
        records = &mut records[input.place - place..];
        place = input.place;
        let (count, len) = if pass.on_ranks { (0, 0) } else { Batch::fitting(inputs) };
        let step = count.max(1);
        let (taken, behind) = inputs.split_at_mut(step);
        let (of_taken, records_behind) = records.split_at_mut(step);
        if count > 0 {
            left -= len;
            pieces.push(Piece::Batch(Batch { inputs: taken, records: of_taken, measured, first, len }));
        } else if let (Input { value, gradient: Some(gradient), .. }, record) = (&mut taken[0], &mut of_taken[0]) {
            let unique = unique.next_if(|(input, _)| *input == first).map(|(_, rows)| rows);
            if unique.is_some() {
                record.make_row_major();
            }
            let len = value.len();
            if len == 0 {
                // Its scalar slots move as others do: on other ranks it may have elements.
                pass.settle(record, unique, *measured.norm(first));
            } else {
                let whole = Whole { value, len, gradient, unique, record, norm: measured.known(first, len) };
                whole.cut(&mut left, &shares, pass, &mut pieces);
            }
        }
        (first, place) = (first + step, place + step);
        (inputs, records) = (behind, records_behind);
    }
    pieces
}

impl<'a, 'v, T: Scalar> Piece<'a, 'v, T> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.len,
            Self::Whole(whole) => whole.len,
            Self::Part(part) => part.len(),
        }
    }

    /// Runs all stages over the piece.
    pub(crate) fn run(&mut self, pass: &Pass<'_, T>, buffers: &mut Buffers<T>) {
        match self {
            Self::Batch(batch) => batch.run(pass, buffers),
            Self::Whole(whole) => whole.run(pass, buffers),
            Self::Part(part) => part.run(pass.kernel, buffers),
        }
    }
}

/// How many elements of an input get an update.
fn updated<T>(input: &Input<'_, T>) -> usize {
    if input.gradient.is_some() { input.value.len() } else { 0 }
}

impl<T: Scalar> Batch<'_, '_, T> {
    /// How many of the first inputs make a batch, and how many elements of them get an update.
    fn fitting(inputs: &[Input<'_, T>]) -> (usize, usize) {
        let (first, mut len) = (inputs[0].place, 0);
        let fits = |(number, input): &(usize, &Input<'_, T>)| {
            len += updated(input);
            input.place == first + number && len <= CHUNK && !matches!(input.gradient, Some(InputGradient::Sparse(_)))
        };
        let count = inputs.iter().enumerate().take_while(fits).count();
        (count, inputs[..count].iter().map(updated).sum())
    }

    fn run(&mut self, pass: &Pass<'_, T>, buffers: &mut Buffers<T>) {
        let Self { inputs, records, measured, first, .. } = self;
        for ((number, Input { value, gradient, .. }), record) in inputs.iter_mut().enumerate().zip(&mut **records) {
            let Some(gradient) = gradient else { continue };
            let len = value.len();
            if len == 0 {
                pass.settle(record, None, Norm::NONE);
            } else {
                let norm = measured.known(*first + number, len);
                Whole { value, len, gradient, unique: None, record, norm }.run(pass, buffers);
            }
        }
    }
}

impl<'a, 'v, T: Scalar> Whole<'a, 'v, T> {
    /// Cuts the variable into pieces of about as many elements as `shares` say, given how many are `left` to be cut.
    pub(crate) fn cut(self, left: &mut usize, shares: &Shares, pass: &Pass<'_, T>, pieces: &mut Vec<Piece<'a, 'v, T>>) {
        if self.len <= shares.of(*left) {
            *left -= self.len;
            return pieces.push(Piece::Whole(self));
        }
        let Self { value, gradient, unique, record, norm, .. } = self;
        let gradient = Gradient::new(gradient, unique, record.shape(), value.len());
        let plan = gradient.plan(record, norm, pass);
        let mut part = Part::all_of(record, value.reborrow(), gradient, plan, pass);
        let width = part.width();
        loop {
            let rows = (shares.of(*left) / width).max(1);
            if part.len() <= rows * width {
                *left -= part.len();
                return pieces.push(Piece::Part(Box::new(part)));
            }
            let (front, back) = part.split_at(rows, width);
            *left -= front.len();
            pieces.push(Piece::Part(Box::new(front)));
            part = back;
        }
    }

    fn run(&mut self, pass: &Pass<'_, T>, buffers: &mut Buffers<T>) {
        let Self { value, len, gradient, unique, record, norm } = self;
        if let (Any::Full(Value::Slice(value)), InputGradient::Dense(values)) = (&mut **value, *gradient)
            && let Any::Full(Values::Slice(gradient)) = values
            && *len <= BLOCK
            && record.packed.is_empty()
            && pass.question.limit.is_none()
        {
            // One block, with all of its numbers in place: long lists are made of these.
            let plan = pass.plan(record, norm.copied().unwrap_or_else(|| pass.norm(values)));
            let mut slots: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
            for (slot, array) in slots.iter_mut().zip(&mut record.arrays) {
                *slot = array;
            }
            let average = record.average.as_deref_mut().unwrap_or_default();
            plan.run(pass.kernel, value, Some(gradient), slots, average, None, &mut buffers.workspace);
            return;
        }
        let gradient = Gradient::new(gradient, *unique, record.shape(), *len);
        let plan = gradient.plan(record, *norm, pass);
        Part::all_of(record, value.reborrow(), gradient, plan, pass).run(pass.kernel, buffers);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis, Slice};

    use super::super::super::records::{Fill, NewSlots, Records};
    use super::super::check::resolve;
    use super::super::threads::Threads;
    use super::*;
    use crate::precision::stochastic::MomentStorage;
    use crate::rule::{Block, Kernel};
    use crate::variable::Variable;

    struct Nothing;

    impl Kernel<f32> for Nothing {
        fn update(&self, _block: Block<'_, f32>) {}
        fn visits_untouched_rows(&self) -> bool {
            false
        }
    }

    /// The lengths of the pieces in chunks, and which of them are batches.
    fn cut(threads: usize, variables: Vec<Variable<'_, f32>>) -> Vec<(f64, bool)> {
        let mut records = Records::new(MomentStorage::Full);
        let mut inputs = resolve(variables.into_iter(), &mut records).unwrap();
        records.admit(inputs.iter_mut(), &NewSlots { specs: &[], averages: false, fill: Fill::Initial }, |_| true);
        let pass = Pass::plain(&Nothing, MomentStorage::Full);
        let (measured, threads) = (Measured::default(), Threads::new(Some(threads)).unwrap());
        let shares = |total| threads.shares(total);
        let pieces = pieces(&mut inputs, records.as_mut_slice(), &[], &measured, shares, &pass);
        let length = |piece: &Piece<'_, '_, f32>| piece.len() as f64 / CHUNK as f64;
        pieces.iter().map(|piece| (length(piece), matches!(piece, Piece::Batch(_)))).collect()
    }

    fn of_lengths<'a>(numbers: &'a mut [Vec<f32>], gradients: &'a [Vec<f32>]) -> Vec<Variable<'a, f32>> {
        let variable = |(i, (value, gradient)): (usize, (&'a mut Vec<f32>, &'a Vec<f32>))| {
            Variable::new(format!("v{i}"), value).gradient(gradient)
        };
        numbers.iter_mut().zip(gradients).enumerate().map(variable).collect()
    }

    /// Large variables in shares that get smaller to the end of all, small ones together as they are.
    #[test]
    fn variables_are_shared_out() {
        let lengths = [20 * CHUNK, CHUNK / 2, CHUNK / 4, CHUNK / 4, 1, 9 * CHUNK];
        let gradients = lengths.map(|len| vec![0.0_f32; len]);
        let cut = |threads: usize| cut(threads, of_lengths(&mut gradients.clone(), &gradients));
        let large = |lengths: &[f64]| lengths.iter().map(|&length| (length, false)).collect::<Vec<_>>();
        let batches = [(1.0, true), (1.0 / CHUNK as f64, true)];
        assert_eq!(cut(1), [large(&[20.0]), batches.to_vec(), large(&[9.0])].concat());
        // An eighth of what is left, each time: of 30 chunks and a bit, then of 26, and so on.
        let first = large(&[4.0, 4.0, 3.0, 3.0, 3.0, 2.0, 1.0]);
        let last = large(&[2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(cut(2), [first, batches.to_vec(), last].concat());
    }

    /// Numbers that are not side by side are cut between rows.
    #[test]
    fn scattered_variables_are_cut_between_rows() {
        let (rows, width) = (4 * 5, CHUNK / 4);
        let (mut room, gradient) = (Array2::<f32>::zeros((rows, width + 1)), Array2::<f32>::zeros((rows, width)));
        let value = room.slice_axis_mut(Axis(1), Slice::from(..width));
        let lengths = cut(2, vec![Variable::new("w", value).gradient(&gradient)]);
        assert_eq!(lengths, [1.0; 5].map(|length| (length, false)));
    }
}
