//! Gradient accumulation: the gradients of several calls are summed, and the last call applies the sum.
//!
//! The call that applies does not write the sum: stages read it block by block ([`SumOf`]), so that a refused call
//! leaves no trace. Sums of which a part is sparse are small, and are made anew.

use super::Optimizer;
use super::distributed::{global_norms, own_parts};
use super::form::Form;
use super::records::Fill;
use super::step::averages;
use super::step::check::Start;
use super::step::input::{Input, InputGradient, SparseGradient};
use super::step::norms::{Question, norms};
use super::step::storage::{AnyValues, SumOf, Values};
use crate::accumulate::Accumulate;
use crate::error::Error;
use crate::loops::{self, BLOCK, Buffer};
use crate::parameters::Parameters;
use crate::precision::Any;
use crate::real::Scalar;
use crate::report::{Outcome, StepReport};
use crate::rule::UpdateRule;

/// The gradients of a variable that micro-steps have summed.
#[derive(Debug, Clone, Default)]
pub(crate) enum Accumulator<T> {
    #[default]
    None,
    /// None, but the memory of earlier sums.
    Spare(Vec<T>),
    /// The sum of gradients of which one at least is dense, in the order in which the variable is stored.
    Dense(Vec<T>),
    /// Rows in ascending order, each once, and their values.
    Rows(Vec<usize>, Vec<T>),
}

impl<T: Scalar> Accumulator<T> {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None | Self::Spare(_))
    }

    /// Forgets the sum, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        *self = match std::mem::take(self) {
            Self::Dense(sum) | Self::Spare(sum) => Self::Spare(sum),
            Self::None | Self::Rows(..) => Self::None,
        };
    }

    /// The number of bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Spare(sum) | Self::Dense(sum) => size_of_val(&sum[..]),
            Self::Rows(rows, values) => size_of_val(&rows[..]) + size_of_val(&values[..]),
        }
    }

    /// The sum as an array, and for each row whether it has one: 0 for none, 1 for a sparse one, 2 for a dense one; 3
    /// if the gradients had no rows.
    pub(crate) fn to_arrays(&self, len: usize, rows: usize) -> (Vec<T>, Vec<T>) {
        match self {
            Self::None | Self::Spare(_) => (vec![T::zero(); len], vec![T::zero(); rows]),
            Self::Dense(sum) => (sum.clone(), vec![T::literal(2.0); rows]),
            Self::Rows(touched, values) => {
                let others = T::literal(if touched.is_empty() { 3.0 } else { 0.0 });
                let (mut sum, mut marks) = (vec![T::zero(); len], vec![others; rows]);
                let width = len / rows.max(1);
                for (place, &row) in touched.iter().enumerate() {
                    sum[row * width..][..width].copy_from_slice(&values[place * width..][..width]);
                    marks[row] = T::literal(1.0);
                }
                (sum, marks)
            }
        }
    }

    /// Whether marks are those of a dense sum.
    pub(crate) fn are_dense(marks: &[T]) -> bool {
        marks.iter().any(|&mark| mark == T::literal(2.0))
    }

    /// The reverse of [`to_arrays`](Self::to_arrays), which takes the marks for a dense sum in any order of axes.
    pub(crate) fn from_arrays(sum: Vec<T>, marks: &[T]) -> Self {
        if Self::are_dense(marks) {
            return Self::Dense(sum);
        }
        let rows: Vec<usize> = (0..marks.len()).filter(|&row| marks[row] == T::literal(1.0)).collect();
        if rows.is_empty() {
            let had_no_rows = marks.contains(&T::literal(3.0));
            return if had_no_rows { Self::Rows(Vec::new(), Vec::new()) } else { Self::None };
        }
        let width = sum.len() / marks.len();
        let values = rows.iter().flat_map(|row| &sum[row * width..][..width]).copied().collect();
        Self::Rows(rows, values)
    }

    /// Memory for a dense sum: with the sum so far, or anything if there is none.
    fn into_dense(self, len: usize, width: usize) -> Vec<T> {
        match self {
            Self::Dense(sum) => sum,
            Self::Spare(sum) if sum.len() == len => sum,
            Self::None | Self::Spare(_) => vec![T::zero(); len],
            Self::Rows(rows, values) => {
                let mut sum = vec![T::zero(); len];
                add_rows(&mut sum, width, &rows, &values, 1.0);
                sum
            }
        }
    }

    /// Adds a sparse gradient.
    fn add_sparse(&mut self, sparse: &SparseGradient<'_, T>, width: usize, factor: f64) {
        let given = sparse.values.to_rows();
        if let Self::Dense(sum) = self {
            return add_rows(sum, width, &sparse.rows, &given, factor);
        }
        let (mut rows, mut values) = match std::mem::take(self) {
            Self::Rows(rows, values) => (rows, values),
            _ => (Vec::new(), Vec::new()),
        };
        let mut new: Vec<usize> = sparse.rows.iter().copied().filter(|row| rows.binary_search(row).is_err()).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            let (before, sums) = (rows, values);
            rows = before.iter().copied().chain(new).collect();
            rows.sort_unstable();
            values = vec![T::zero(); rows.len() * width];
            let places: Vec<usize> = before.iter().map(|row| place_of(&rows, *row)).collect();
            for (old, place) in places.into_iter().enumerate() {
                values[place * width..][..width].copy_from_slice(&sums[old * width..][..width]);
            }
        }
        let places: Vec<usize> = sparse.rows.iter().map(|row| place_of(&rows, *row)).collect();
        add_rows(&mut values, width, &places, &given, factor);
        *self = Self::Rows(rows, values);
    }
}

