//! A step in phases: everything is checked and measured first, then variables are lent one at a time.
//!
//! The phases are those of any other step (see `step.rs`). While they run, the values of the inputs are
//! `Value::Later`.

use smallvec::SmallVec;

use super::Optimizer;
use super::accumulate::Sums;
use super::form::Form;
use super::records::Fill;
use super::step::check::{Start, lent_value};
use super::step::input::Input;
use super::step::storage::AnyValue;
use super::step::{Prepared, Ready};
use crate::accumulate::Accumulate;
use crate::description::Description;
use crate::error::Error;
use crate::real::Scalar;
use crate::report::StepReport;
use crate::rule::UpdateRule;
use crate::step_options::StepOptions;
use crate::view::ViewMut;

/// A step that has begun: everything that can fail is done, and the variables can be lent one at a time.
///
/// Made by [`Optimizer::begin`]. Lend each variable that is [written](Self::writes) to [`update`](Self::update) or
/// [`update_all`](Self::update_all), in any order, then call [`finish`](Self::finish). A step that is dropped before
/// its first update changes nothing (but a gradient that is not finite has already lowered a dynamic loss scale). One
/// that is dropped later leaves some variables updated and others not, so the optimizer refuses later steps with
/// [`Error::Poisoned`].
///
/// # Examples
///
/// A model whose tensors can be locked only one at a time:
///
/// ```
/// use std::sync::RwLock;
///
/// use opt_core::{Description, Optimizer};
/// use opt_sgd::Sgd;
///
/// let model = [("a", RwLock::new(vec![1.0, 2.0])), ("b", RwLock::new(vec![3.0]))];
/// let gradients = [vec![1.0, 0.0], vec![1.0]];
/// let mut opt = Optimizer::builder(Sgd::new(0.5)).global_clipnorm(10.0).build()?;
///
/// let described = model.iter().zip(&gradients).map(|((name, values), gradient)| {
///     let len = values.read().unwrap().len();
///     Description::new(*name, [len]).gradient(gradient)
/// });
/// let mut step = opt.begin(described)?;
/// for (i, (_, values)) in model.iter().enumerate() {
///     step.update(i, &mut *values.write().unwrap())?;
/// }
/// let report = step.finish()?;
/// assert_eq!((report.global_norm, model[0].1.read().unwrap().as_slice()), (Some(2.0_f64.sqrt()), &[0.5, 2.0][..]));
/// # Ok::<(), opt_core::Error>(())
/// ```
#[must_use = "a step that is not finished is not made"]
#[derive(Debug)]
pub struct PendingStep<'o, 'g, R, T>
where
    R: UpdateRule<T>,
    T: Scalar,
{
    optimizer: &'o mut Optimizer<R, T>,
    start: Start,
    /// The inputs, in the order of the records.
    inputs: Vec<Input<'g, T>>,
    /// What each variable of the caller's list is waiting for.
    lending: Vec<Lending>,
    work: Work<T>,
    /// The number of variables that had a record before this step.
    known: usize,
    has_started: bool,
}

/// What a variable of the caller's list is waiting for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lending {
    /// Nothing: this step does not change it.
    Nothing,
    /// It is to be lent; the number of its input.
    Awaited(usize),
    /// Nothing any more; the number of its input.
    Updated(usize),
}

/// What is left to do.
#[derive(Debug)]
enum Work<T> {
    /// Nothing: the step is skipped, or has no variables.
    Nothing(StepReport),
    /// The gradients are added to those of earlier micro-steps.
    Add(Accumulate),
    Update(Update<T>),
    Finished,
}

/// The numbers of a variable, and the number of its input.
struct Lent<'v, T> {
    number: usize,
    value: AnyValue<'v, T>,
}

