//! The contract of first-order optimizers, and the one engine that runs them.
//!
//! * Authors implement [`UpdateRule`]: hyperparameters, slots, and one function per element.
//! * Users hold an [`Optimizer`]: it counts steps, allocates slots, evaluates schedules, clips, decays, averages, checks
//!   and reports, for every rule.
//!
//! Rules live in crates of their own (`opt-sgd` is the one to read first), schedules in `opt-schedules`; the crate
//! `optimizers` has everything in one place.
//!
//! # Where to find what
//!
//! | who | where |
//! |---|---|
//! | users of optimizers | the root |
//! | authors of rules | [`rule`], [`hyperparameters!`] |
//! | whoever reads or writes configurations | [`config`] |
//! | whoever saves and restores state | [`state`] |
//! | whoever connects another framework's models | [`model`] |
//! | whoever connects ranks | [`collective`] |
//!
//! # Guarantees
//!
//! * **All or nothing.** An error leaves variables, slots and `iterations` as they were.
//! * **Same bits** for any number of threads and any instruction set, and after saving and restoring at any step.
//! * **Nothing silent.** Unknown keys, options that exclude each other, numbers out of range: a typed error.
//! * Gradients are never written.

#![forbid(unsafe_code)]

mod clip;
pub mod collective;
pub mod config;
mod decay;
mod ema;
mod error;
mod gradient;
mod hyper;
mod loops;
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
mod variable;
mod view;

#[doc(inline)]
pub use config::Registry;
pub use decay::Exclude;
pub use ema::Ema;
pub use error::Error;
pub use gradient::{Gradient, IndexedSlices, Indices};
pub use hyper::Hyper;
#[cfg(feature = "limit-simd")]
#[doc(hidden)]
pub use loops::simd;
pub use moments::MomentStorage;
pub use optimizer::{DynOptimizer, Minimized, Optimizer, OptimizerBuilder, SlotGuard};
pub use parameters::{Gradients, Parameters};
pub use real::Scalar;
pub use report::{NonFinite, NonFiniteGradient, Outcome, StepReport};
#[doc(inline)]
pub use rule::UpdateRule;
pub use schedule::Schedule;
pub use variable::Variable;
pub use view::{View, ViewMut};
