//! Exponential moving averages of the variables.

use crate::config::{HyperparameterError, require};

/// An exponential moving average of each variable: `average = momentum * average + (1 - momentum) * w` after every
/// step in which the variable has a gradient. It starts as a copy of the variable.
///
/// | symbol | field | default |
/// |---|---|---|
/// | momentum | [`Ema::new`] | 0.99 |
/// | f | [`overwrite_every`](Ema::overwrite_every) | never |
///
/// # Examples
///
/// ```
/// use opt_core::Ema;
///
/// let ema = Ema::new(0.999).overwrite_every(100);
/// assert_eq!(ema, Ema::new(0.999).overwrite_every(100));
/// ```
///
/// # References
///
/// B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ema {
    pub(crate) momentum: f64,
    pub(crate) overwrite_frequency: Option<u64>,
}

impl Ema {
    /// The name of the slot that holds the average.
    pub const SLOT: &str = "average";

    /// Averages with this momentum, in `[0, 1]`. The default is 0.99.
    #[must_use]
    pub fn new(momentum: f64) -> Self {
        Self { momentum, overwrite_frequency: None }
    }

    /// Writes the average into the variable after every `steps` steps (at least 1). Never by default.
    #[must_use]
    pub fn overwrite_every(mut self, steps: u64) -> Self {
        self.overwrite_frequency = Some(steps);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), HyperparameterError> {
        require("ema_momentum", self.momentum, 0.0..=1.0)?;
        match self.overwrite_frequency {
            Some(steps) => require("ema_overwrite_frequency", steps as f64, 1.0..),
            None => Ok(()),
        }
    }

    /// Whether the average replaces the variable at the end of a step (counted from 1).
    pub(crate) fn overwrites_at(&self, step: u64) -> bool {
        self.overwrite_frequency.is_some_and(|frequency| step.is_multiple_of(frequency))
    }
}

impl Default for Ema {
    fn default() -> Self {
        Self::new(0.99)
    }
}
