//! The one engine: for every rule it counts steps, allocates slots, evaluates schedules, clips, decays, averages,
//! checks and reports.

mod accumulate;
mod accumulator;
mod builder;
mod config;
pub(crate) mod device;
mod distributed;
mod form;
mod groups;
mod model;
mod names;
mod pending;
mod records;
mod reset;
mod rulings;
mod slice_step;
mod slots;
mod state;
mod step;
mod swap_in;

pub use builder::OptimizerBuilder;
use builder::Options;
pub use groups::GroupInfo;
use groups::Groups;
pub use model::Minimized;
pub use names::{GOOD_STEPS, ITERATIONS, LOSS_SCALE, METADATA, MICRO_STEP};
pub use pending::PendingStep;
use records::{Fill, Record, Records};
pub use slice_step::SliceStep;
use slots::SlotPlace;
pub use state::{StateEntry, StateKind, StateValue};
pub use swap_in::SlotGuard;
use swap_in::SwappedIn;

use crate::accumulate::Accumulate;
use crate::collective::Distribution;
use crate::decay::Exclude;
use crate::error::Error;
use crate::group::Group;
use crate::hyper::Hyper;
use crate::loss_scale::Scaling;
use crate::parameters::Parameters;
use crate::real::Scalar;
use crate::report::StepReport;
use crate::rule::UpdateRule;
use crate::step_options::StepOptions;
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
    groups: Groups<T>,
    iterations: u64,
    /// The number of micro-steps that wait to be applied.
    micro_step: u64,
    scaling: Scaling,
    records: Records<T>,
    /// The slot whose values some variables hold now, instead of their own.
    swapped_in: Option<SwappedIn>,
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
        self.step_over(variables.into_iter(), &StepOptions::default())
    }

    /// As [`apply_gradients`](Self::apply_gradients), with options of this call.
    ///
    /// # Errors
    ///
    /// As [`apply_gradients`](Self::apply_gradients); an error when an option is out of range.
    pub fn apply_gradients_with<'a>(
        &mut self,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
        options: StepOptions,
    ) -> Result<StepReport, Error>
    where
        T: 'a,
    {
        self.step_over(variables.into_iter(), &options)
    }

    /// Makes the slots of a model's variables before their first gradient, so that [`set_weights`](Self::set_weights)
    /// can fill them. Variables that have slots already are only checked. [`weights`](Self::weights) then lists all of
    /// them, in the order of the model, as in Keras after `build`; otherwise it lists the variables in the order of
    /// their first gradients, and none that never had one.
    ///
    /// Variables of frozen groups are left out. [`restore`](Self::restore) takes them with their state, if they were
    /// trained before.
    ///
    /// # Errors
    ///
    /// When a name or a shape is wrong. No slot is then made.
    pub fn add_variables<P: Parameters<T> + ?Sized>(&mut self, model: &mut P) -> Result<(), Error> {
        self.ready()?;
        let variables = model.variables();
        let mut inputs = self.trained(variables.into_iter())?;
        self.groups.be_sure();
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
        self.learning_rate_of(0)
    }

    /// The factor by which the loss must be multiplied before the gradients of the next step are computed: see
    /// [`LossScale`](crate::LossScale). 1 without loss scaling.
    #[must_use]
    pub fn loss_scale(&self) -> f64 {
        self.scaling.scale
    }

    /// The step at which schedules are evaluated: [`iterations`](Self::iterations), or with
    /// [`Accumulate::keras3`](crate::Accumulate::keras3) the number of calls.
    #[must_use]
    pub fn schedule_step(&self) -> u64 {
        match self.options.accumulate {
            // Keras 3 counts calls.
            Some(Accumulate { steps, keras3: true, .. }) => {
                self.iterations.saturating_mul(steps).saturating_add(self.micro_step)
            }
            _ => self.iterations,
        }
    }

    /// Sets the learning rate: a number, or a schedule. After the first step, a schedule must say where it starts:
    /// `StartingAt::new(schedule, opt.schedule_step())` of the crate `opt-schedules` starts now, with 0 at the start of
    /// the run.
    ///
    /// # Errors
    ///
    /// [`Error::ScheduleStart`] for a schedule that does not say where it starts, after the first step;
    /// [`Error::LearningRateScheduled`] for a number while a schedule is set, since the schedule would be lost; an
    /// error of the value itself. The learning rate is then unchanged.
    pub fn set_learning_rate(&mut self, learning_rate: impl Into<Hyper>) -> Result<(), Error> {
        let learning_rate = learning_rate.into();
        self.check_new_learning_rate(Some(self.rule.learning_rate()), &learning_rate)?;
        *self.rule.learning_rate_mut() = learning_rate;
        Ok(())
    }

    /// Checks a learning rate that takes the place of another one.
    fn check_new_learning_rate(&self, current: Option<&Hyper>, learning_rate: &Hyper) -> Result<(), Error> {
        learning_rate.validate("learning_rate", 0.0..)?;
        let current = current.and_then(Hyper::schedule);
        if let (Some(schedule), false) = (current, learning_rate.is_scheduled()) {
            return Err(Error::LearningRateScheduled { schedule: schedule.class_name().to_owned() });
        }
        if let Some(schedule) = learning_rate.schedule().filter(|schedule| schedule.start().is_none())
            && self.schedule_step() > 0
        {
            let schedule = schedule.class_name().to_owned();
            return Err(Error::ScheduleStart { schedule, iterations: self.schedule_step() });
        }
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
        weight_decay.compile(self.groups.own().iter().any(Group::decays))?;
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

    /// Whether there are variables in 16 bits.
    fn has_halves(&self) -> bool {
        self.records.iter().any(Record::is_half)
    }

    /// Refuses unless the state is complete and the variables hold their own values.
    fn ready(&self) -> Result<(), Error> {
        match &self.swapped_in {
            _ if self.poisoned => Err(Error::Poisoned),
            Some(swapped) => Err(Error::SwappedIn { slot: swapped.slot.clone() }),
            None => Ok(()),
        }
    }
}
