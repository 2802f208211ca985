//! Configurations in Keras's JSON, `{"class_name": ..., "config": {...}}`, and the hyperparameters in them.

mod class;
mod declare;
mod dialect;
mod error;
mod fields;
mod known;
mod parts;
mod registry;
mod spec;
mod steps;
mod target;
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
use fields::OldName;
pub(crate) use parts::{bare_fields, is_model, optimizer_of};
pub use registry::{FromConfig, ReadRule, Registry, ScheduleRegistry};
pub use spec::{AtLeast, HyperparameterKind, HyperparameterSpec, Interval};
pub use steps::Steps;
pub use target::Target;
pub(crate) use target::{KERAS_3, express};
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

/// The form in which a configuration was given, so that it is written back in the same form: the entries that are
/// neither the class nor its own fields, the keys that were left out, and the spelling of each value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Envelope {
    class_name: Option<String>,
    /// `module`, `registered_name` and other keys beside `class_name`.
    outer: Config,
    /// `name`, `jit_compile` and other keys without effect, inside `config`.
    inner: Config,
    /// The fields as they were given.
    given: Config,
    /// Fields that the configuration left out, with the defaults that they got.
    absent: Config,
    /// Fields that would be written with another spelling, or not at all: as they were given, and as they would be
    /// written.
    spelled: BTreeMap<String, (Value, Option<Value>)>,
    /// Fields with an old name: the name of today, and the old one.
    renamed: Vec<OldName>,
    fields: Presence,
}

/// Whether a configuration has fields.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Presence {
    #[default]
    Given,
    /// There is no `config`, so that all fields have their defaults.
    Omitted,
    /// The configuration is the name of the class, a text.
    OnlyClass,
}

/// Keys beside `class_name` and `config` that do not concern the optimizer.
const OUTER: [&str; 4] = ["module", "registered_name", "shared_object_id", "build_config"];

impl Envelope {
    /// Splits a serialised object: the class name without package prefix, the fields, and their form. Values that Keras
    /// wraps, `{"class_name": "__tensor__", ...}` and `__numpy__`, are unwrapped.
    ///
    /// # Errors
    ///
    /// When it is neither an object of the form `{"class_name": ..., "config": {...}}` nor the name of a class, or has
    /// unknown keys.
    pub fn open(value: &Value) -> Result<(String, Config, Self), ConfigError> {
        if let Some(name) = value.as_str() {
            let envelope = Self { class_name: Some(name.to_owned()), fields: Presence::OnlyClass, ..Self::default() };
            return Ok((without_package(name), Config::new(), envelope));
        }
        let Some(object) = value.as_object() else {
            return Err(ConfigError::NotAnObject { found: shorten(value) });
        };
        let Some(full_name) = object.get("class_name").and_then(Value::as_str) else {
            return Err(parts::without_class(value, object));
        };
        let class_name = without_package(full_name);
        let mut envelope = Self { class_name: Some(full_name.to_owned()), ..Self::default() };
        if !object.contains_key("config") {
            envelope.fields = Presence::Omitted;
        }
        let mut fields = Config::new();
        for (key, value) in object {
            match (key.as_str(), value) {
                ("class_name", _) => {}
                ("config", Value::Object(config)) => {
                    envelope.given.clone_from(config);
                    fields = config.iter().map(|(key, value)| (key.clone(), value::unwrapped(value))).collect();
                }
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
            if fields.remove(*key).is_some()
                && let Some((key, value)) = self.given.remove_entry(*key)
            {
                self.inner.insert(key, value);
            }
        }
    }

    /// Remembers how the fields were given; call it when all of them have been read without error. `written` are the
    /// fields as they would be written.
    ///
    /// As long as a field keeps its value, it is written as it was given: under its old name, with its own spelling
    /// (`1` or `1.0`), or not at all. So a configuration is written back key for key, whichever version wrote it.
    pub fn remember(&mut self, written: &Config) {
        self.renamed = OldName::used(&self.given, written);
        for name in &self.renamed {
            if let Some(value) = self.given.remove(name.old) {
                self.given.insert(name.today.to_owned(), value);
            }
        }
        self.absent = written.clone();
        self.absent.retain(|key, _| !self.given.contains_key(key));
        let other = |(key, value): &(&String, &Value)| written.get(*key) != Some(*value);
        let spelled = self.given.iter().filter(other);
        self.spelled = spelled.map(|(key, value)| (key.clone(), (value.clone(), written.get(key).cloned()))).collect();
    }

    /// Forgets the spelling of fields that no longer mean what they did.
    pub(crate) fn forget(&mut self, keys: &[&str]) {
        self.spelled.retain(|key, _| !keys.contains(&key.as_str()));
    }

    /// The name that the configuration gives to the object, if it is a text.
    pub(crate) fn name(&self) -> Option<&str> {
        self.inner.get("name").and_then(Value::as_str)
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
        for name in &self.renamed {
            if let Some(value) = fields.remove(name.today) {
                fields.insert(name.old.to_owned(), value);
            }
        }
        for (key, value) in &self.inner {
            fields.insert(key.clone(), value.clone());
        }
        let class_name = self.class_name.clone().unwrap_or_else(|| target::full_name(class_name, &fields));
        if self.fields == Presence::OnlyClass && fields.is_empty() {
            return class_name.into();
        }
        let mut object = self.outer.clone();
        object.insert("class_name".to_owned(), class_name.into());
        if self.fields == Presence::Given || !fields.is_empty() {
            object.insert("config".to_owned(), Value::Object(fields));
        }
        Value::Object(object)
    }
}

/// A class name without the package that registered it: `Addons>`.
fn without_package(class_name: &str) -> String {
    class_name.rsplit('>').next().unwrap_or(class_name).to_owned()
}
