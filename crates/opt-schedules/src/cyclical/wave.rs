//! The triangular wave that all cyclical schedules share.

use opt_core::config::{Choice, Steps};

use crate::numbers::{blend, fraction, saturate};

/// The quantity that the height of a cyclical schedule depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleMode {
    /// The number of the cycle, from 1: `"cycle"` in configurations.
    Cycle,
    /// The step, from 0: `"iterations"` in configurations.
    Iterations,
}

impl Choice for ScaleMode {
    const CHOICES: &'static [(&'static str, Self)] = &[("cycle", Self::Cycle), ("iterations", Self::Iterations)];
}

/// A wave from the initial rate to the maximal one in `step_size` steps, and back.
#[derive(Debug)]
pub(super) struct Wave {
    pub(super) initial: f64,
    pub(super) maximal: f64,
    pub(super) step_size: Steps,
    pub(super) scale_mode: ScaleMode,
}

impl Wave {
    /// The value at a step. `height` is a function of the cycle or the step.
    pub(super) fn value(&self, step: u64, height: impl Fn(f64) -> f64) -> f64 {
        let (half_cycles, since) = self.step_size.split(step);
        let rising = half_cycles % 2 == 0;
        let above = if rising { since } else { self.step_size.checked_sub(since).unwrap_or(Steps::ZERO) };
        let scale = match self.scale_mode {
            ScaleMode::Cycle => height((1 + half_cycles / 2) as f64),
            ScaleMode::Iterations => height(step as f64),
        };
        let t = fraction(above, self.step_size) * scale;
        saturate(blend(self.initial, self.maximal, t))
    }
}
