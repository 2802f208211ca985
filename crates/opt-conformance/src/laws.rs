//! Laws: properties that every rule must have, with every stage of the engine and for both element types.
//!
//! Each law takes a [`Subject`], a rule without its type, so that a law is compiled once and not once for each rule. If
//! the law does not hold, the error says where and how.

mod checkpoints;
mod engine;
mod groups;
mod layout;
mod numbers;
mod phases;
mod recording;
mod state;
mod subject;

use opt_core::{
    Accumulate, DynOptimizer, Ema, Exclude, Group, LossScale, Optimizer, OptimizerBuilder, Scalar, UpdateRule,
};

pub use checkpoints::state_cannot_be_forgotten;
pub use engine::{
    duplicate_rows_are_summed, full_sparse_gradients_are_dense, missing_gradients_leave_alone, order_does_not_matter,
    rejected_steps_leave_no_trace, skipped_steps_leave_no_trace, splitting_changes_nothing,
};
pub use groups::{
    accumulated_gradients_are_their_mean, equal_groups_are_no_groups, frozen_groups_are_left_out,
    powers_of_two_scale_nothing,
};
pub use layout::{scattered_memory_does_not_matter, threads_do_not_matter, transposed_memory_does_not_matter};
pub use numbers::{f32_follows_f64, finite_stays_finite};
pub use phases::{a_step_in_phases_is_a_step, borrowed_slots_are_slots};
pub use recording::recorded_steps_are_steps;
pub use state::{configurations_come_back, restoring_continues, state_is_as_declared};
pub use subject::Subject;

use crate::problem::{Problem, Variables};
use subject::Erased;

/// A law, as a function of the rule.
pub type Law = fn(&Subject) -> Result<(), Broken>;

/// Checks a law that a rule must keep.
///
/// # Panics
///
/// When the law does not hold.
pub fn holds(law: Law, rule: &Subject) {
    if let Err(broken) = law(rule) {
        panic!("{broken}");
    }
}

/// Checks that an exception to a law is justified: at least one variant of the rule breaks the law.
///
/// # Panics
///
/// When the law holds for all variants.
pub fn is_excepted(law: Law, reason: &str, mut variants: impl Iterator<Item = Subject>) {
    let is_broken = variants.any(|rule| law(&rule).is_err());
    assert!(is_broken, "the law holds for every variant, although it is excepted: {reason}");
}

/// The builder of a boxed rule.
type DynBuilder<T> = OptimizerBuilder<Box<dyn UpdateRule<T>>, T>;

/// A law that does not hold, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{law} does not hold ({stage}, {dtype}): {how}")]
pub struct Broken {
    /// The law.
    pub law: &'static str,
    /// The stage of the engine.
    pub stage: String,
    /// The element type.
    pub dtype: &'static str,
    /// The observation that breaks the law.
    pub how: String,
}

/// The stages of the engine that are on beside a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No stage: the rule alone.
    Alone,
    /// Clip by value.
    ClipValue,
    /// Clip by norm.
    ClipNorm,
    /// Clip by global norm.
    GlobalClipNorm,
    /// Decoupled weight decay, some variables excluded.
    WeightDecay,
    /// Averages that replace the values at some steps.
    Average,
    /// Clip by global norm, weight decay and averages.
    Everything,
    /// Groups with options of their own, accumulation, a loss scale, weight decay and averages.
    Groups,
    /// The same with all clips, and a group with a rule of its own.
    GroupsOfRules,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 9] = [
        Self::Alone,
        Self::ClipValue,
        Self::ClipNorm,
        Self::GlobalClipNorm,
        Self::WeightDecay,
        Self::Average,
        Self::Everything,
        Self::Groups,
        Self::GroupsOfRules,
    ];

    /// The stages without groups.
    pub const OF_ONE_GROUP: [Self; 7] = [
        Self::Alone,
        Self::ClipValue,
        Self::ClipNorm,
        Self::GlobalClipNorm,
        Self::WeightDecay,
        Self::Average,
        Self::Everything,
    ];

    /// The stages that treat each element on its own.
    pub const ELEMENTWISE: [Self; 5] = [Self::Alone, Self::ClipValue, Self::WeightDecay, Self::Average, Self::Groups];

    /// Sets the options. The limits are low enough to have an effect.
    fn around<T: Scalar>(self, rule: &Erased<T>) -> DynBuilder<T> {
        let builder = Optimizer::builder(rule.copy());
        let decay = |builder: DynBuilder<T>| {
            builder.weight_decay(0.0625).exclude_from_weight_decay(Exclude::patterns(["^v3$"]))
        };
        let average = |builder: DynBuilder<T>| builder.ema(Ema::new(0.75).overwrite_every(3));
        match self {
            Self::Alone => builder,
            Self::ClipValue => builder.clipvalue(0.5),
            Self::ClipNorm => builder.clipnorm(0.5),
            Self::GlobalClipNorm => builder.global_clipnorm(0.5),
            Self::WeightDecay => decay(builder),
            Self::Average => average(builder),
            Self::Everything => average(decay(builder.global_clipnorm(0.75))),
            Self::Groups => {
                // Halves of variables are called `a` and `b`.
                let group = Group::matching("^(v0|a|b)$").learning_rate_scale(0.5).weight_decay(0.125).average(false);
                let builder = builder.group(group).accumulate(Accumulate::sum(2)).loss_scale(LossScale::fixed(8.0));
                average(decay(builder))
            }
            Self::GroupsOfRules => {
                let builder = builder
                    .group(Group::matching("^v0$").rule(rule.copy()).weight_decay(0.0))
                    .group(Group::matching("^v1$").clipnorm(0.25).learning_rate_scale(0.75))
                    .accumulate(Accumulate::mean(3))
                    .loss_scale(LossScale::fixed(0.5));
                average(decay(builder.global_clipnorm(0.75)))
            }
        }
    }
}

