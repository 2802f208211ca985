//! The rule inside a wrapper, with its configuration.

use opt_core::config::{Config, ConfigError, Dialect, Envelope, Fields, Hyperparameters};
use opt_core::{Registry, Scalar};
use serde_json::Value;

/// Keys of an optimizer that have no effect for a rule inside another one.
const WITHOUT_MEANING: [&str; 5] =
    ["name", "jit_compile", "is_legacy_optimizer", "ema_momentum", "ema_overwrite_frequency"];

/// Keys for stages of the engine, which is outside. Accepted as long as they are off.
const ENGINE: [&str; 8] = [
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "weight_decay",
    "decoupled_weight_decay",
    "exclude_from_weight_decay",
    "use_ema",
    "non_finite",
];

/// Those of them that are limits of gradients.
const CLIPS: [&str; 3] = ["clipnorm", "clipvalue", "global_clipnorm"];

/// A rule, with the entries of its configuration that are not fields of the rule.
#[derive(Debug, Clone)]
pub(crate) struct Inner<R> {
    pub(crate) rule: R,
    envelope: Envelope,
}

impl<R> Inner<R> {
    pub(super) fn new(rule: R) -> Self {
        Self { rule, envelope: Envelope::default() }
    }
}

impl<R: Hyperparameters> Inner<R> {
    /// Reads a serialised optimizer; `read` reads its rule.
    pub(super) fn read<T: Scalar>(
        serialised: &Value,
        registry: &Registry<T>,
        read: impl FnOnce(&mut Fields<'_>) -> Result<R, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let (class_name, config, mut envelope) = Envelope::open(serialised)?;
        let mut fields = registry.fields(&class_name, config.clone());
        let class_name = fields.class_name().to_owned();
        let rule = read(&mut fields)?;
        fields.keep(&mut envelope, &WITHOUT_MEANING);
        // Fields that the rule has read, such as a weight decay of its own, are gone by now.
        for key in ENGINE.into_iter().filter(|key| fields.contains(key)).collect::<Vec<_>>() {
            require_nothing(&class_name, key, &config[key], rule.dialect())?;
            fields.keep(&mut envelope, &[key]);
        }
        fields.keep_switched_off(&mut envelope)?;
        fields.finish()?;

        let mut inner = Self { rule, envelope };
        if let Ok(written) = inner.fields() {
            inner.envelope.remember(&written);
        }
        Ok(inner)
    }

    /// The reverse of [`read`](Self::read).
    pub(super) fn write(&self) -> Result<Value, ConfigError> {
        Ok(self.envelope.wrap(self.rule.class_name(), self.fields()?))
    }

    fn fields(&self) -> Result<Config, ConfigError> {
        let mut fields = self.rule.config()?;
        fields.insert("name".to_owned(), self.rule.class_name().into());
        Ok(fields)
    }
}

/// Refuses a key that asks the engine for a stage, which is possible only outside.
fn require_nothing(class_name: &str, key: &str, value: &Value, dialect: Dialect) -> Result<(), ConfigError> {
    // Newer generations of Keras take such a limit for none.
    let is_no_limit = |value: &Value| {
        dialect == Dialect::Keras && CLIPS.contains(&key) && value.as_f64().is_some_and(|limit| limit <= 0.0)
    };
    match value {
        Value::Null | Value::Bool(false) => Ok(()),
        limit if is_no_limit(limit) => Ok(()),
        other => Err(ConfigError::WrongType {
            class_name: class_name.to_owned(),
            key: key.to_owned(),
            found: other.to_string(),
            expected: "null inside another optimizer, which alone can have it".to_owned(),
        }),
    }
}
