//! The one engine: for every rule it counts steps, allocates slots, evaluates schedules, clips, decays, averages,
//! checks and reports.

mod builder;
mod config;
mod distributed;
mod form;
mod model;
mod names;
mod records;
mod reset;
mod state;
mod step;
mod swap_in;

use half::bf16;

pub use builder::OptimizerBuilder;
use builder::Options;
pub use model::Minimized;
pub use names::{ITERATIONS, METADATA};
use records::{Fill, Record, Records};
pub use state::{StateEntry, StateKind, StateValue};
pub use swap_in::SlotGuard;

use crate::collective::Distribution;
use crate::decay::Exclude;
use crate::ema::Ema;
use crate::error::Error;
use crate::hyper::Hyper;
use crate::moments::MomentStorage;
use crate::parameters::Parameters;
use crate::precision::MASTER;
use crate::real::Scalar;
use crate::report::StepReport;
use crate::rule::{SlotInit, SlotSpec, UpdateRule};
use crate::variable::Variable;

/// An update rule with its state: the step counter and the slots of all variables.
///
/// Made by [`Optimizer::new`], or by [`Optimizer::builder`] and [`OptimizerBuilder::build`]. `R` is the rule;
/// [`DynOptimizer`] is the type when the rule comes from a file. `T` is the element type of the variables, `f32` by
/// default.
///
/// A step does, in this order: learning rate of the schedule, clipping, sum of duplicate rows of sparse gradients,
/// decoupled weight decay, the rule with the rules that it wraps, averages, `iterations += 1`. Either all of it
/// happens, or the call returns an error and nothing has changed. Errors that leave a step half applied say so: see
/// [`Error::Poisoned`].
///
/// # Examples
///
/// See [`UpdateRule`] for a rule and the crate `optimizers` for the ready ones.
#[derive(Debug, Clone)]
pub struct Optimizer<R, T = f32> {
    rule: R,
    options: Options,
    slots: Vec<SlotSpec>,
    iterations: u64,
    /// The values of the rule's shared slots, in the rule's order.
    shared: Vec<f64>,
    records: Records<T>,
    /// The slot whose values the variables hold now, instead of their own.
    swapped_in: Option<String>,
    /// Whether a step was interrupted halfway: a rule panicked, or a rank was lost.
    poisoned: bool,
    /// Buffers in which the gradients of replicas are reduced; kept from step to step.
    buckets: Vec<Vec<T>>,
}

