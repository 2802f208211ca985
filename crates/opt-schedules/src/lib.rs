//! Schedules: pure functions from the step to a learning rate, or to another value that changes with the step.
//!
//! A schedule is accepted wherever a number is: `Sgd::new(CosineDecay::new(0.1, 1_000))`. It holds no state and counts
//! nothing: the optimizer asks for the value at its number of steps, so that a training resumes exactly.
//!
//! | class | value at step s | when to use |
//! |---|---|---|
//! | [`Constant`] | v | code or configurations that want a schedule |
//! | [`ExponentialDecay`] | l r^(s/d) | no known end; sweeps over learning rates |
//! | [`InverseTimeDecay`] | l / (1 + r s/d) | no known end, slower |
//! | [`PiecewiseConstantDecay`] | v_i between boundaries | recipes that divide by 10 at chosen steps |
//! | [`PolynomialDecay`] | (l - e) (1 - s/d)^q + e | known end; linear decay by default |
//! | [`CosineDecay`] | l (1 + cos(pi s/d)) / 2, after a linear warmup | known end; the usual choice |
//! | [`CosineDecayRestarts`] | the same again and again, each time longer | no known end; snapshots before restarts |
//! | [`TriangularCyclicalLearningRate`] | a wave between two rates | no single good rate is known |
//! | [`Triangular2CyclicalLearningRate`] | a wave of half the height each cycle | the same, settling |
//! | [`ExponentialCyclicalLearningRate`] | a wave of height g^s | the same, settling as fast as you choose |
//! | [`OneCycle`] | up to a very high rate, down far below the first | short trainings of known length |
//! | [`LinearWarmup`] | a ramp, then any other schedule | large batches, adaptive rules, transformers |
//! | [`Join`] | schedules one after the other | warm up, hold, cool down |
//! | [`Closure`] | any function, by [`schedule_fn`] | experiments; cannot be saved |
//!
//! # Examples
//!
//! ```
//! use opt_schedules::{Configurable, CosineDecay, Schedule};
//!
//! let rate = CosineDecay::new(0.1, 1_000).alpha(0.1);
//! rate.validate()?;
//! assert_eq!([0, 1_000, 5_000].map(|step| rate.value(step)), [0.1, 0.1 * 0.1, 0.1 * 0.1]);
//! # Ok::<(), opt_core::config::HyperparameterError>(())
//! ```
//!
//! # Numbers
//!
//! * Steps are `u64`, values `f64`. Periods and remainders of steps are computed with whole numbers: boundaries are
//!   exact at any step, whereas Keras's `f32` cannot count beyond 16,777,216. Lengths that are not whole, which Keras
//!   allows ([`Steps`](opt_core::config::Steps)), are computed in `f64`.
//! * If [`validate`](Configurable::validate) accepts a schedule, its value is a finite number of at least 0 for every
//!   `u64`; unlimited growth stops at the largest finite number. ([`Closure`] returns whatever its function returns.)
//! * `build()` of an optimizer calls `validate`. Before that, [`value`](Schedule::value) does not panic, but the values
//!   of a schedule that is out of range are meaningless.
//!
//! # Configurations
//!
//! Classes that Keras and TensorFlow Addons have, too, keep the names and fields of these libraries. [`register`] makes
//! all classes of this crate known to a [`ScheduleRegistry`].
//!
//! ```
//! use opt_core::config::ScheduleRegistry;
//!
//! let mut registry = ScheduleRegistry::new();
//! opt_schedules::register(&mut registry);
//! let saved = serde_json::json!({
//!     "module": "keras.optimizers.schedules",
//!     "class_name": "ExponentialDecay",
//!     "config": {
//!         "initial_learning_rate": 0.8, "decay_steps": 2, "decay_rate": 0.25, "staircase": false, "name": null,
//!     },
//!     "registered_name": null,
//! });
//! let rate = registry.hyper(&saved)?;
//! assert_eq!(rate.at(4), 0.05);
//! assert_eq!(rate.to_json()?, saved);
//! # Ok::<(), opt_core::config::ConfigError>(())
//! ```

#![forbid(unsafe_code)]

mod closure;
mod constant;
mod cosine;
mod cyclical;
mod decay;
mod join;
mod lists;
mod numbers;
mod one_cycle;
mod piecewise;
mod polynomial;
mod starting_at;
mod warmup;

pub use closure::{Closure, schedule_fn};
pub use constant::Constant;
pub use cosine::{CosineDecay, CosineDecayRestarts};
pub use cyclical::{
    ExponentialCyclicalLearningRate, ScaleMode, Triangular2CyclicalLearningRate, TriangularCyclicalLearningRate,
};
pub use decay::{ExponentialDecay, InverseTimeDecay};
pub use join::Join;
pub use one_cycle::{Anneal, OneCycle};
pub use opt_core::Schedule;
#[doc(no_inline)]
pub use opt_core::config::Configurable;
pub use piecewise::PiecewiseConstantDecay;
pub use polynomial::PolynomialDecay;
pub use starting_at::StartingAt;
pub use warmup::LinearWarmup;

use opt_core::config::ScheduleRegistry;

/// Makes every class of this crate that has a configuration known to a registry.
///
/// # Examples
///
/// ```
/// let mut registry = opt_core::config::ScheduleRegistry::new();
/// opt_schedules::register(&mut registry);
/// assert_eq!(registry.class_names().count(), 14);
/// ```
pub fn register(registry: &mut ScheduleRegistry) {
    registry
        .register::<Constant>()
        .register::<CosineDecay>()
        .register::<CosineDecayRestarts>()
        .register::<ExponentialCyclicalLearningRate>()
        .register::<ExponentialDecay>()
        .register::<InverseTimeDecay>()
        .register::<Join>()
        .register::<LinearWarmup>()
        .register::<OneCycle>()
        .register::<PiecewiseConstantDecay>()
        .register::<PolynomialDecay>()
        .register::<StartingAt>()
        .register::<Triangular2CyclicalLearningRate>()
        .register::<TriangularCyclicalLearningRate>();
}
