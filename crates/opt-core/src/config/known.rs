//! Keys of other libraries for features that do not exist here.

use serde_json::Value;

use super::{Config, ConfigError};

/// A key that configurations of other libraries have, for a feature that the class that reads it does not have.
///
/// A feature that comes to exist is removed from this list, and read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) key: &'static str,
    off: Off,
    /// What to do instead.
    instead: &'static str,
}

/// The values of a key that ask for nothing.
#[derive(Debug, Clone, Copy)]
enum Off {
    /// `null` only.
    Null,
    /// Also `false` and 0.
    Falsy,
    /// Also 1: a factor.
    One,
}

const CALLER: &str = "not supported here: leave it to the code that computes gradients";
/// The engine reads these keys itself, except in optimizers inside another one.
const OUTSIDE: &str = "not supported inside another optimizer: set it on the outer one";
const CLASS: &str = "not supported by this class";
const PYTORCH: &str = "PyTorch's, not supported here";

impl Known {
    const ALL: [Self; 12] = [
        Self { key: "loss_scale_factor", off: Off::One, instead: OUTSIDE },
        Self { key: "gradient_accumulation_steps", off: Off::Falsy, instead: OUTSIDE },
        Self { key: "gradient_aggregator", off: Off::Falsy, instead: CALLER },
        Self { key: "gradient_transformers", off: Off::Falsy, instead: CALLER },
        Self { key: "amsgrad", off: Off::Falsy, instead: CLASS },
        Self {
            key: "decay",
            off: Off::Falsy,
            instead: "only in the legacy generation: use a schedule, InverseTimeDecay with decay_steps 1",
        },
        Self {
            key: "lr",
            off: Off::Null,
            instead: "the old name of learning_rate: give one of them; newer configurations have learning_rate only",
        },
        Self { key: "maximize", off: Off::Falsy, instead: PYTORCH },
        Self { key: "foreach", off: Off::Falsy, instead: PYTORCH },
        Self { key: "capturable", off: Off::Falsy, instead: PYTORCH },
        Self { key: "fused", off: Off::Falsy, instead: PYTORCH },
        Self { key: "differentiable", off: Off::Falsy, instead: PYTORCH },
    ];

    /// The key that tells another AdamW: TensorFlow Addons has a class of this name, too.
    const ADDONS_ADAMW: Self = Self {
        key: "decay",
        off: Off::Null,
        instead: "a key of TensorFlow Addons, whose AdamW does not multiply the weight decay by the learning rate",
    };

    /// The keys among these fields of a class.
    pub(super) fn among(class_name: &str, fields: &Config) -> impl Iterator<Item = Self> {
        let own = (class_name == "AdamW").then_some(Self::ADDONS_ADAMW);
        own.into_iter().chain(Self::ALL).filter(|known| fields.contains_key(known.key))
    }

    /// Refuses a value that asks for something.
    pub(super) fn require_off(self, class_name: &str, value: &Value) -> Result<(), ConfigError> {
        let is_off = match self.off {
            Off::Null => false,
            Off::One => value.as_f64() == Some(1.0),
            Off::Falsy => value.as_bool() == Some(false) || value.as_f64() == Some(0.0),
        };
        if value.is_null() || is_off {
            return Ok(());
        }
        Err(ConfigError::not_supported(class_name, self.key, value, self.instead))
    }
}