/// One combination of rule, element type and stage.
struct Setting<'r, T> {
    law: &'static str,
    rule: &'r Erased<T>,
    stage: Stage,
}

impl<T: Scalar> Setting<'_, T> {
    fn builder(&self) -> DynBuilder<T> {
        self.stage.around(self.rule)
    }

    fn optimizer(&self) -> Result<DynOptimizer<T>, Broken> {
        self.build(self.builder())
    }

    fn build(&self, builder: DynBuilder<T>) -> Result<DynOptimizer<T>, Broken> {
        builder.build().map_err(|error| self.broken(format!("not built: {error}")))
    }

    /// Applies the steps of a problem, from step `first` on.
    fn train(
        &self,
        problem: &Problem,
        first: usize,
        optimizer: &mut DynOptimizer<T>,
        variables: &mut Variables<T>,
    ) -> Result<(), Broken> {
        (first..problem.steps.len()).try_for_each(|number| self.step(problem, number, optimizer, variables))
    }

    /// Applies one step of a problem.
    fn step(
        &self,
        problem: &Problem,
        number: usize,
        optimizer: &mut DynOptimizer<T>,
        variables: &mut Variables<T>,
    ) -> Result<(), Broken> {
        let stepped = problem.step(number, optimizer, variables);
        stepped.map(drop).map_err(|error| self.broken(format!("step {number}: {error}")))
    }

    /// Trains from the beginning to the end.
    fn trained(&self, problem: &Problem) -> Result<(DynOptimizer<T>, Variables<T>), Broken> {
        let (mut optimizer, mut variables) = (self.optimizer()?, problem.start());
        self.train(problem, 0, &mut optimizer, &mut variables)?;
        Ok((optimizer, variables))
    }

    fn broken(&self, how: impl Into<String>) -> Broken {
        let dtype = match T::DTYPE {
            opt_core::state::DType::F32 => "f32",
            opt_core::state::DType::F64 => "f64",
            _ => "another type",
        };
        Broken { law: self.law, stage: format!("{:?}", self.stage), dtype, how: how.into() }
    }

    /// Breaks the law unless two sets of variables are the same, bit for bit.
    fn same(&self, what: &str, got: &Variables<T>, want: &Variables<T>) -> Result<(), Broken> {
        let (got, want) = (got.bits(), want.bits());
        match want.iter().find(|(name, elements)| got.get(*name) != Some(elements)) {
            None => Ok(()),
            Some((name, _)) => Err(self.broken(format!("{what}: variable {name:?} differs"))),
        }
    }

    /// Breaks the law unless two optimizers have the same state, bit for bit and in the same order.
    fn same_state(&self, what: &str, got: &DynOptimizer<T>, want: &DynOptimizer<T>) -> Result<(), Broken> {
        self.still_the_state(what, got, &state::of(want))
    }

    /// Breaks the law unless an optimizer has a given state, bit for bit and in the same order.
    fn still_the_state(&self, what: &str, got: &DynOptimizer<T>, want: &state::Bits) -> Result<(), Broken> {
        let got = state::of(got);
        if got.len() != want.len() {
            return Err(self.broken(format!("{what}: {} weights instead of {}", got.len(), want.len())));
        }
        match got.iter().zip(want).find(|(got, want)| got != want) {
            None => Ok(()),
            Some(((name, _), _)) => Err(self.broken(format!("{what}: weight {name:?} differs"))),
        }
    }
}

/// Checks a law in every stage and for both element types.
macro_rules! for_all {
    ($rule:expr, $stages:expr, $law:ident => $check:ident) => {
        for stage in $stages {
            let law = stringify!($law);
            $check(&$crate::laws::Setting { law, rule: &$rule.in_32_bits, stage })?;
            $check(&$crate::laws::Setting { law, rule: &$rule.in_64_bits, stage })?;
        }
    };
}
use for_all;
