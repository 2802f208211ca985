//! Values that change from step to step.

use std::sync::Arc;

use crate::config::Configurable;
use crate::hyper::Hyper;

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

    /// The step of the run at which the schedule starts, where somebody has [said it](Self::starting_at).
    fn start(&self) -> Option<u64> {
        None
    }

    /// The same schedule, with its steps counted from a step of the run: see [`StartingAt`].
    fn starting_at(self, step: u64) -> StartingAt
    where
        Self: Sized + 'static,
    {
        StartingAt::with_defaults(self.into(), step)
    }
}

crate::hyperparameters! {
    /// A schedule whose steps are counted from a step of the run. Before this step it has its first value.
    ///
    /// ```text
    /// value(s) = f(max(s - b, 0))
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | f | `schedule`, a number or a schedule | required |
    /// | b | `start`, in steps | required |
    ///
    /// Schedules count from the start of the run. A schedule that is set at step 1,000 would be read at its own step
    /// 1,000, where most schedules are over, so [`Optimizer::set_learning_rate`](crate::Optimizer::set_learning_rate)
    /// asks where it starts:
    ///
    /// ```
    /// use opt_core::{Optimizer, Schedule, Variable};
    /// use opt_schedules::PolynomialDecay;
    /// use opt_sgd::Sgd;
    ///
    /// let mut w = [0.0];
    /// let mut opt = Optimizer::new(Sgd::new(1.0))?;
    /// for _ in 0..100 {
    ///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    /// }
    /// let falling = PolynomialDecay::new(1.0, 4).end_learning_rate(0.0);
    /// assert!(opt.set_learning_rate(falling.clone()).is_err());
    /// opt.set_learning_rate(falling.clone().starting_at(opt.iterations()))?; // from now on
    /// assert_eq!(opt.learning_rate(), 1.0);
    /// opt.set_learning_rate(falling.starting_at(0))?; // as if it had been there from the start
    /// assert_eq!(opt.learning_rate(), 0.0);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[derive(Debug, Clone)]
    pub struct StartingAt {
        #[required] schedule: Hyper, in 0.0.., "schedule whose steps are counted from start";
        #[required] start: u64, "step of the run at which the schedule starts";
    }
    schedule "StartingAt"
}

impl Schedule for StartingAt {
    fn value(&self, step: u64) -> f64 {
        self.schedule.at(step.saturating_sub(self.start))
    }

    fn start(&self) -> Option<u64> {
        Some(self.start)
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
            fn starting_at(self, step: u64) -> StartingAt
            where
                Self: Sized + 'static,
            {
                StartingAt::with_defaults(self.into(), step)
            }
        }
    };
}

forward!(Box);
forward!(Arc);