/// An optimizer whose rule was chosen at run time: read from a configuration, or boxed by [`OptimizerBuilder::boxed`].
pub type DynOptimizer<T = f32> = Optimizer<Box<dyn UpdateRule<T>>, T>;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Makes an optimizer from a rule, with all options at their defaults.
    ///
    /// # Errors
    ///
    /// As [`OptimizerBuilder::build`]: names the first hyperparameter of the rule that is out of range.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::Optimizer;
    /// use opt_sgd::Sgd;
    ///
    /// let mut w = [1.0, 2.0];
    /// let mut opt = Optimizer::new(Sgd::new(0.5))?;
    /// opt.step(&mut w, &[1.0, 0.0])?;
    /// assert_eq!(w, [0.5, 2.0]);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn new(rule: R) -> Result<Self, Error> {
        Self::builder(rule).build()
    }

    /// Starts to build an optimizer from a rule, with options such as clipping, weight decay and averages.
    #[doc(alias = "chain")]
    pub fn builder(rule: R) -> OptimizerBuilder<R, T> {
        OptimizerBuilder::new(rule)
    }

    /// Applies one step to a list of variables.
    ///
    /// A variable without a gradient keeps its values. It gets its slots with its first gradient; from then on its
    /// shape is fixed, and [`weights`](Self::weights) lists it. An empty list is no step: `iterations` stays.
    ///
    /// # Errors
    ///
    /// When a name, a shape, an index or the learning rate is wrong; when no variable has a gradient; under
    /// [`NonFinite::Error`](crate::NonFinite::Error), when a gradient is not finite. Variables, slots and `iterations`
    /// are then unchanged. (On ranks, see [`Error::Collective`].)
    pub fn apply_gradients<'a>(
        &mut self,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
    ) -> Result<StepReport, Error>
    where
        T: 'a,
    {
        self.step_over(variables.into_iter())
    }

    /// Makes the slots of a model's variables before their first gradient, so that [`set_weights`](Self::set_weights)
    /// can fill them. Variables that have slots already are only checked. [`weights`](Self::weights) then lists all of
    /// them, in the order of the model, as in Keras after `build`; otherwise it lists the variables in the order of
    /// their first gradients, and none that never had one.
    ///
    /// # Errors
    ///
    /// When a name or a shape is wrong. No slot is then made.
    pub fn add_variables<P: Parameters<T> + ?Sized>(&mut self, model: &mut P) -> Result<(), Error> {
        self.ready()?;
        let variables = model.variables();
        let mut inputs = self.resolved(variables.into_iter())?;
        self.admit(&mut distributed::own_parts(&mut inputs), Fill::Initial);
        Ok(())
    }

    /// The number of steps that have been applied.
    #[must_use]
    pub fn iterations(&self) -> u64 {
        self.iterations
    }

    /// How the variables are distributed over ranks: the value given to [`OptimizerBuilder::distributed`], if any.
    #[must_use]
    pub fn distribution(&self) -> Option<&dyn Distribution> {
        self.options.ranks.as_deref()
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// The learning rate of the next step.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.rule.learning_rate_at(self.iterations)
    }

    /// Sets the learning rate: a number, or a schedule. After the first step, a schedule must say where it starts:
    /// `StartingAt::new(schedule, opt.iterations())` of the crate `opt-schedules` starts now, with 0 at the start of
    /// the run.
    ///
    /// # Errors
    ///
    /// [`Error::ScheduleStart`] for a schedule that does not say where it starts, after the first step;
    /// [`Error::LearningRateScheduled`] for a number while a schedule is set, since the schedule would be lost; an
    /// error of the value itself. The learning rate is then unchanged.
    pub fn set_learning_rate(&mut self, learning_rate: impl Into<Hyper>) -> Result<(), Error> {
        let learning_rate = learning_rate.into();
        learning_rate.validate("learning_rate", 0.0..)?;
        let current = self.rule.learning_rate().schedule();
        if let (Some(schedule), false) = (current, learning_rate.is_scheduled()) {
            return Err(Error::LearningRateScheduled { schedule: schedule.class_name().to_owned() });
        }
        if let Some(schedule) = learning_rate.schedule().filter(|schedule| schedule.start().is_none())
            && self.iterations > 0
        {
            let schedule = schedule.class_name().to_owned();
            return Err(Error::ScheduleStart { schedule, iterations: self.iterations });
        }
        *self.rule.learning_rate_mut() = learning_rate;
        Ok(())
    }

    /// Excludes variables from decoupled weight decay. Replaces earlier exclusions.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyStepped`] after the first step; [`Error::NothingToExcludeFrom`] without weight decay; a pattern
    /// that is not a regular expression. The exclusions are then unchanged.
    pub fn exclude_from_weight_decay(&mut self, exclude: Exclude) -> Result<(), Error> {
        if self.iterations > 0 {
            return Err(Error::AlreadyStepped { option: "exclude_from_weight_decay" });
        }
        let mut weight_decay = self.options.weight_decay.clone();
        weight_decay.set_exclude(exclude);
        weight_decay.compile()?;
        self.records.iter_mut().for_each(|record| record.decays = weight_decay.applies_to(&record.name));
        self.options.weight_decay = weight_decay;
        Ok(())
    }

    /// The names and patterns of [`Exclude`] that match no variable so far. (A step refuses names that match none.)
    #[must_use]
    pub fn unmatched_exclusions(&self) -> Vec<&str> {
        self.options.weight_decay.unmatched(|| self.records.iter().map(|record| record.name.as_str()))
    }

    /// The names and shapes of the variables, in the order in which they were first seen.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.records.iter().map(|record| (record.name.as_str(), record.shape()))
    }

    /// The names of the slots that each variable has, the rule's first. If there are variables in [16
    /// bits](Variable::half), `master` comes last; only these variables have it.
    #[must_use]
    pub fn slot_names(&self) -> Vec<&str> {
        let rule = self.places().filter_map(|(slot, place)| place.map(|_| slot));
        let average = self.options.use_ema.then_some(Ema::SLOT);
        rule.chain(average).chain(self.has_masters().then_some(MASTER)).collect()
    }

    /// A slot of a variable.
    ///
    /// # Errors
    ///
    /// When the variable is not known, or there is no such slot.
    pub fn slot(&self, variable: &str, slot: &str) -> Result<StateValue<'_, T>, Error> {
        let record = self.records.get(variable).ok_or_else(|| Error::UnknownVariable { name: variable.to_owned() })?;
        match self.slot_place(slot)? {
            SlotPlace::Master if !record.is_half() => Err(self.unknown_slot(slot)),
            place => Ok(record.slot(place)),
        }
    }

    /// The number of bytes that the slots of all known variables take.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        let masters: usize = self.records.iter().map(|record| record.master.len() * size_of::<T>()).sum();
        self.state_bytes_of(self.variables().map(|(_, shape)| shape)) + masters
    }

    /// The number of bytes that the slots of variables of these shapes would take. Shared slots and the step counter
    /// take 8 bytes each, whatever the variables are. A variable in [16 bits](Variable::half) takes 4 bytes more for
    /// each element.
    pub fn state_bytes_of<S: AsRef<[usize]>>(&self, shapes: impl IntoIterator<Item = S>) -> usize {
        let bytes = |slot: &SlotSpec| match slot.init() {
            SlotInit::Shared(_) => (0, 0),
            SlotInit::Scalar(_) => (0, size_of::<f64>()),
            _ if slot.is_moment() && self.options.moments != MomentStorage::Full => (size_of::<bf16>(), 0),
            SlotInit::Zeros | SlotInit::Ones | SlotInit::Copy => (size_of::<T>(), 0),
        };
        let average = if self.options.use_ema { size_of::<T>() } else { 0 };
        let add = |(array, scalar), slot| (array + bytes(slot).0, scalar + bytes(slot).1);
        let (of_element, of_variable) = self.slots.iter().fold((average, 0), add);
        let of_shape = |shape: S| shape.as_ref().iter().product::<usize>() * of_element + of_variable;
        shapes.into_iter().map(of_shape).sum()
    }

    /// The rule's slots, in its order, each with its place in a record; a shared slot has none.
    fn places(&self) -> impl Iterator<Item = (&str, Option<SlotPlace>)> {
        let (mut arrays, mut scalars) = (0.., 0..);
        self.slots.iter().map(move |slot| {
            let place = match slot.init() {
                SlotInit::Shared(_) => None,
                SlotInit::Scalar(_) => scalars.next().map(SlotPlace::Scalar),
                SlotInit::Zeros | SlotInit::Ones | SlotInit::Copy => arrays.next().map(SlotPlace::Array),
            };
            (slot.name(), place)
        })
    }

    fn slot_place(&self, name: &str) -> Result<SlotPlace, Error> {
        let average = self.options.use_ema.then_some((Ema::SLOT, Some(SlotPlace::Average)));
        let master = self.has_masters().then_some((MASTER, Some(SlotPlace::Master)));
        let mut places = self.places().chain(average).chain(master);
        let found = places.find(|(slot, _)| *slot == name).and_then(|(_, place)| place);
        found.ok_or_else(|| self.unknown_slot(name))
    }

    fn unknown_slot(&self, name: &str) -> Error {
        let known = self.slot_names().into_iter().map(str::to_owned).collect();
        Error::UnknownSlot { slot: name.to_owned(), known }
    }

    fn has_masters(&self) -> bool {
        self.records.iter().any(Record::is_half)
    }

    /// Refuses unless the state is complete and the variables hold their own values.
    fn ready(&self) -> Result<(), Error> {
        match &self.swapped_in {
            _ if self.poisoned => Err(Error::Poisoned),
            Some(slot) => Err(Error::SwappedIn { slot: slot.clone() }),
            None => Ok(()),
        }
    }
}

/// Where a record stores a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotPlace {
    Array(usize),
    Scalar(usize),
    Average,
    /// Only variables in 16 bits have it.
    Master,
}
