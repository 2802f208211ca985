//! The contract of first-order optimizers, and the one engine that runs them.
//!
//! * Authors implement [`UpdateRule`]: hyperparameters, slots, and one function per element.
//! * Users hold an [`Optimizer`]: it counts, allocates slots, evaluates schedules, clips, decays, averages, checks and
//!   reports, for every rule.
//!
//! Rules live in crates of their own (`opt-sgd` is the one to read first), schedules in `opt-schedules`; the crate
//! `optimizers` has everything in one place.
//!
//! # Guarantees
//!
//! * **All or nothing.** An error leaves variables, slots and `iterations` as they were.
//! * **Same bits** for any number of threads and any instruction set, and after saving and restoring at any step.
//! * **Nothing silent.** Unknown keys, options that exclude each other, numbers out of range: a typed error.
//! * Gradients are never written.

#![forbid(unsafe_code)]

mod clip;
mod collective;
pub mod config;
mod decay;
mod ema;
mod error;
mod gradient;
mod hyper;
mod loops;
mod moments;
mod optimizer;
mod parameters;
mod precision;
mod real;
mod report;
mod rule;
mod schedule;
mod variable;
mod view;

pub use collective::{
    Collective, CollectiveError, Distribution, Numbers, Part, Pending, Placement, Reduction, Replicas,
};
pub use config::{
    Choice, Config, ConfigError, Configurable, Envelope, Fields, FromConfig, FromFields, Generation,
    HyperparameterError, HyperparameterKind, HyperparameterSpec, HyperparameterValue, Hyperparameters, Interval,
    Registry, ScheduleRegistry, require,
};
pub use decay::Exclude;
pub use ema::Ema;
pub use error::Error;
pub use gradient::{Gradient, IndexedSlices, Indices};
pub use hyper::{Hyper, Scheduled};
#[cfg(feature = "limit-simd")]
#[doc(hidden)]
pub use loops::simd;
pub use moments::MomentStorage;
pub use optimizer::{
    DynOptimizer, Minimized, Optimizer, OptimizerBuilder, SlotGuard, StateEntry, StateKind, StateValue,
};
pub use parameters::{Gradients, Parameters, Path};
pub use precision::{Any, AnyArray, AnyArrayMut};
pub use real::{DType, Real, Scalar};
pub use report::{NonFinite, NonFiniteGradient, Outcome, StepReport};
pub use rule::{
    BLOCK, Block, BlockParts, Done, Elementwise, Kernel, MAX_ARRAY_SLOTS, SlotInit, SlotSpec, SparseUpdate, Step,
    UpdateRule, VariableScalars, VariableStep, WeightsOrder, elementwise,
};
pub use schedule::Schedule;
pub use variable::Variable;
pub use view::{Half, Stored, View, ViewMut};
