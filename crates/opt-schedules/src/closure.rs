//! A schedule from any function of the step.

use std::fmt;

use opt_core::Schedule;
use opt_core::config::{Config, ConfigError, Configurable};

/// A schedule that calls a function; made by [`schedule_fn`].
#[derive(Clone)]
pub struct Closure<F> {
    function: F,
}

/// Makes a schedule from any function of the step.
///
/// For experiments, and for values that the caller computes. A configuration cannot hold code: if the schedule is to be
/// saved with the optimizer, implement [`Schedule`] for a type of your own.
///
/// ```text
/// value(s) = function(s)
/// ```
///
/// | symbol | field | default |
/// |---|---|---|
/// | function | the argument | required |
///
/// # Examples
///
/// ```
/// use opt_schedules::{Configurable, Schedule, schedule_fn};
///
/// // The rate of "Attention Is All You Need", for a model of width 256 and a warmup of 400 steps.
/// let noam = schedule_fn(|step| {
///     let t = step as f64 + 1.0;
///     256_f64.powf(-0.5) * t.powf(-0.5).min(t * 400_f64.powf(-1.5))
/// });
/// assert!((noam.value(399) - 0.0625 / 20.0).abs() < 1e-15);
/// assert!(noam.config().is_err());
/// ```
///
/// # Differences
///
/// Keras calls a function without arguments; here the function gets the step. The function of PyTorch's `LambdaLR`
/// returns a factor; here it returns the value itself.
///
/// # Errors
///
/// [`config`](opt_core::config::Configurable::config) returns [`ConfigError::NotSerializable`]. The results of the
/// function are not checked.
///
/// # References
///
/// A. Vaswani et al., 2017: Attention Is All You Need. arXiv:1706.03762 (the example).
#[must_use]
pub fn schedule_fn<F>(function: F) -> Closure<F>
where
    F: Fn(u64) -> f64 + Send + Sync,
{
    Closure { function }
}

impl<F> fmt::Debug for Closure<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closure").finish_non_exhaustive()
    }
}

impl<F> Schedule for Closure<F>
where
    F: Fn(u64) -> f64 + Send + Sync,
{
    fn value(&self, step: u64) -> f64 {
        (self.function)(step)
    }
}

impl<F> Configurable for Closure<F>
where
    F: Send + Sync,
{
    fn class_name(&self) -> &str {
        "Closure"
    }

    fn config(&self) -> Result<Config, ConfigError> {
        Err(ConfigError::NotSerializable { what: "a schedule made by schedule_fn".to_owned(), reason: "it holds code" })
    }
}
