//! The triangular wave that all cyclical schedules share.

use opt_core::{Config, ConfigError, Fields, HyperparameterError, HyperparameterKind, config};

use crate::checks;
use crate::numbers::{blend, fraction, saturate, split};

/// What the height of a cyclical schedule depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleMode {
    /// The number of the cycle, from 1: `"cycle"` in configurations.
    Cycle,
    /// The step, from 0: `"iterations"` in configurations.
    Iterations,
}

impl ScaleMode {
    const NAMES: [(&'static str, Self); 2] = [("cycle", Self::Cycle), ("iterations", Self::Iterations)];

    pub(super) const KIND: HyperparameterKind = HyperparameterKind::Choice(&["cycle", "iterations"]);

    fn name(self) -> &'static str {
        self.json().trim_matches('"')
    }

    pub(super) const fn json(self) -> &'static str {
        match self {
            Self::Cycle => r#""cycle""#,
            Self::Iterations => r#""iterations""#,
        }
    }
}

/// A wave from the initial rate to the maximal one in `step_size` steps, and back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wave {
    initial_learning_rate: f64,
    maximal_learning_rate: f64,
    step_size: u64,
    pub(super) scale_mode: ScaleMode,
}

impl Wave {
    pub(super) fn new(initial: f64, maximal: f64, step_size: u64, scale_mode: ScaleMode) -> Self {
        Self { initial_learning_rate: initial, maximal_learning_rate: maximal, step_size, scale_mode }
    }

    /// The value at a step, for a height given by the cycle or the step.
    pub(super) fn value(&self, step: u64, height: impl Fn(f64) -> f64) -> f64 {
        let (half_cycles, since) = split(step, self.step_size);
        let rising = half_cycles % 2 == 0;
        let above = if rising { since } else { self.step_size - since };
        let scale = match self.scale_mode {
            ScaleMode::Cycle => height((1 + half_cycles / 2) as f64),
            ScaleMode::Iterations => height(step as f64),
        };
        let t = fraction(above, self.step_size) * scale;
        saturate(blend(self.initial_learning_rate, self.maximal_learning_rate, t))
    }

    /// Whether the maximal rate is below the initial one.
    pub(super) fn goes_down(&self) -> bool {
        self.maximal_learning_rate < self.initial_learning_rate
    }

    pub(super) fn config(&self) -> Config {
        config([
            ("initial_learning_rate", self.initial_learning_rate.into()),
            ("maximal_learning_rate", self.maximal_learning_rate.into()),
            ("step_size", self.step_size.into()),
            ("scale_mode", self.scale_mode.name().into()),
        ])
    }

    pub(super) fn read(fields: &mut Fields<'_>, default_mode: ScaleMode) -> Result<Self, ConfigError> {
        Ok(Self {
            initial_learning_rate: fields.f64("initial_learning_rate")?,
            maximal_learning_rate: fields.f64("maximal_learning_rate")?,
            step_size: fields.u64("step_size")?,
            scale_mode: checks::choice(fields, "scale_mode", default_mode, ScaleMode::NAMES)?,
        })
    }

    pub(super) fn validate(&self) -> Result<(), HyperparameterError> {
        checks::rate("initial_learning_rate", self.initial_learning_rate)?;
        checks::rate("maximal_learning_rate", self.maximal_learning_rate)?;
        checks::at_least_one("step_size", self.step_size)
    }
}
