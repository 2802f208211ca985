//! Laws: what holds for every rule, for every stage of the engine around it, and for both element types.
//!
//! Each takes a rule and returns which law is broken, where and how.

mod checkpoints;
mod engine;
mod layout;
mod numbers;
mod state;

use opt_core::{Ema, Exclude, FromConfig, Optimizer, OptimizerBuilder, Registry, Scalar, UpdateRule};

pub use checkpoints::state_cannot_be_forgotten;
pub use engine::{
    duplicate_rows_are_summed, full_sparse_gradients_are_dense, missing_gradients_leave_alone, order_does_not_matter,
    rejected_steps_leave_no_trace, skipped_steps_leave_no_trace, splitting_changes_nothing,
};
pub use layout::{scattered_memory_does_not_matter, threads_do_not_matter, transposed_memory_does_not_matter};
pub use numbers::{f32_follows_f64, finite_stays_finite};
pub use state::{configurations_come_back, restoring_continues, state_is_as_declared};

use crate::problem::{Problem, Variables};

/// A law that does not hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{law} does not hold ({stage}, {dtype}): {how}")]
pub struct Broken {
    /// The law.
    pub law: &'static str,
    /// The stage of the engine around the rule.
    pub stage: String,
    /// The element type.
    pub dtype: &'static str,
    /// What was seen.
    pub how: String,
}

/// A rule that the suite can handle.
pub trait Subject: FromConfig<f32> + FromConfig<f64> + Clone {}

impl<R: FromConfig<f32> + FromConfig<f64> + Clone> Subject for R {}

/// Stages of the engine around a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The rule alone.
    Alone,
    /// Clip by value.
    ClipValue,
    /// Clip by norm.
    ClipNorm,
    /// Clip by global norm.
    GlobalClipNorm,
    /// Decoupled weight decay, some variables excluded.
    WeightDecay,
    /// Averages that replace the values now and then.
    Average,
    /// Clip by global norm, weight decay and averages.
    Everything,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Alone,
        Self::ClipValue,
        Self::ClipNorm,
        Self::GlobalClipNorm,
        Self::WeightDecay,
        Self::Average,
        Self::Everything,
    ];

    /// Those that treat each element by itself.
    pub const ELEMENTWISE: [Self; 4] = [Self::Alone, Self::ClipValue, Self::WeightDecay, Self::Average];

    /// Sets the options. The limits are low enough to bind.
    fn around<R: UpdateRule<T>, T: Scalar>(self, rule: R) -> OptimizerBuilder<R, T> {
        let builder = Optimizer::new(rule);
        let decay = |builder: OptimizerBuilder<R, T>| {
            builder.weight_decay(0.0625).exclude_from_weight_decay(Exclude::names(["v3"]))
        };
        let average = |builder: OptimizerBuilder<R, T>| builder.ema(Ema::new(0.75).overwrite_every(3));
        match self {
            Self::Alone => builder,
            Self::ClipValue => builder.clipvalue(0.5),
            Self::ClipNorm => builder.clipnorm(0.5),
            Self::GlobalClipNorm => builder.global_clipnorm(0.5),
            Self::WeightDecay => decay(builder),
            Self::Average => average(builder),
            Self::Everything => average(decay(builder.global_clipnorm(0.75))),
        }
    }
}

/// One combination of rule, stage and element type.
struct Setting<'r, R> {
    law: &'static str,
    rule: &'r R,
    stage: Stage,
}

impl<R: Subject> Setting<'_, R> {
    fn optimizer<T: Scalar>(&self) -> Result<Optimizer<R, T>, Broken>
    where
        R: FromConfig<T>,
    {
        self.build(self.stage.around(self.rule.clone()))
    }

    fn build<T: Scalar>(&self, builder: OptimizerBuilder<R, T>) -> Result<Optimizer<R, T>, Broken>
    where
        R: FromConfig<T>,
    {
        builder.build().map_err(|error| self.broken::<T>(format!("not built: {error}")))
    }

    fn registry<T: Scalar>(&self) -> Registry<T>
    where
        R: FromConfig<T>,
    {
        let mut registry = Registry::new();
        registry.register::<R>();
        opt_schedules::register(registry.schedules_mut());
        registry
    }

    /// Applies the steps of a problem from `first` on.
    fn train<T: Scalar>(
        &self,
        problem: &Problem,
        first: usize,
        optimizer: &mut Optimizer<R, T>,
        variables: &mut Variables<T>,
    ) -> Result<(), Broken>
    where
        R: FromConfig<T>,
    {
        for number in first..problem.steps.len() {
            problem
                .step(number, optimizer, variables)
                .map_err(|error| self.broken::<T>(format!("step {number}: {error}")))?;
        }
        Ok(())
    }

    /// Trains from the beginning to the end.
    fn trained<T: Scalar>(&self, problem: &Problem) -> Result<(Optimizer<R, T>, Variables<T>), Broken>
    where
        R: FromConfig<T>,
    {
        let (mut optimizer, mut variables) = (self.optimizer()?, problem.start());
        self.train(problem, 0, &mut optimizer, &mut variables)?;
        Ok((optimizer, variables))
    }

    fn broken<T: Scalar>(&self, how: impl Into<String>) -> Broken {
        let dtype = match T::DTYPE {
            opt_core::DType::F32 => "f32",
            opt_core::DType::F64 => "f64",
            _ => "another type",
        };
        Broken { law: self.law, stage: format!("{:?}", self.stage), dtype, how: how.into() }
    }

    /// Breaks the law unless two sets of variables are the same, bit for bit.
    fn same<T: Scalar>(&self, what: &str, got: &Variables<T>, want: &Variables<T>) -> Result<(), Broken> {
        let (got, want) = (got.bits(), want.bits());
        match want.iter().find(|(name, elements)| got.get(*name) != Some(elements)) {
            None => Ok(()),
            Some((name, _)) => Err(self.broken::<T>(format!("{what}: variable {name:?} differs"))),
        }
    }

    /// Breaks the law unless two optimizers have the same state, bit for bit and in the same order.
    fn same_state<T: Scalar>(&self, what: &str, got: &Optimizer<R, T>, want: &Optimizer<R, T>) -> Result<(), Broken>
    where
        R: FromConfig<T>,
    {
        let bits = |optimizer: &Optimizer<R, T>| {
            optimizer.weights().into_iter().map(|weight| (weight.name, state::bits(&weight.value))).collect::<Vec<_>>()
        };
        let (got, want) = (bits(got), bits(want));
        if got.len() != want.len() {
            return Err(self.broken::<T>(format!("{what}: {} weights instead of {}", got.len(), want.len())));
        }
        match got.iter().zip(&want).find(|(got, want)| got != want) {
            None => Ok(()),
            Some(((name, _), _)) => Err(self.broken::<T>(format!("{what}: weight {name:?} differs"))),
        }
    }
}

/// Checks a law in every stage and for both element types.
macro_rules! for_all {
    ($rule:expr, $stages:expr, $law:ident => $check:ident) => {
        for stage in $stages {
            let setting = $crate::laws::Setting { law: stringify!($law), rule: $rule, stage };
            $check::<_, f32>(&setting)?;
            $check::<_, f64>(&setting)?;
        }
    };
}
use for_all;