/// The place of a row in a list that has it.
fn place_of(rows: &[usize], row: usize) -> usize {
    rows.binary_search(&row).expect("the list has every row")
}

/// Adds a multiple of values to rows.
fn add_rows<T: Scalar>(sum: &mut [T], width: usize, rows: &[usize], values: &[T], factor: f64) {
    for (place, row) in rows.iter().enumerate() {
        loops::add(&mut sum[row * width..][..width], &values[place * width..][..width], T::literal(factor));
    }
}

/// A slice of a dense sum, and what is added to it.
struct Addition<'a, T> {
    sum: &'a mut [T],
    last: AnyValues<'a, T>,
    /// Whether the sum starts with this gradient.
    is_first: bool,
}

impl<'a, T: Scalar> Addition<'a, T> {
    /// Cuts the addition into slices of at most a share.
    fn cut(self, share: usize, to: &mut Vec<Self>) {
        let Self { sum, last, is_first } = self;
        if sum.len() <= share || !last.is_slice() {
            return to.push(Self { sum, last, is_first });
        }
        let (front, back) = sum.split_at_mut(share);
        let (last, last_back) = last.split_at(share, share);
        to.push(Self { sum: front, last, is_first });
        Self { sum: back, last: last_back, is_first }.cut(share, to);
    }

