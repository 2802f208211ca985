//! Configurations in Keras's JSON, `{"class_name": ..., "config": {...}}`, and the hyperparameters in them.

mod class;
mod declare;
mod dialect;
mod error;
mod fields;
mod registry;
mod spec;
mod value;

use std::collections::BTreeMap;

use serde_json::Value;

pub use class::{Configurable, FromFields, Hyperparameters};
#[doc(hidden)]
pub use declare::{default_in, default_of, put, start, together};
pub use dialect::Dialect;
use error::shorten;
pub use error::{ConfigError, HyperparameterError, require};
pub use fields::Fields;
pub use registry::{FromConfig, ReadRule, Registry, ScheduleRegistry};
pub use spec::{AtLeast, HyperparameterKind, HyperparameterSpec, Interval};
pub use value::{Choice, HyperparameterValue};

/// The fields of a configuration, by name.
pub type Config = serde_json::Map<String, Value>;

/// Collects fields into a [`Config`].
///
/// # Examples
///
/// ```
/// let config = opt_core::config::fields([("momentum", 0.9.into()), ("nesterov", false.into())]);
/// assert_eq!(config["momentum"], 0.9);
/// ```
#[must_use]
pub fn fields<const N: usize>(fields: [(&str, Value); N]) -> Config {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The entries of a serialised object that are neither its class nor its own fields. They are kept, and written back
/// unchanged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Envelope {
    class_name: Option<String>,
    /// `module`, `registered_name` and other keys beside `class_name`.
    outer: Config,
    /// `name`, `jit_compile` and other keys without effect, inside `config`.
    inner: Config,
    /// Fields that the configuration left out, with the defaults that they got.
    absent: Config,
    /// Fields with a spelling of their own, or that would not be written: as they were given, and as they would be
    /// written.
    spelled: BTreeMap<String, (Value, Option<Value>)>,
    /// Whether there was no `config`, so that all fields have their defaults.
    without_fields: bool,
}

/// Keys beside `class_name` and `config` that do not concern the optimizer.
const OUTER: [&str; 4] = ["module", "registered_name", "shared_object_id", "build_config"];

impl Envelope {
    /// Splits a serialised object: the class name without package prefix, the fields, and the other entries.
    ///
    /// # Errors
    ///
    /// When it is not an object of the form `{"class_name": ..., "config": {...}}`, or has unknown keys.
    pub fn open(value: &Value) -> Result<(String, Config, Self), ConfigError> {
        let not_an_object = || ConfigError::NotAnObject { found: shorten(value) };
        let object = value.as_object().ok_or_else(not_an_object)?;
        let full_name = object.get("class_name").and_then(Value::as_str).ok_or_else(not_an_object)?;
        let class_name = full_name.rsplit('>').next().unwrap_or(full_name).to_owned();
        let without_fields = !object.contains_key("config");
        let mut envelope = Self { class_name: Some(full_name.to_owned()), without_fields, ..Self::default() };
        let mut fields = Config::new();
        for (key, value) in object {
            match (key.as_str(), value) {
                ("class_name", _) => {}
                ("config", Value::Object(config)) => fields = config.clone(),
                ("config", other) => {
                    return Err(ConfigError::wrong_type(&class_name, key, other, "an object"));
                }
                (outer, _) if OUTER.contains(&outer) => {
                    envelope.outer.insert(key.clone(), value.clone());
                }
                _ => return Err(ConfigError::unknown_key(&class_name, key)),
            }
        }
        Ok((class_name, fields, envelope))
    }

    /// Moves fields that do not concern the optimizer out of the configuration, if they are there.
    pub fn keep(&mut self, fields: &mut Config, keys: &[&str]) {
        for key in keys {
            if let Some((key, value)) = fields.remove_entry(*key) {
                self.inner.insert(key, value);
            }
        }
    }

    /// Remembers fields that the configuration left out. As long as they keep their values, they are not written
    /// either. So a configuration is written back key for key, whichever version wrote it.
    pub fn remember_absent(&mut self, read: &Config, written: Config) {
        self.absent = written.into_iter().filter(|(key, _)| !read.contains_key(key)).collect();
    }

    /// Remembers fields of the class that were given with their default values and would not be written. As long as
    /// they keep their values, they are written as they were given.
    pub fn remember_defaults(&mut self, read: &Config, written: &Config, fields: &[HyperparameterSpec]) {
        let is_default =
            |key: &str, value: &Value| fields.iter().any(|field| field.name == key && field.is_default(value));
        self.remember_spelled(read, written, |key, value| !written.contains_key(key) && is_default(key, value));
    }

    /// Remembers fields that would be written with another spelling, or not at all, though the meaning is the same.
    pub(crate) fn remember_spelled(
        &mut self,
        read: &Config,
        written: &Config,
        means_the_same: impl Fn(&str, &Value) -> bool,
    ) {
        let other = |(key, value): &(&String, &Value)| written.get(*key) != Some(*value) && means_the_same(key, value);
        let given = read.iter().filter(other);
        self.spelled.extend(given.map(|(key, value)| (key.clone(), (value.clone(), written.get(key).cloned()))));
    }

    /// The reverse of [`open`](Self::open) and [`keep`](Self::keep).
    #[must_use]
    pub fn wrap(&self, class_name: &str, mut fields: Config) -> Value {
        fields.retain(|key, value| self.absent.get(key) != Some(value));
        for (key, (given, written)) in &self.spelled {
            if fields.get(key) == written.as_ref() {
                fields.insert(key.clone(), given.clone());
            }
        }
        for (key, value) in &self.inner {
            fields.insert(key.clone(), value.clone());
        }
        let mut object = self.outer.clone();
        object.insert("class_name".to_owned(), self.class_name.as_deref().unwrap_or(class_name).into());
        if !(self.without_fields && fields.is_empty()) {
            object.insert("config".to_owned(), Value::Object(fields));
        }
        Value::Object(object)
    }
}
