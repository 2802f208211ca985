//! The contract of first-order optimizers, and the one engine that runs them.
//!
//! * Authors of rules implement [`UpdateRule`]: hyperparameters, slots, and one function of one element.
//! * Users hold an [`Optimizer`]. For every rule, it counts steps, allocates slots, evaluates schedules, clips, decays,
//!   averages, checks and reports.
//!
//! Each rule has a crate of its own (read `opt-sgd` first), schedules are in `opt-schedules`, and the crate
//! `optimizers` has everything in one place.
//!
//! # Where to find each item
//!
//! | reader | module |
//! |---|---|
//! | users of optimizers | the root |
//! | authors of rules | [`rule`], [`hyperparameters!`] |
//! | programs that read or write configurations | [`config`] |
//! | programs that save and restore state | [`state`] |
//! | adapters to another framework's models | [`model`] |
//! | adapters to another way of connecting ranks | [`collective`] |
//! | runtimes that keep arrays on a device | [`device`] |
//! | readers of a step as equations, and kernels made from it | [`trace`] |
//!
//! # Guarantees
//!
//! * **All or nothing.** After an error, variables, slots and `iterations` are unchanged.
//! * **Bit for bit the same** for any number of threads and any instruction set, and after saving and restoring at any
//!   step.
//! * **No silent mistakes.** Unknown keys, options that exclude each other, and numbers out of range give a typed
//!   error.
//! * Gradients are never written.

#![deny(unsafe_code)]

mod accumulate;
mod clip;
pub mod collective;
pub mod config;
mod decay;
mod description;
pub mod device;
mod dtype;
mod ema;
mod error;
mod gradient;
mod group;
mod hyper;
mod loops;
mod loss_scale;
mod master;
pub mod model;
mod moments;
mod optimizer;
mod parameters;
mod precision;
mod real;
mod report;
pub mod rule;
mod schedule;
pub mod state;
mod step_options;
pub mod trace;
mod variable;
mod view;

pub use accumulate::Accumulate;
#[doc(inline)]
pub use config::Registry;
pub use decay::Exclude;
pub use description::Description;
pub use ema::Ema;
pub use error::Error;
pub use gradient::{Gradient, IndexedSlices, Indices};
pub use group::Group;
pub use hyper::{Hyper, Scheduled};
#[doc(hidden)]
pub use loops::prefetch;
#[cfg(feature = "limit-simd")]
#[doc(hidden)]
pub use loops::simd;
pub use loss_scale::LossScale;
pub use master::Master;
pub use moments::MomentStorage;
pub use optimizer::{
    DynOptimizer, GroupInfo, Minimized, Optimizer, OptimizerBuilder, PendingStep, SliceStep, SlotGuard,
};
pub use parameters::{Gradients, Parameters};
pub use real::Scalar;
pub use report::{NonFinite, NonFiniteGradient, Outcome, StepReport};
#[doc(inline)]
pub use rule::UpdateRule;
pub use schedule::Schedule;
pub use step_options::StepOptions;
pub use variable::Variable;
pub use view::{View, ViewMut};
