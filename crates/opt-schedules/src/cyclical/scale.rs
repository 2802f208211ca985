//! How the peaks of a wave change.

use std::ops::Bound;

use opt_core::{Config, ConfigError, Fields, HyperparameterError, require};

use super::wave::{ScaleMode, Wave};
use crate::numbers::power;

/// How the height of a wave depends on the cycle or step, and what this adds to the configuration.
pub(super) trait Scale: Sized {
    const DEFAULT_MODE: ScaleMode;

    fn height(&self, x: f64) -> f64;

    fn write(&self, _fields: &mut Config) {}

    fn read(fields: &mut Fields<'_>) -> Result<Self, ConfigError>;

    fn validate(&self, _wave: &Wave) -> Result<(), HyperparameterError> {
        Ok(())
    }
}

/// Every peak has the full height.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Same;

impl Scale for Same {
    const DEFAULT_MODE: ScaleMode = ScaleMode::Cycle;

    fn height(&self, _x: f64) -> f64 {
        1.0
    }

    fn read(_fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }
}

/// `1 / 2^(x - 1)`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Halving;

impl Scale for Halving {
    const DEFAULT_MODE: ScaleMode = ScaleMode::Cycle;

    fn height(&self, x: f64) -> f64 {
        power(0.5, x - 1.0)
    }

    fn read(_fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }
}

/// `gamma^x`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exponential {
    pub(super) gamma: f64,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { gamma: 1.0 }
    }
}

impl Scale for Exponential {
    const DEFAULT_MODE: ScaleMode = ScaleMode::Iterations;

    fn height(&self, x: f64) -> f64 {
        power(self.gamma, x)
    }

    fn write(&self, fields: &mut Config) {
        fields.insert("gamma".to_owned(), self.gamma.into());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        Ok(Self { gamma: fields.f64_or("gamma", 1.0)? })
    }

    fn validate(&self, wave: &Wave) -> Result<(), HyperparameterError> {
        require("gamma", self.gamma, (Bound::Excluded(0.0), Bound::Unbounded))?;
        if wave.goes_down() { require("gamma", self.gamma, ..=1.0) } else { Ok(()) }
    }
}
