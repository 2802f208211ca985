//! The optimizer inside a larger configuration, such as that of a model.

use serde_json::Value;

use super::error::shorten;
use super::{Config, ConfigError};

/// The optimizer in what Keras stores with a model: `config.json` of a `.keras` file, `training_config` of an `.h5`
/// file, or the configuration itself.
pub(crate) fn optimizer_of(value: &Value) -> &Value {
    let whole_model = value.pointer("/compile_config/optimizer");
    let training = value.get("optimizer_config");
    let compiled = value.get("optimizer").filter(|_| value.get("loss").is_some());
    whole_model.or(training).or(compiled).unwrap_or(value)
}

/// Fields without a class, as `get_config()` returns them. `None` if the value has another form.
pub(crate) fn bare_fields(value: &Value) -> Option<&Config> {
    let is_bare = |fields: &&Config| !["class_name", "config", "layers"].iter().any(|key| fields.contains_key(*key));
    value.as_object().filter(is_bare)
}

/// Says what an object without a class name is.
pub(super) fn without_class(value: &Value, object: &Config) -> ConfigError {
    match bare_fields(value) {
        Some(fields) if ["learning_rate", "lr", "name", "optimizer"].iter().any(|key| fields.contains_key(*key)) => {
            ConfigError::WithoutClass { found: shorten(value) }
        }
        _ if object.contains_key("layers") => ConfigError::WithoutOptimizer { found: shorten(value) },
        _ => ConfigError::NotAnObject { found: shorten(value) },
    }
}

/// Whether a class is unknown because it is that of a model, saved without its optimizer.
pub(crate) fn is_model(value: &Value) -> bool {
    let class_name = value.get("class_name").and_then(Value::as_str);
    let is_class = class_name.is_some_and(|name| ["Sequential", "Functional", "Model"].contains(&name));
    is_class || value.pointer("/config/layers").is_some()
}
