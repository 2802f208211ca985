//! The order of a step whose arrays are on a device: check, measure, record, admit, update.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::super::groups::{PerGroup, SharedSlots};
use super::super::records::Fill;
use super::super::slots::places;
use super::super::step::check::Start;
use super::super::step::input::{Input, InputGradient, SparseGradient};
use super::super::step::measure::Measured;
use super::super::step::norms::{Norm, Question as Asked};
use super::super::step::storage::{Value, Values};
use super::super::step::{Prepared, Ready};
use super::{
    Backend, DeviceGradient, DeviceUpdate, Elements, HostSide, Initial, Measurement, NewState, Question, Source,
    described,
};
use crate::description::Description;
use crate::error::Error;
use crate::precision::Any;
use crate::real::Scalar;
use crate::report::{NonFinite, StepReport};
use crate::rule::{SlotInit, SlotSpec, Step, UpdateRule};
use crate::step_options::StepOptions;
use crate::trace::Update;

/// What is refused: sums of sparse gradients are lists of rows, which the host would have to know.
pub(super) const SPARSE_SUM: &str = "the accumulation of a sparse gradient";

/// A result of the engine, or an error of the device.
pub(super) type Outcome<V, E> = Result<Result<V, Error>, E>;

/// What a step will do to the elements of the variables.
struct Planned {
    updates: Vec<DeviceUpdate>,
    /// The scalar slots after the step, by place.
    scalars: Vec<(usize, Vec<f64>)>,
    /// The shared slots after the step.
    shared: PerGroup<SharedSlots>,
}

/// What the update of a variable depends on, besides its group and the step: variables of the same key have the same
/// update.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    group: usize,
    is_sparse: bool,
    decays: bool,
    /// The bits of the factor of the clips.
    clip: u64,
    /// The bits of the rule's numbers for the variable.
    numbers: [u64; 4],
}

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

    fn untraceable(&self, input: &Input<'_, T>, reason: crate::trace::Untraceable) -> Error {
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

    /// Records what happens to the elements of each variable.
    fn plan(
        &self,
        inputs: &[Input<'_, T>],
        sources: &[Source],
        measured: &Measured,
        start: &Start,
    ) -> Result<Planned, Error> {
        let optimizer = &self.optimizer;
        let (rule, groups) = (&optimizer.rule, &optimizer.groups);
        let mut shared = groups.shared_of_each();
        let begin = |group: usize| Step::new(optimizer.iterations, start.rates[group].learning_rate);
        let kernels = groups.each(|group| groups.begin(group, rule, &begin(group), &mut shared[group]));
        let plans = groups.each(|group| optimizer.step_plan(group, &*kernels[group], measured, start));

        let (mut updates, mut scalars) = (Vec::new(), Vec::new());
        let mut recorded: HashMap<Key, (Arc<Update>, Option<Arc<Update>>)> = HashMap::new();
        let mut average = None;
        for (number, (input, source)) in inputs.iter().zip(sources).enumerate() {
            let Input { place, group, gradient, .. } = input;
            let mut push = |elements, update: &Arc<Update>| {
                if input.value.len() > 0 && !update.graph.stores.is_empty() {
                    let (position, update) = (position(input), Arc::clone(update));
                    updates.push(DeviceUpdate { position, place: *place, source: *source, elements, update });
                }
            };
            let Some(gradient) = gradient else {
                if optimizer.options.ema.includes_all && optimizer.averages(*group) {
                    push(Elements::All, average.get_or_insert_with(|| Arc::new(optimizer.record_average())));
                }
                continue;
            };
            let known = (*place < optimizer.records.len()).then(|| optimizer.records.at(*place));
            let slots = &optimizer.groups.ruling_of(*group).slots;
            let mut of_variable = known.map_or_else(|| initial_scalars(slots), |record| record.scalars.clone());
            let decays =
                known.map_or_else(|| optimizer.options.weight_decay.applies_to(&input.name), |record| record.decays);
            let norm = measured.norm(number);
            let clip = plans[*group].clip_of(norm);
            let square_sum = norm.scaled_square_sum(clip);
            let numbers = plans[*group].variable_scalars(&input.name, &mut of_variable, square_sum);
            let is_sparse = matches!(gradient, InputGradient::Sparse(_));
            let (clip, numbers) = (clip.to_bits(), numbers.map(f64::to_bits));
            let key = Key { group: *group, is_sparse, decays, clip, numbers };
            if !recorded.contains_key(&key) {
                let variable = optimizer.record_input(number, input, square_sum, measured, start);
                let variable = variable.map_err(|reason| self.untraceable(input, reason))?;
                recorded.insert(
                    Key { group: *group, is_sparse, decays, clip, numbers },
                    (Arc::new(variable.update), variable.untouched.map(Arc::new)),
                );
            }
            let (update, untouched) = &recorded[&key];
            push(if is_sparse { Elements::Rows } else { Elements::All }, update);
            if let Some(untouched) = untouched {
                push(Elements::OtherRows, untouched);
            }
            scalars.push((*place, of_variable));
        }
        drop(plans);
        drop(kernels);
        Ok(Planned { updates, scalars, shared })
    }

    /// Makes the arrays of new variables. Their records are made when nothing can fail any more.
    pub(super) fn make_arrays<B: Backend<T>>(&self, inputs: &[Input<'_, T>], backend: &mut B) -> Result<(), B::Error> {
        for input in inputs.iter().filter(|input| input.new.is_some()) {
            let slots = &self.optimizer.groups.ruling_of(input.group).slots;
            let mut arrays: Vec<Initial<T>> = slots.iter().filter_map(initial_array).collect();
            let slots = arrays.len();
            arrays.extend(self.optimizer.averages(input.group).then_some(Initial::Copy));
            let (place, position, len) = (input.place, Some(position(input)), input.value.len());
            backend.admit(NewState { place, position, len, arrays, slots, sum: None })?;
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

/// The initial values of the scalar slots of a variable.
fn initial_scalars(slots: &[SlotSpec]) -> Vec<f64> {
    let scalars = places(slots).filter_map(|(slot, _)| match slot.init() {
        SlotInit::Scalar(initial) => Some(initial),
        _ => None,
    });
    scalars.collect()
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
