//! Exponential moving averages of the variables.

use crate::config::{HyperparameterError, require};
use crate::real::Scalar;

/// An exponential moving average of each variable: `average = momentum * average + (1 - momentum) * w` after every
/// step in which the variable has a gradient. It starts as a copy of the variable before its first step.
///
/// | symbol | field | default |
/// |---|---|---|
/// | momentum | [`Ema::new`] | 0.99 |
/// | f | [`overwrite_every`](Ema::overwrite_every) | never |
/// | | [`keras3`](Ema::keras3) | off |
///
/// A variable that has never had a gradient, such as a statistic that the forward pass writes, has no average: models
/// keep their own value of it, whatever is [swapped in](crate::Optimizer::swap_in_averages) or
/// [finalized](crate::Optimizer::finalize_variable_values). (Variables that were [added](crate::Optimizer::add_variables)
/// have an average from then on. Add only what will be trained.)
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
    /// Whether averages are those of Keras 3: after the first step of the optimizer they are the variables, and they
    /// include variables without a gradient.
    pub(crate) includes_all: bool,
}

impl Ema {
    /// The name of the slot that holds the average.
    pub const SLOT: &str = "average";

    /// Averages with this momentum, in `[0, 1]`. The default is 0.99.
    #[must_use]
    pub fn new(momentum: f64) -> Self {
        Self { momentum, overwrite_frequency: None, includes_all: false }
    }

    /// Writes the average into the variable after every `steps` steps (at least 1). Never by default.
    #[must_use]
    pub fn overwrite_every(mut self, steps: u64) -> Self {
        self.overwrite_frequency = Some(steps);
        self
    }

    /// Averages as Keras 3 does: after the first step of the optimizer the average is the variable itself, and later
    /// steps also update the averages of variables that have no gradient in the step. By default, as in Keras 2.11 to
    /// 2.15, the average starts as the variable *before* the first step, and stays in steps without a gradient.
    ///
    /// A configuration of Keras 3 is known by its keys `loss_scale_factor` and `gradient_accumulation_steps`.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Ema, Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let averaged = |ema: Ema| {
    ///     let mut w = [10.0_f64];
    ///     let mut opt = Optimizer::builder(Sgd::new(0.01)).ema(ema).build()?;
    ///     for _ in 0..10 {
    ///         opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    ///     }
    ///     opt.finalize_variable_values(&mut [Variable::new("w", &mut w)])?;
    ///     Ok::<_, opt_core::Error>(w[0])
    /// };
    /// assert!((averaged(Ema::new(0.99).keras3())? - 9.985618).abs() < 5e-7);
    /// assert!((averaged(Ema::new(0.99))? - 9.994662).abs() < 5e-7);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn keras3(mut self) -> Self {
        self.includes_all = true;
        self
    }

    /// The weights of the old average and of the value in the average after a step (counted from 0).
    pub(crate) fn weights_at<T: Scalar>(&self, step: u64) -> [T; 2] {
        let momentum = if self.includes_all && step == 0 { 0.0 } else { self.momentum };
        [momentum, 1.0 - momentum].map(T::literal)
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
