//! Loss scaling: gradients of a scaled loss.

use crate::config::{HyperparameterError, require};

/// A factor of the loss, so that small gradients do not vanish in 16 bits.
///
/// The caller multiplies the loss by [`Optimizer::loss_scale`](crate::Optimizer::loss_scale) before computing
/// gradients. The step divides by it, in the same pass as the clips; limits and norms are those of the unscaled
/// gradients. The division is exact for powers of two.
///
/// | | [`dynamic`](Self::dynamic) | [`fixed`](Self::fixed) |
/// |---|---|---|
/// | first scale | 32768, or [`initial`](Self::initial) | as given |
/// | after a step with a gradient that is not finite | the step is skipped, and the scale halved, never below 1 | as [`NonFinite`](crate::NonFinite) says |
/// | after 2,000 steps in a row without one ([`growth_interval`](Self::growth_interval)) | doubled | |
///
/// The scale and the number of good steps are part of the state. A skipped step does not count in
/// [`iterations`](crate::Optimizer::iterations).
///
/// # Examples
///
/// ```
/// use opt_core::{LossScale, Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let mut w = [1.0_f32];
/// let mut opt = Optimizer::builder(Sgd::new(0.5)).loss_scale(LossScale::dynamic().initial(8.0)).build()?;
/// let scale = opt.loss_scale() as f32;
/// let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[scale * f32::INFINITY])])?;
/// assert_eq!((report.is_applied(), opt.loss_scale()), (false, 4.0));
///
/// let scale = opt.loss_scale() as f32;
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[scale * 1.0])])?;
/// assert_eq!(w, [0.5]);
/// # Ok::<(), opt_core::Error>(())
/// ```
///
/// # References
///
/// P. Micikevicius et al., "Mixed precision training", 2018, arXiv:1710.03740.
#[doc(alias = "GradScaler")]
#[doc(alias = "LossScaleOptimizer")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    pub(crate) initial: f64,
    /// Steps in a row after which the scale is doubled; `None` for a fixed scale.
    pub(crate) growth_interval: Option<u64>,
}

impl LossScale {
    /// The smallest normal number of 32 bits: its inverse is finite there.
    const SMALLEST: f64 = f32::MIN_POSITIVE as f64;

    /// The largest number of 32 bits.
    pub(crate) const LARGEST: f64 = f32::MAX as f64;

    /// A scale that follows the gradients: halved after each step with a gradient that is not finite, doubled after
    /// 2,000 good steps in a row.
    #[must_use]
    pub fn dynamic() -> Self {
        Self { initial: 32_768.0, growth_interval: Some(2_000) }
    }

    /// A scale that stays: a positive number.
    #[must_use]
    pub fn fixed(scale: f64) -> Self {
        Self { initial: scale, growth_interval: None }
    }

    /// Sets the first scale: at least 1 if it is dynamic, positive if it is fixed.
    #[must_use]
    pub fn initial(mut self, scale: f64) -> Self {
        self.initial = scale;
        self
    }

    /// Sets the number of good steps in a row after which the scale is doubled: at least 1. Makes a fixed scale
    /// dynamic.
    #[must_use]
    pub fn growth_interval(mut self, steps: u64) -> Self {
        self.growth_interval = Some(steps);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), HyperparameterError> {
        let least = if self.growth_interval.is_some() { 1.0 } else { Self::SMALLEST };
        require("loss_scale", self.initial, least..=Self::LARGEST).map_err(|error| HyperparameterError {
            expected: format!("a number from {least:.2e} to {:.2e}", Self::LARGEST),
            ..error
        })?;
        if let Some(steps) = self.growth_interval {
            require("dynamic_growth_steps", steps as f64, 1.0..)?;
        }
        Ok(())
    }
}

/// The scale of an optimizer at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scaling {
    growth_interval: Option<u64>,
    pub(crate) scale: f64,
    /// Good steps since the last change.
    pub(crate) good_steps: u64,
}

impl Scaling {
    pub(crate) fn new(scale: Option<LossScale>) -> Self {
        let LossScale { initial, growth_interval } = scale.unwrap_or(LossScale::fixed(1.0));
        Self { growth_interval, scale: initial, good_steps: 0 }
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        self.growth_interval.is_some()
    }

    /// The largest number of good steps since the last change.
    pub(crate) fn most_good_steps(&self) -> u64 {
        self.growth_interval.map_or(0, |interval| interval - 1)
    }

    /// A step with finite gradients.
    pub(crate) fn succeed(&mut self) {
        let Some(interval) = self.growth_interval else { return };
        self.good_steps = self.good_steps.saturating_add(1);
        if self.good_steps >= interval {
            self.good_steps = 0;
            if self.scale <= LossScale::LARGEST / 2.0 {
                self.scale *= 2.0;
            }
        }
    }

    /// A step with gradients that are not finite.
    pub(crate) fn fail(&mut self) {
        if self.is_dynamic() {
            self.good_steps = 0;
            self.scale = (self.scale / 2.0).max(1.0);
        }
    }
}
