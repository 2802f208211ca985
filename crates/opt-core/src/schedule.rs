//! Values that change from step to step.

use std::sync::Arc;

use crate::config::Configurable;

/// A pure function from the step to a value: a learning rate, a weight decay.
///
/// The step counts from 0: it is the number of steps already applied, exact for every `u64`. The crate `opt-schedules`
/// has the usual schedules. [`hyperparameters!`](crate::hyperparameters) declares a schedule that has a configuration.
/// A schedule without one implements [`Configurable`] by hand, and its `config` returns an error.
///
/// # Examples
///
/// ```
/// use opt_core::{Schedule, hyperparameters};
///
/// hyperparameters! {
///     #[derive(Debug)]
///     struct Halving {
///         #[required] initial: f64, in 0.0.., "value at step 0";
///     }
///     schedule "Halving"
/// }
///
/// impl Schedule for Halving {
///     fn value(&self, step: u64) -> f64 {
///         self.initial * 0.5_f64.powf(step as f64)
///     }
/// }
/// assert_eq!(Halving { initial: 1.0 }.value(3), 0.125);
/// ```
#[doc(alias = "lr_scheduler")]
#[doc(alias = "LrScheduler")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a number that `f64` holds exactly nor a schedule",
    note = "hyperparameters are `f64`: convert other numbers with `as f64`; a closure becomes a schedule by `opt_schedules::schedule_fn`"
)]
pub trait Schedule: Configurable {
    /// The value at a step (counted from 0).
    fn value(&self, step: u64) -> f64;

    /// The step of the run from which the schedule counts, where somebody has said it: `StartingAt` of `opt-schedules`.
    fn start(&self) -> Option<u64> {
        None
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        #[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
        impl<S: Schedule + ?Sized> Schedule for $pointer<S> {
            fn value(&self, step: u64) -> f64 {
                (**self).value(step)
            }
            fn start(&self) -> Option<u64> {
                (**self).start()
            }
        }
    };
}

forward!(Box);
forward!(Arc);