    fn run(&mut self, factor: T, buffer: &mut Buffer<T>) {
        let mut last = self.last.reader();
        for sum in self.sum.chunks_mut(BLOCK) {
            let g = last.block(sum.len(), None, buffer);
            if self.is_first {
                loops::scale(sum, g, [factor, T::literal(1.0)]);
            } else {
                loops::add(sum, g, factor);
            }
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The number of micro-steps whose gradients are waiting to be applied: see [`Accumulate`].
    #[must_use]
    pub fn micro_step(&self) -> u64 {
        self.micro_step
    }

    /// Applies the accumulated gradients before all micro-steps are there, at the end of an epoch. A mean is one over
    /// the micro-steps that are there. If there are none, nothing changes.
    ///
    /// # Errors
    ///
    /// As [`apply_gradients`](Self::apply_gradients).
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Accumulate, Optimizer};
    /// use opt_sgd::Sgd;
    ///
    /// let mut w = [1.0];
    /// let mut opt = Optimizer::builder(Sgd::new(0.5)).accumulate(Accumulate::mean(4)).build()?;
    /// opt.step(&mut w, &[1.0])?;
    /// opt.step(&mut w, &[3.0])?;
    /// assert!(opt.flush(&mut w)?.is_applied());
    /// assert_eq!((w, opt.micro_step()), ([0.0], 0));
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn flush<P: Parameters<T> + ?Sized>(&mut self, model: &mut P) -> Result<StepReport, Error> {
        let variables = model.variables();
        let (start, mut inputs) = self.begin(variables.into_iter(), false)?;
        match self.options.accumulate {
            Some(accumulate) if self.micro_step > 0 => {
                // No variable has a gradient in this call.
                let accumulate = Accumulate { keras3: false, ..accumulate };
                self.apply_accumulated(accumulate, self.micro_step, &mut inputs, start)
            }
            Some(Accumulate { steps, .. }) => {
                Ok(StepReport { outcome: Outcome::Accumulated { micro_step: 0, of: steps }, ..start.report })
            }
            None => Ok(start.report),
        }
    }

    /// Forgets the accumulated gradients: the next call is the first micro-step again.
    pub fn discard_accumulated(&mut self) {
        self.micro_step = 0;
        self.records.iter_mut().for_each(|record| record.accumulator.clear());
    }

    /// One call of several that make a step.
    pub(super) fn accumulate(
        &mut self,
        accumulate: Accumulate,
        mut inputs: Vec<Input<'_, T>>,
        start: Start,
    ) -> Result<StepReport, Error> {
        if inputs.is_empty() {
            return Ok(start.report);
        }
        if self.micro_step + 1 >= accumulate.steps {
            return self.apply_accumulated(accumulate, accumulate.steps, &mut inputs, start);
        }
        if self.checks_finite() {
            let taken = self.take_accumulators(&inputs);
            let refused = self.find_non_finite_sum(&mut inputs, &taken, &start);
            self.put_back(taken);
            if let Some(report) = refused? {
                return Ok(report);
            }
        }
        self.admit(&mut own_parts(&mut inputs), Fill::Initial);
        self.poisoned = true;
        self.add_gradients(&inputs, start.factor);
        if accumulate.keras3 {
            self.move_averages(&mut inputs);
            self.scaling.succeed();
        }
        self.poisoned = false;
        self.micro_step += 1;
        let outcome = Outcome::Accumulated { micro_step: self.micro_step, of: accumulate.steps };
        Ok(StepReport { outcome, ..start.report })
    }

    /// Applies the accumulated gradients, together with those of the inputs.
    fn apply_accumulated(
        &mut self,
        accumulate: Accumulate,
        micro_steps: u64,
        inputs: &mut [Input<'_, T>],
        start: Start,
    ) -> Result<StepReport, Error> {
        let is_given: Vec<usize> = inputs.iter().map(|input| input.place).collect();
        let missing = self.records.iter().enumerate().find(|(place, record)| {
            !accumulate.keras3 && !record.accumulator.is_empty() && is_given.binary_search(place).is_err()
        });
        if let Some((_, record)) = missing {
            return Err(Error::AccumulatedVariable { variable: record.name.clone() });
        }
        let taken = self.take_accumulators(inputs);
        let owned = owned_sums(inputs, &taken, start.factor);
        let totals = totals(inputs, &taken, &owned, start.factor, accumulate.keras3);
        let applied = self.step_with(totals, &Start { factor: accumulate.factor(micro_steps), ..start });
        self.put_back(taken);
        if applied.as_ref().is_ok_and(StepReport::is_applied) {
            self.discard_accumulated();
        }
        applied
    }

    /// The report of a micro-step that is skipped because a sum is not finite.
    fn find_non_finite_sum(
        &mut self,
        inputs: &mut [Input<'_, T>],
        taken: &[Taken<T>],
        start: &Start,
    ) -> Result<Option<StepReport>, Error> {
        let owned = owned_sums(inputs, taken, start.factor);
        let totals = totals(inputs, taken, &owned, start.factor, false);
        let questions = vec![Question { limit: None, check_finite: true, factor: 1.0 }; self.groups.len()];
        let mut norms = norms(&totals, &questions, |_| true, &self.options.threads);
        if let Some(ranks) = &self.options.ranks {
            global_norms::sum_norms(ranks.world(), &totals, &mut norms, true)?;
        }
        if norms.iter().all(|norm| norm.finite) {
            return Ok(None);
        }
        let non_finite = self.find_non_finite(&totals)?;
        self.refuse(StepReport { non_finite, ..start.report.clone() }).map(Some)
    }

    /// Adds the gradients to the sums.
    fn add_gradients(&mut self, inputs: &[Input<'_, T>], factor: f64) {
        let mut inputs = inputs.iter().peekable();
        let mut additions = Vec::new();
        for (place, record) in self.records.iter_mut().enumerate() {
            let Some(input) = inputs.next_if(|input| input.place == place) else { continue };
            let (len, width) = (input.value.len(), row_width(input, &record.form));
            match &input.gradient {
                None => {}
                Some(InputGradient::Sparse(sparse)) => {
                    record.make_row_major();
                    record.accumulator.add_sparse(sparse, width, factor);
                }
                Some(InputGradient::Dense(values)) => {
                    let is_first = record.accumulator.is_empty();
                    let sum = std::mem::take(&mut record.accumulator).into_dense(len, width);
                    record.accumulator = Accumulator::Dense(sum);
                    if let Accumulator::Dense(sum) = &mut record.accumulator {
                        additions.push(Addition { sum, last: values.reborrow(), is_first });
                    }
                }
            }
        }
        let threads = &self.options.threads;
        let share = threads.shares(additions.iter().map(|addition| addition.sum.len()).sum()).least;
        let mut slices = Vec::with_capacity(additions.len());
        additions.into_iter().for_each(|addition| addition.cut(share, &mut slices));
        threads.run(
            &mut slices,
            |slice| slice.sum.len(),
            |slices| {
                let mut buffer = Buffer::new();
                slices.iter_mut().for_each(|slice| slice.run(T::literal(factor), &mut buffer));
            },
        );
    }

    /// Updates all averages in a micro-step, as Keras 3 does.
    fn move_averages(&mut self, inputs: &mut [Input<'_, T>]) {
        if self.options.use_ema {
            let ema = self.options.ema;
            let flush_below = if self.options.flush_denormals { T::SMALLEST } else { T::zero() };
            let averaging = averages::Averaging::at(&ema, self.iterations, flush_below);
            for Input { place, value, group, .. } in &mut own_parts(inputs) {
                if self.groups.averages(*group) {
                    averaging.update(value, self.records.at_mut(*place));
                }
            }
        }
    }

    /// Takes the sums of the inputs out of the records, so that they can be read while the records change.
    fn take_accumulators(&mut self, inputs: &[Input<'_, T>]) -> Vec<Taken<T>> {
        let mut take = |input: &Input<'_, T>| {
            if input.place >= self.records.len() {
                return Taken { place: input.place, sum: Accumulator::None };
            }
            let record = self.records.at_mut(input.place);
            if matches!(input.gradient, Some(InputGradient::Sparse(_))) {
                record.make_row_major();
            }
            Taken { place: input.place, sum: std::mem::take(&mut record.accumulator) }
        };
        inputs.iter().map(&mut take).collect()
    }

    fn put_back(&mut self, taken: Vec<Taken<T>>) {
        for Taken { place, sum } in taken {
            if place < self.records.len() {
                self.records.at_mut(place).accumulator = sum;
            }
        }
    }
}

/// A sum that was taken out of the record at a place.
struct Taken<T> {
    place: usize,
    sum: Accumulator<T>,
}

/// The number of elements of a row.
fn row_width<T>(input: &Input<'_, T>, form: &Form) -> usize {
    let rows = form.given().first().copied().unwrap_or(1);
    input.value.len() / rows.max(1)
}

/// New sums for the inputs of which a part is sparse, and for those that are cut into parts as they are.
fn owned_sums<T: Scalar>(inputs: &[Input<'_, T>], taken: &[Taken<T>], factor: f64) -> Vec<Accumulator<T>> {
    let owned = |(input, taken): (&Input<'_, T>, &Taken<T>)| match (&taken.sum, &input.gradient) {
        (sum, Some(InputGradient::Sparse(sparse))) => {
            let mut sum = sum.clone();
            let width = if sparse.rows.is_empty() { 0 } else { sparse.values.len() / sparse.rows.len() };
            sum.add_sparse(sparse, width, factor);
            sum
        }
        (Accumulator::Rows(rows, values), Some(InputGradient::Dense(last))) => {
            let mut sum = vec![T::zero(); last.len()];
            add_rows(&mut sum, values.len() / rows.len().max(1), rows, values, 1.0);
            loops::add(&mut sum, &last.to_rows(), T::literal(factor));
            Accumulator::Dense(sum)
        }
        (Accumulator::Dense(sum), Some(InputGradient::Dense(last))) if input.is_cut() => {
            let mut sum = sum.clone();
            loops::add(&mut sum, &last.to_rows(), T::literal(factor));
            Accumulator::Dense(sum)
        }
        (_, Some(InputGradient::Dense(last))) if input.is_cut() => {
            let mut sum = vec![T::zero(); last.len()];
            loops::scale(&mut sum, &last.to_rows(), [factor, 1.0].map(T::literal));
            Accumulator::Dense(sum)
        }
        _ => Accumulator::None,
    };
    inputs.iter().zip(taken).map(owned).collect()
}

/// The inputs with the sums as their gradients. With `only_given`, inputs without a gradient stay without.
fn totals<'b, T: Scalar>(
    inputs: &'b mut [Input<'_, T>],
    taken: &'b [Taken<T>],
    owned: &'b [Accumulator<T>],
    factor: f64,
    only_given: bool,
) -> Vec<Input<'b, T>> {
    let total = |(i, input): (usize, &'b mut Input<'_, T>)| {
        let Input { place, name, group, value, gradient, new, placed } = input;
        let gradient = match (&owned[i], &taken[i].sum, &*gradient) {
            (Accumulator::None, Accumulator::Dense(sum), Some(InputGradient::Dense(last))) => {
                Some(summed(Some(sum), last.reborrow(), factor))
            }
            (Accumulator::None, _, Some(InputGradient::Dense(last))) if factor != 1.0 => {
                Some(summed(None, last.reborrow(), factor))
            }
            (Accumulator::None, _, Some(InputGradient::Dense(last))) => Some(InputGradient::Dense(last.reborrow())),
            (Accumulator::None, _, None) if only_given => None,
            (Accumulator::None, sum, _) | (sum, ..) => whole(sum),
        };
        let (new, placed) = (new.clone(), placed.clone());
        Input { place: *place, name: (&**name).into(), group: *group, value: value.reborrow(), gradient, new, placed }
    };
    inputs.iter_mut().enumerate().map(total).collect()
}

/// The sum of earlier gradients and a dense last one.
fn summed<'b, T>(sum: Option<&'b [T]>, last: AnyValues<'b, T>, factor: f64) -> InputGradient<'b, T> {
    InputGradient::Dense(Any::Full(Values::Sum(Box::new(SumOf { sum, last, factor }))))
}

/// A finished sum.
fn whole<T: Scalar>(sum: &Accumulator<T>) -> Option<InputGradient<'_, T>> {
    match sum {
        Accumulator::None | Accumulator::Spare(_) => None,
        Accumulator::Dense(sum) => Some(InputGradient::Dense(Any::Full(Values::Slice(sum)))),
        Accumulator::Rows(rows, values) => {
            let values = Any::Full(Values::Slice(values));
            Some(InputGradient::Sparse(Box::new(SparseGradient { rows: rows.clone(), values })))
        }
    }
}