/// The numbers of a step that updates variables.
#[derive(Debug)]
struct Update<T> {
    ready: Ready<T>,
    /// The sums of earlier micro-steps, if there are any.
    sums: Option<Sums<T>>,
    /// The shared slots from before the step: each update starts from them.
    shared: Vec<Vec<f64>>,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Begins a step whose variables are lent one at a time: see [`PendingStep`]. Checks everything that
    /// [`apply_gradients`](Self::apply_gradients) checks, and measures the gradients.
    ///
    /// # Errors
    ///
    /// As [`apply_gradients`](Self::apply_gradients). Nothing has then changed. [`Error::PhasesOnRanks`] on several
    /// ranks.
    pub fn begin<'g>(
        &mut self,
        variables: impl IntoIterator<Item = Description<'g, T>>,
    ) -> Result<PendingStep<'_, 'g, R, T>, Error> {
        self.begin_with(variables, StepOptions::default())
    }

    /// As [`begin`](Self::begin), with options of this step.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin); an error when an option is out of range.
    pub fn begin_with<'g>(
        &mut self,
        variables: impl IntoIterator<Item = Description<'g, T>>,
        options: StepOptions,
    ) -> Result<PendingStep<'_, 'g, R, T>, Error> {
        if self.options.ranks.is_some() {
            return Err(Error::PhasesOnRanks);
        }
        let variables: Vec<_> = variables
            .into_iter()
            .enumerate()
            .map(|(i, variable)| variable.into_variable(i))
            .collect::<Result<_, _>>()?;
        let count = variables.len();
        let (start, mut inputs) = self.start(variables.into_iter(), true, &options)?;
        let known = self.records.len();
        let (start, work) = self.begin_work(start, &mut inputs)?;
        let mut step =
            PendingStep { optimizer: self, start, inputs, lending: Vec::new(), work, known, has_started: false };
        step.lending = step.awaited(count);
        // Until it is finished or dropped: a step that is forgotten has taken sums along.
        step.optimizer.poisoned = true;
        Ok(step)
    }

    /// Finds out what the step has to do.
    fn begin_work(&mut self, start: Start, inputs: &mut [Input<'_, T>]) -> Result<(Start, Work<T>), Error> {
        let accumulate = self.options.accumulate.filter(|accumulate| accumulate.steps > 1 && !inputs.is_empty());
        let Some(accumulate) = accumulate else {
            let prepared = self.prepare(inputs, &start)?;
            let work = self.work_of(prepared, None);
            return Ok((start, work));
        };
        if !self.is_last(accumulate) {
            let work = self.refused_sum(inputs, &start)?.map_or(Work::Add(accumulate), Work::Nothing);
            return Ok((start, work));
        }
        let sums = self.take_sums(accumulate, inputs, start.factor)?;
        let start = Start { factor: accumulate.factor(accumulate.steps), ..start };
        let not_applied = match self.prepare(&sums.totals(inputs), &start) {
            Ok(prepared @ Prepared::Ready(_)) => return Ok((start, self.work_of(prepared, Some(sums)))),
            Ok(Prepared::Skipped(report)) => Ok(report),
            Err(error) => Err(error),
        };
        self.put_back(sums);
        self.discard_if_done(&not_applied);
        Ok((start, Work::Nothing(not_applied?)))
    }

    /// Updates variables that have been lent; `first` is the number of the first of them.
    fn write_lent(&mut self, run: &mut [Input<'_, T>], first: usize, update: &Update<T>, start: &Start) {
        let Update { ready: Ready { measured, unique, .. }, sums, shared } = update;
        self.groups.set_shared(shared);
        let Some(sums) = sums else { return self.write_updates(run, first, unique, measured, start) };
        let mut totals: Vec<_> =
            run.iter_mut().enumerate().map(|(place, input)| sums.total(first + place, input)).collect();
        self.write_updates(&mut totals, first, unique, measured, start);
    }

    fn work_of(&self, prepared: Prepared<T>, sums: Option<Sums<T>>) -> Work<T> {
        match prepared {
            Prepared::Skipped(report) => Work::Nothing(report),
            Prepared::Ready(ready) => Work::Update(Update { ready, sums, shared: self.groups.shared() }),
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> PendingStep<'_, '_, R, T> {
    /// Whether the step changes a variable or reads its numbers, and therefore must be lent it. `i` is the position of
    /// the variable in the list of [`Optimizer::begin`].
    #[must_use]
    pub fn writes(&self, i: usize) -> bool {
        matches!(self.lending.get(i), Some(Lending::Awaited(_)))
    }

    /// Updates a variable. `i` is its position in the list of [`Optimizer::begin`]; the numbers have the shape and the
    /// element type of its description, in any memory order. A large variable is updated on several threads. Does
    /// nothing for a variable that the step does not [write](Self::writes).
    ///
    /// # Errors
    ///
    /// When the shape or the element type is not the described one, or the variable was updated before. It is then
    /// unchanged, and the step can go on.
    pub fn update<'v>(&mut self, i: usize, value: impl Into<ViewMut<'v, T>>) -> Result<(), Error>
    where
        T: 'v,
    {
        if let Some(number) = self.number(i)? {
            let mut lent = [self.lend(number, value.into())?];
            self.write(&mut lent);
        }
        Ok(())
    }

    /// Updates several variables, each given with its position in the list of [`Optimizer::begin`]. Variables that
    /// follow each other in that list share one fork of the threads.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update). None of these variables is then changed.
    pub fn update_all<'v, V>(&mut self, values: impl IntoIterator<Item = (usize, V)>) -> Result<(), Error>
    where
        V: Into<ViewMut<'v, T>>,
        T: 'v,
    {
        let mut lent: Vec<Lent<'v, T>> = Vec::new();
        for (i, value) in values {
            if let Some(number) = self.number(i)? {
                lent.push(self.lend(number, value.into())?);
            }
        }
        lent.sort_by_key(|lent| lent.number);
        if let Some(pair) = lent.windows(2).find(|pair| pair[0].number == pair[1].number) {
            return Err(self.given_twice(pair[0].number));
        }
        self.write(&mut lent);
        Ok(())
    }

    /// Ends the step, after all variables that it [writes](Self::writes) have been lent.
    ///
    /// # Errors
    ///
    /// [`Error::NotLent`] for a variable that is missing. If others have been updated, the optimizer then refuses later
    /// steps with [`Error::Poisoned`].
    pub fn finish(mut self) -> Result<StepReport, Error> {
        let is_awaited = |lending: &Lending| matches!(lending, Lending::Awaited(_));
        if let Some(Lending::Awaited(number)) = self.lending.iter().copied().find(is_awaited) {
            return Err(Error::NotLent { variable: self.inputs[number].name.to_string() });
        }
        match std::mem::replace(&mut self.work, Work::Finished) {
            Work::Nothing(report) => {
                self.optimizer.poisoned = false;
                Ok(report)
            }
            Work::Add(accumulate) => {
                self.start_writing();
                self.optimizer.add_gradients(&self.inputs, self.start.factor);
                self.optimizer.poisoned = false;
                Ok(self.optimizer.finish_micro_step(accumulate, self.start.report.clone()))
            }
            Work::Update(Update { ready, sums, .. }) => {
                self.optimizer.poisoned = false;
                if let Some(sums) = sums {
                    self.optimizer.put_back(sums);
                    self.optimizer.discard_accumulated();
                }
                Ok(self.optimizer.finish(ready.report))
            }
            Work::Finished => unreachable!("a step finishes once"),
        }
    }

    /// What each of `count` variables of the caller's list is waiting for.
    fn awaited(&self, count: usize) -> Vec<Lending> {
        let options = &self.optimizer.options;
        let averages = |group| options.use_ema && self.optimizer.groups.averages(group);
        let is_awaited = |number: usize, input: &Input<'_, T>| match &self.work {
            Work::Nothing(_) | Work::Finished => false,
            Work::Add(accumulate) => self.is_new(input) || (accumulate.keras3 && averages(input.group)),
            Work::Update(Update { sums, .. }) => {
                let has_sum = sums.as_ref().is_some_and(|sums| sums.applies(number));
                let is_averaged = options.ema.includes_all && averages(input.group);
                input.gradient.is_some() || has_sum || is_averaged
            }
        };
        let mut lending = vec![Lending::Nothing; count];
        for (number, input) in self.inputs.iter().enumerate().filter(|(number, input)| is_awaited(*number, input)) {
            if let Some(position) = input.value.position() {
                lending[position] = Lending::Awaited(number);
            }
        }
        lending
    }

    /// The number of the input of a variable that is to be lent.
    fn number(&self, i: usize) -> Result<Option<usize>, Error> {
        match self.lending.get(i) {
            Some(Lending::Awaited(number)) => Ok(Some(*number)),
            Some(Lending::Updated(number)) => Err(self.given_twice(*number)),
            Some(Lending::Nothing) => Ok(None),
            None => Err(Error::NotDescribed { position: i, variables: self.lending.len() }),
        }
    }

    /// The numbers of a variable, checked.
    fn lend<'v>(&self, number: usize, value: ViewMut<'v, T>) -> Result<Lent<'v, T>, Error> {
        let input = &self.inputs[number];
        Ok(Lent { number, value: lent_value(input, self.form(input), value)? })
    }

    fn given_twice(&self, number: usize) -> Error {
        Error::DuplicateVariable { name: self.inputs[number].name.to_string() }
    }

    fn is_new(&self, input: &Input<'_, T>) -> bool {
        input.place >= self.known
    }

    /// The form in which a variable is stored.
    fn form<'s>(&'s self, input: &'s Input<'_, T>) -> &'s Form {
        input.new.as_deref().unwrap_or_else(|| &self.optimizer.records.at(input.place).form)
    }

    /// Makes the records of new variables, before the first write.
    fn start_writing(&mut self) {
        if !self.has_started {
            self.has_started = true;
            self.optimizer.admit(&mut self.inputs, Fill::Initial);
        }
    }

    /// Updates variables, which are in the order of their numbers.
    fn write(&mut self, lent: &mut [Lent<'_, T>]) {
        if lent.is_empty() {
            return;
        }
        self.start_writing();
        let Self { optimizer, inputs, lending, work, start, known, .. } = self;
        for run in lent.chunk_by_mut(|lent, next| next.number == lent.number + 1) {
            let first = run[0].number;
            let mut run: SmallVec<[_; 1]> =
                run.iter_mut().map(|Lent { number, value }| inputs[*number].with_value(value.reborrow())).collect();
            for (input, number) in run.iter().zip(first..) {
                if let Some(position) = inputs[number].value.position() {
                    lending[position] = Lending::Updated(number);
                }
                if input.place >= *known {
                    let slots = optimizer.groups.slots_of(input.group);
                    optimizer.records.at_mut(input.place).copy_variable(slots, &input.value);
                }
            }
            match work {
                Work::Update(update) => optimizer.write_lent(&mut run, first, update, start),
                Work::Add(accumulate) if accumulate.keras3 => {
                    run.iter_mut().for_each(|input| optimizer.move_average(input));
                }
                Work::Add(_) | Work::Nothing(_) | Work::Finished => {}
            }
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Drop for PendingStep<'_, '_, R, T> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.work, Work::Finished) {
            Work::Finished => return,
            Work::Update(Update { sums: Some(sums), .. }) => self.optimizer.put_back(sums),
            Work::Update(_) | Work::Add(_) | Work::Nothing(_) => {}
        }
        // Nothing has changed yet.
        if !self.has_started {
            self.optimizer.poisoned = false;
        }
    }
}
