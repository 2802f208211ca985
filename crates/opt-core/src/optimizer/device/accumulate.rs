//! Gradient accumulation on a device. The host knows which variables have a sum, the device has the numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::accumulator::Accumulator;
use super::super::records::Fill;
use super::super::step::check::Start;
use super::super::step::input::Input;
use super::super::step::norms::Question as Asked;
use super::slots::whole_update;
use super::step::{measure, position, with_numbers};
use super::{Backend, DeviceUpdate, HostSide, Source, Total, without_gradients};
use crate::accumulate::Accumulate;
use crate::description::Description;
use crate::dtype::DType;
use crate::real::Scalar;
use crate::report::{Outcome, StepReport};
use crate::rule::UpdateRule;
use crate::step_options::StepOptions;
use crate::trace::Update;

impl<R: UpdateRule<T>, T: Scalar> HostSide<R, T> {
    /// Applies the accumulated gradients before all micro-steps are there: as
    /// [`Optimizer::flush`](crate::Optimizer::flush).
    ///
    /// # Errors
    ///
    /// As there, and as [`step`](Self::step).
    pub fn flush<'a, B: Backend<T>>(
        &mut self,
        variables: impl IntoIterator<Item = Description<'a, T>>,
        backend: &mut B,
    ) -> Result<StepReport, B::Error> {
        let (start, inputs) =
            self.optimizer.start(without_gradients(variables)?.into_iter(), false, &StepOptions::default())?;
        match self.optimizer.options.accumulate {
            Some(accumulate) if self.optimizer.micro_step > 0 => {
                // No variable has a gradient in this call.
                let accumulate = Accumulate { keras3: false, ..accumulate };
                self.apply_accumulated(accumulate, self.optimizer.micro_step, inputs, start, backend)
            }
            Some(Accumulate { steps, .. }) => {
                Ok(StepReport { outcome: Outcome::Accumulated { micro_step: 0, of: steps }, ..start.report })
            }
            None => Ok(start.report),
        }
    }

    /// One call of several that make a step.
    pub(super) fn accumulate<B: Backend<T>>(
        &mut self,
        accumulate: Accumulate,
        mut inputs: Vec<Input<'_, T>>,
        start: Start,
        backend: &mut B,
    ) -> Result<StepReport, B::Error> {
        if self.optimizer.is_last(accumulate) {
            return self.apply_accumulated(accumulate, accumulate.steps, inputs, start, backend);
        }
        let totals = self.totals(&inputs);
        backend.total(&totals, start.factor)?;
        if let Some(report) = self.refused_total(&inputs, &start, backend)? {
            return Ok(report);
        }
        self.make_arrays(&inputs, backend)?;
        let averages = if accumulate.keras3 { self.averages(&inputs) } else { Vec::new() };
        backend.prepare(&averages)?;
        self.optimizer.admit(&mut inputs, Fill::Later);
        self.optimizer.poisoned = true;
        backend.keep_totals(&totals);
        for Total { place, .. } in totals {
            self.optimizer.records.at_mut(place).accumulator = Accumulator::Dense(Vec::new());
        }
        backend.update(&averages)?;
        self.optimizer.poisoned = false;
        Ok(self.optimizer.finish_micro_step(accumulate, start.report))
    }

    /// Applies the accumulated gradients, together with those of the inputs.
    fn apply_accumulated<B: Backend<T>>(
        &mut self,
        accumulate: Accumulate,
        micro_steps: u64,
        mut inputs: Vec<Input<'_, T>>,
        start: Start,
        backend: &mut B,
    ) -> Result<StepReport, B::Error> {
        let totals = self.totals(&inputs);
        let sums = self.optimizer.take_sums(accumulate, &inputs, start.factor)?;
        let source = |input: &Input<'_, T>| if input.gradient.is_some() { Source::Total } else { Source::Sum };
        let sources: Vec<Source> = inputs.iter().map(source).collect();
        let applied = backend.total(&totals, start.factor).and_then(|()| {
            let start = Start { factor: accumulate.factor(micro_steps), ..start };
            self.apply(sums.totals(&mut inputs), &sources, &start, backend)
        });
        self.optimizer.put_back(sums);
        let applied = applied?;
        self.optimizer.discard_if_done(&applied);
        Ok(applied?)
    }

    /// The sums that the gradients of the inputs are added to.
    fn totals(&self, inputs: &[Input<'_, T>]) -> Vec<Total> {
        let records = &self.optimizer.records;
        let total = |input: &Input<'_, T>| Total {
            position: position(input),
            place: input.place,
            has_sum: input.place < records.len() && !records.at(input.place).accumulator.is_empty(),
        };
        inputs.iter().filter(|input| input.gradient.is_some()).map(total).collect()
    }

    /// The report of a micro-step that is skipped because a total is not finite.
    fn refused_total<B: Backend<T>>(
        &mut self,
        inputs: &[Input<'_, T>],
        start: &Start,
        backend: &mut B,
    ) -> Result<Option<StepReport>, B::Error> {
        if !self.optimizer.checks_finite() {
            return Ok(None);
        }
        let asked = vec![Asked { limit: None, check_finite: true, factor: 1.0 }; self.optimizer.groups.len()];
        let sources = vec![Source::Total; inputs.len()];
        let norms = measure(inputs, &sources, &asked, |input| input.gradient.is_some(), backend)?;
        if norms.iter().all(|norm| norm.finite) {
            return Ok(None);
        }
        let numbers = self.read_gradients(inputs, &sources, backend)?;
        let non_finite = self.optimizer.find_non_finite(&with_numbers(inputs, &numbers))?;
        Ok(Some(self.optimizer.refuse(StepReport { non_finite, ..start.report.clone() })?))
    }

    /// The updates of all averages in a micro-step, as in Keras 3.
    fn averages(&self, inputs: &[Input<'_, T>]) -> Vec<DeviceUpdate> {
        let averaged = inputs.iter().filter(|input| self.optimizer.averages(input.group) && input.value.len() > 0);
        let mut averages: BTreeMap<DType, Arc<Update>> = BTreeMap::new();
        let of = |input: &Input<'_, T>| {
            let dtype = input.value.dtype(T::DTYPE);
            let update = averages.entry(dtype).or_insert_with(|| Arc::new(self.optimizer.record_average(dtype)));
            whole_update(input, Arc::clone(update))
        };
        averaged.map(of).collect()
    }
}
