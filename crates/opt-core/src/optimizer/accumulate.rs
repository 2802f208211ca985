//! Gradient accumulation: the gradients of several calls are summed, and the last call applies the sum.
//!
//! The call that applies does not write the sum: stages read it block by block ([`SumOf`]), so that a refused call
//! leaves no trace. Sums of which a part is sparse are small, and are made anew.

use std::borrow::Cow;

use super::Optimizer;
use super::accumulator::{Accumulator, add_rows};
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
use crate::step_options::StepOptions;

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
    /// How several calls make a step, if they do: the value given to
    /// [`OptimizerBuilder::accumulate`](crate::OptimizerBuilder::accumulate).
    #[must_use]
    pub fn accumulation(&self) -> Option<Accumulate> {
        self.options.accumulate
    }

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
        let (start, mut inputs) = self.start(variables.into_iter(), false, &StepOptions::default())?;
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

    /// Starts the micro-steps anew if no variable has accumulated gradients any more.
    pub(super) fn forget_micro_steps(&mut self) {
        if self.records.iter().all(|record| record.accumulator.is_empty()) {
            self.micro_step = 0;
        }
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
        if self.is_last(accumulate) {
            return self.apply_accumulated(accumulate, accumulate.steps, &mut inputs, start);
        }
        if let Some(report) = self.refused_sum(&mut inputs, &start)? {
            return Ok(report);
        }
        self.admit(&mut own_parts(&mut inputs), Fill::Initial);
        self.poisoned = true;
        self.add_gradients(&inputs, start.factor);
        if accumulate.keras3 {
            self.move_averages(&mut inputs)?;
        }
        self.poisoned = false;
        Ok(self.finish_micro_step(accumulate, start.report))
    }

    /// Whether the next micro-step applies the sum.
    pub(super) fn is_last(&self, accumulate: Accumulate) -> bool {
        self.micro_step + 1 >= accumulate.steps
    }

    /// Counts a micro-step that has added its gradients.
    pub(super) fn finish_micro_step(&mut self, accumulate: Accumulate, report: StepReport) -> StepReport {
        if accumulate.keras3 {
            self.scaling.succeed();
        }
        self.micro_step += 1;
        let outcome = Outcome::Accumulated { micro_step: self.micro_step, of: accumulate.steps };
        StepReport { outcome, ..report }
    }

    /// Applies the accumulated gradients, together with those of the inputs.
    fn apply_accumulated(
        &mut self,
        accumulate: Accumulate,
        micro_steps: u64,
        inputs: &mut [Input<'_, T>],
        start: Start,
    ) -> Result<StepReport, Error> {
        let sums = self.take_sums(accumulate, inputs, start.factor)?;
        let applied = self.go_on(sums.totals(inputs), &Start { factor: accumulate.factor(micro_steps), ..start });
        self.put_back(sums);
        self.discard_if_done(&applied);
        applied
    }

    /// Takes the sums out of the records for the call that applies them.
    pub(super) fn take_sums(
        &mut self,
        accumulate: Accumulate,
        inputs: &[Input<'_, T>],
        factor: f64,
    ) -> Result<Sums<T>, Error> {
        let is_given: Vec<usize> = inputs.iter().map(|input| input.place).collect();
        let missing = self.records.iter().enumerate().find(|(place, record)| {
            !accumulate.keras3 && !record.accumulator.is_empty() && is_given.binary_search(place).is_err()
        });
        if let Some((_, record)) = missing {
            return Err(Error::AccumulatedVariable { variable: record.name.clone() });
        }
        Ok(self.sums(inputs, factor, accumulate.keras3))
    }

    /// Forgets the sums after a call that has applied them, or has found them too large: such a sum would be refused
    /// again and again.
    pub(super) fn discard_if_done(&mut self, applied: &Result<StepReport, Error>) {
        let is_done = match applied {
            Ok(StepReport { outcome: Outcome::NonFinite, non_finite, .. }) => {
                non_finite.as_ref().is_none_or(|found| found.value.is_finite())
            }
            Ok(report) => report.is_applied(),
            Err(error) => matches!(error, Error::GradientOverflow { .. } | Error::NormOverflow),
        };
        if is_done {
            self.discard_accumulated();
        }
    }

    /// The report of a micro-step that is skipped because a sum is not finite.
    pub(super) fn refused_sum(
        &mut self,
        inputs: &mut [Input<'_, T>],
        start: &Start,
    ) -> Result<Option<StepReport>, Error> {
        if !self.checks_finite() {
            return Ok(None);
        }
        let sums = self.sums(inputs, start.factor, false);
        let refused = self.find_non_finite_sum(&sums.totals(inputs), start);
        self.put_back(sums);
        refused
    }

    fn find_non_finite_sum(&mut self, totals: &[Input<'_, T>], start: &Start) -> Result<Option<StepReport>, Error> {
        let questions = vec![Question { limit: None, check_finite: true, factor: 1.0 }; self.groups.len()];
        let mut norms = norms(totals, &questions, |_| true, &self.options.threads);
        if let Some(ranks) = &self.options.ranks {
            global_norms::sum_norms(ranks.world(), totals, &mut norms, true)?;
        }
        if norms.iter().all(|norm| norm.finite) {
            return Ok(None);
        }
        let non_finite = self.find_non_finite(totals)?;
        self.refuse(StepReport { non_finite, ..start.report.clone() }).map(Some)
    }

    /// Adds the gradients to the sums.
    pub(super) fn add_gradients(&mut self, inputs: &[Input<'_, T>], factor: f64) {
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
    fn move_averages(&mut self, inputs: &mut [Input<'_, T>]) -> Result<(), Error> {
        let overwrites = self.options.use_ema && self.options.ema.overwrites_at(self.iterations + 1);
        own_parts(inputs).iter_mut().for_each(|input| self.move_average(input));
        // The parts of variables that other ranks have overwritten.
        if overwrites { self.exchange_slots(inputs) } else { Ok(()) }
    }

    /// Updates the average of a variable in a micro-step.
    pub(super) fn move_average(&mut self, Input { place, value, group, .. }: &mut Input<'_, T>) {
        if self.options.use_ema && self.groups.averages(*group) {
            let flush_below = if self.options.flush_denormals { T::SMALLEST } else { T::zero() };
            let averaging = averages::Averaging::at(&self.options.ema, self.iterations, flush_below);
            averaging.update(value, self.records.at_mut(*place));
        }
    }

    /// Takes the sums of the inputs out of the records, so that they can be read while the records change. With
    /// `only_given`, inputs without a gradient stay without.
    fn sums(&mut self, inputs: &[Input<'_, T>], factor: f64, only_given: bool) -> Sums<T> {
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
        let taken: Vec<Taken<T>> = inputs.iter().map(&mut take).collect();
        let owned = owned_sums(inputs, &taken, factor);
        Sums { taken, owned, factor, only_given }
    }

    pub(super) fn put_back(&mut self, sums: Sums<T>) {
        for Taken { place, sum } in sums.taken {
            if place < self.records.len() {
                self.records.at_mut(place).accumulator = sum;
            }
        }
    }
}

/// A sum that was taken out of the record at a place.
#[derive(Debug)]
struct Taken<T> {
    place: usize,
    sum: Accumulator<T>,
}

/// The sums of the inputs, while they are applied.
#[derive(Debug)]
pub(super) struct Sums<T> {
    taken: Vec<Taken<T>>,
    /// New sums, where the sum cannot be read block by block.
    owned: Vec<Accumulator<T>>,
    /// The factor of the last gradients.
    factor: f64,
    only_given: bool,
}

impl<T: Scalar> Sums<T> {
    /// The inputs with the sums as their gradients.
    pub(super) fn totals<'b>(&'b self, inputs: &'b mut [Input<'_, T>]) -> Vec<Input<'b, T>> {
        inputs.iter_mut().enumerate().map(|(number, input)| self.total(number, input)).collect()
    }

    /// Whether there is a sum for an input that has no gradient.
    pub(super) fn applies(&self, number: usize) -> bool {
        !self.only_given && !self.taken[number].sum.is_empty()
    }

    /// An input with its sum as its gradient.
    pub(super) fn total<'b>(&'b self, number: usize, input: &'b mut Input<'_, T>) -> Input<'b, T> {
        let Input { place, name, group, value, gradient, new, placed } = input;
        let gradient = match (&self.owned[number], &self.taken[number].sum, &*gradient) {
            (Accumulator::None, Accumulator::Dense(sum), Some(InputGradient::Dense(last))) => {
                Some(summed(Some(sum), last.reborrow(), self.factor))
            }
            (Accumulator::None, _, Some(InputGradient::Dense(last))) if self.factor != 1.0 => {
                Some(summed(None, last.reborrow(), self.factor))
            }
            (Accumulator::None, _, Some(InputGradient::Dense(last))) => Some(InputGradient::Dense(last.reborrow())),
            (Accumulator::None, _, None) if self.only_given => None,
            (Accumulator::None, sum, _) | (sum, ..) => whole(sum),
        };
        let (new, placed) = (new.clone(), placed.clone());
        let name = Cow::Borrowed(&**name);
        let value = value.reborrow();
        Input { place: *place, name, group: *group, value, gradient, new, placed }
    }
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
