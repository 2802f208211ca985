//! The order of a step whose arrays are on a device: check, measure, record, admit, update.

use std::borrow::Cow;

use super::super::records::Fill;
use super::super::step::check::Start;
use super::super::step::input::{Input, InputGradient, SparseGradient};
use super::super::step::measure::Measured;
use super::super::step::norms::{Norm, Question as Asked};
use super::super::step::storage::{Value, Values};
use super::super::step::{Prepared, Ready};
use super::{Backend, DeviceGradient, HostSide, Initial, Measurement, NewArray, NewState, Question, Source, described};
use crate::description::Description;
use crate::dtype::DType;
use crate::error::Error;
use crate::master::Master;
use crate::precision::Any;
use crate::real::Scalar;
use crate::report::{NonFinite, StepReport};
use crate::rule::{SlotInit, SlotSpec, UpdateRule};
use crate::step_options::StepOptions;
use crate::trace::Array;

/// What is refused: sums of sparse gradients are lists of rows, which the host would have to know.
pub(super) const SPARSE_SUM: &str = "the accumulation of a sparse gradient";

/// A result of the engine, or an error of the device.
pub(super) type Outcome<V, E> = Result<Result<V, Error>, E>;

impl<R: UpdateRule<T>, T: Scalar> HostSide<R, T> {
    /// One step over a list of variables, or one micro-step: as
    /// [`Optimizer::apply_gradients_with`](crate::Optimizer::apply_gradients_with).
    ///
    /// # Errors
    ///
    /// As there. [`Error::Untraceable`] for a rule that cannot be recorded, [`Error::OnDevice`] for what is possible on
    /// the host only. Nothing has then changed. If the device fails during updates, later calls are refused with
    /// [`Error::Poisoned`].
    pub fn step<'a, B: Backend<T>>(
        &mut self,
        variables: impl IntoIterator<Item = (Description<'a, T>, Option<DeviceGradient<'a>>)>,
        options: &StepOptions,
        backend: &mut B,
    ) -> Result<StepReport, B::Error> {
        let variables: Vec<_> = variables
            .into_iter()
            .enumerate()
            .map(|(position, variable)| described(position, variable))
            .collect::<Result<_, _>>()?;
        let (start, mut inputs) = self.optimizer.check(variables.into_iter(), true, options)?;
        self.can_run(&inputs)?;
        self.optimizer.groups.be_sure();
        self.optimizer.leave_out_frozen(&mut inputs);
        match self.optimizer.options.accumulate.filter(|accumulate| accumulate.steps > 1 && !inputs.is_empty()) {
            Some(accumulate) => self.accumulate(accumulate, inputs, start, backend),
            None => {
                let sources = vec![Source::Given; inputs.len()];
                Ok(self.apply(inputs, &sources, &start, backend)??)
            }
        }
    }

    /// Refuses what no kernel is made for.
    fn can_run(&self, inputs: &[Input<'_, T>]) -> Result<(), Error> {
        for input in inputs.iter().filter(|input| input.gradient.is_some()) {
            self.optimizer.can_record(input).map_err(|reason| self.untraceable(input, reason))?;
            if let Some(InputGradient::Sparse(sparse)) = &input.gradient {
                let mut rows = sparse.rows.clone();
                rows.sort_unstable();
                if rows.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(on_device(&input.name, "a sparse gradient that names a row twice"));
                }
                if self.optimizer.options.accumulate.is_some_and(|accumulate| accumulate.steps > 1) {
                    return Err(on_device(&input.name, SPARSE_SUM));
                }
            }
        }
        Ok(())
    }

    pub(super) fn untraceable(&self, input: &Input<'_, T>, reason: crate::trace::Untraceable) -> Error {
        let ruling = self.optimizer.groups.ruling_of(input.group);
        let rule = ruling.rule(&self.optimizer.rule).class_name().to_owned();
        Error::Untraceable { variable: input.name.clone().into_owned(), rule, reason }
    }

    /// Measure, record, admit, update.
    pub(super) fn apply<B: Backend<T>>(
        &mut self,
        mut inputs: Vec<Input<'_, T>>,
        sources: &[Source],
        start: &Start,
        backend: &mut B,
    ) -> Outcome<StepReport, B::Error> {
        if inputs.is_empty() {
            return Ok(Ok(start.report.clone()));
        }
        let (measured, report) = match self.prepare(&inputs, sources, start, backend)? {
            Ok(Prepared::Ready(Ready { measured, report, .. })) => (measured, report),
            Ok(Prepared::Skipped(report)) => return Ok(Ok(report)),
            Err(error) => return Ok(Err(error)),
        };
        let planned = match self.plan(&inputs, sources, &measured, start) {
            Ok(planned) => planned,
            Err(error) => return Ok(Err(error)),
        };
        self.make_arrays(&inputs, backend)?;
        backend.prepare(&planned.updates)?;
        let optimizer = &mut self.optimizer;
        optimizer.admit(&mut inputs, Fill::Later);
        optimizer.poisoned = true;
        backend.update(&planned.updates)?;
        for (place, scalars) in planned.scalars {
            optimizer.records.at_mut(place).scalars = scalars;
        }
        optimizer.groups.keep_shared_of_each(&planned.shared);
        optimizer.poisoned = false;
        Ok(Ok(optimizer.finish(report)))
    }

    /// Measures the gradients, and refuses or skips the step if they are not finite, or too large.
    fn prepare<B: Backend<T>>(
        &mut self,
        inputs: &[Input<'_, T>],
        sources: &[Source],
        start: &Start,
        backend: &mut B,
    ) -> Outcome<Prepared<T>, B::Error> {
        let optimizer = &self.optimizer;
        let wanted = optimizer.measured_groups();
        let asked = optimizer.groups.each(|group| optimizer.question(group, start.factor));
        let is_wanted = |input: &Input<'_, T>| input.gradient.is_some() && wanted[input.group];
        let norms = measure(inputs, sources, &asked, is_wanted, backend)?;
        let measured = optimizer.clips(inputs, Measured::of(norms));

        let is_refused = optimizer.checks_finite() && !measured.is_finite();
        let checks_size = optimizer.options.non_finite != NonFinite::Propagate;
        if is_refused || (checks_size && optimizer.may_overflow(inputs, &measured)) {
            // Rare. The engine looks at the numbers, and decides.
            let numbers = self.read_gradients(inputs, sources, backend)?;
            return Ok(self.optimizer.prepare(&with_numbers(inputs, &numbers), start));
        }
        let report =
            StepReport { global_norm: measured.global_norm, clip_factor: measured.factor, ..start.report.clone() };
        Ok(Ok(Prepared::Ready(Ready { measured, unique: Vec::new(), report })))
    }

    /// Copies all gradients to the host.
    pub(super) fn read_gradients<B: Backend<T>>(
        &self,
        inputs: &[Input<'_, T>],
        sources: &[Source],
        backend: &mut B,
    ) -> Result<Vec<Vec<T>>, B::Error> {
        let read = |(input, source): (&Input<'_, T>, &Source)| match &input.gradient {
            Some(_) => backend.gradient(position(input), input.place, *source),
            None => Ok(Vec::new()),
        };
        inputs.iter().zip(sources).map(read).collect()
    }

    /// The arrays of a new variable.
    fn new_arrays(&self, group: usize, dtype: DType) -> Vec<NewArray<T>> {
        let optimizer = &self.optimizer;
        let slots = optimizer.groups.ruling_of(group).slots.iter();
        let arrays = slots.filter_map(initial_array).enumerate().map(|(slot, initial)| {
            let dtype = if optimizer.is_in_bf16(group, slot) { DType::Bf16 } else { T::DTYPE };
            NewArray { array: Array::Slot(slot as u8), dtype, initial }
        });
        let average = NewArray { array: Array::Average, dtype: T::DTYPE, initial: Initial::Copy };
        let master = master_array::<T>(optimizer.options.master).filter(|_| dtype != T::DTYPE);
        let master = master.map(|(array, dtype)| {
            let initial = if array == Array::Master { Initial::Copy } else { Initial::Filled(0.0) };
            NewArray { array, dtype, initial }
        });
        arrays.chain(optimizer.averages(group).then_some(average)).chain(master).collect()
    }

    /// Makes the arrays of new variables. Their records are made when nothing can fail any more.
    pub(super) fn make_arrays<B: Backend<T>>(&self, inputs: &[Input<'_, T>], backend: &mut B) -> Result<(), B::Error> {
        for input in inputs.iter().filter(|input| input.new.is_some()) {
            let (place, position, len) = (input.place, Some(position(input)), input.value.len());
            let arrays = self.new_arrays(input.group, input.value.dtype(T::DTYPE));
            backend.admit(NewState { place, position, len, arrays, sum: None })?;
        }
        Ok(())
    }
}

/// The position of an input in the list of the call.
pub(super) fn position<T>(input: &Input<'_, T>) -> usize {
    input.value.position().expect("the variables are described")
}

/// The error for what is not possible on a device.
pub(super) fn on_device(variable: &str, what: &str) -> Error {
    Error::OnDevice { variable: variable.to_owned(), what: what.to_owned() }
}

/// Measures the gradients that are wanted; the norms of others are 0 and finite.
pub(super) fn measure<T: Scalar, B: Backend<T>>(
    inputs: &[Input<'_, T>],
    sources: &[Source],
    asked: &[Asked],
    is_wanted: impl Fn(&Input<'_, T>) -> bool,
    backend: &mut B,
) -> Result<Vec<Norm>, B::Error> {
    let question = |(input, source): (&Input<'_, T>, &Source)| {
        is_wanted(input).then(|| Question {
            position: position(input),
            place: input.place,
            source: *source,
            limit: asked[input.group].limit,
        })
    };
    let questions: Vec<Question> = inputs.iter().zip(sources).filter_map(question).collect();
    let mut answers = if questions.is_empty() { Vec::new() } else { backend.measure(&questions)? }.into_iter();
    let norm = |input: &Input<'_, T>| match is_wanted(input) {
        false => Norm::NONE,
        true => norm_of(answers.next().expect("each question has an answer"), &asked[input.group]),
    };
    Ok(inputs.iter().map(norm).collect())
}

/// The norm of a gradient times the factor of the step.
fn norm_of(Measurement { square_sum, norm, is_finite }: Measurement, asked: &Asked) -> Norm {
    let factor = asked.factor;
    let finite = is_finite || !asked.check_finite;
    Norm { square_sum: square_sum * factor * factor, norm: norm * factor, finite }
}

/// The inputs with the numbers of their gradients.
pub(super) fn with_numbers<'b, T: Scalar>(inputs: &'b [Input<'_, T>], numbers: &'b [Vec<T>]) -> Vec<Input<'b, T>> {
    let with = |(input, numbers): (&'b Input<'_, T>, &'b Vec<T>)| {
        let values = Any::Full(Values::Slice(numbers.as_slice()));
        let gradient = input.gradient.as_ref().map(|gradient| match gradient {
            InputGradient::Dense(_) => InputGradient::Dense(values),
            InputGradient::Sparse(sparse) => {
                InputGradient::Sparse(Box::new(SparseGradient { rows: sparse.rows.clone(), values }))
            }
        });
        Input {
            place: input.place,
            name: Cow::Borrowed(&*input.name),
            group: input.group,
            value: Any::Full(Value::Later { len: input.value.len(), position: position(input) }),
            gradient,
            new: input.new.clone(),
            placed: None,
        }
    };
    inputs.iter().zip(numbers).map(with).collect()
}

/// The array in which a master is stored, and its element type.
pub(super) fn master_array<T: Scalar>(master: Master) -> Option<(Array, DType)> {
    match master {
        Master::Full => Some((Array::Master, T::DTYPE)),
        Master::Bits24 { .. } => Some((Array::Correction, DType::I8)),
        Master::None { .. } => None,
    }
}

/// What an array slot starts with; `None` for other slots.
fn initial_array<T>(slot: &SlotSpec) -> Option<Initial<T>> {
    match slot.init() {
        SlotInit::Zeros => Some(Initial::Filled(0.0)),
        SlotInit::Ones => Some(Initial::Filled(1.0)),
        SlotInit::Copy => Some(Initial::Copy),
        SlotInit::Scalar(_) | SlotInit::Shared(_) => None,
    }
}
