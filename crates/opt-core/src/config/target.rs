//! Configurations for other libraries, and what these can express.

mod classes;

use std::fmt;

use classes::{Class, Kind, Module, OPTIMIZERS, SCHEDULES};

use serde_json::Value;

use super::error::shorten;
use super::value::{unwrapped, whole};
use super::{Config, ConfigError, Dialect};

/// A library that is to read a configuration: see [`Optimizer::to_config_for`](crate::Optimizer::to_config_for).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Keras 3: `keras.optimizers`.
    Keras3,
    /// Keras 2.11 to 2.15: `tf.keras.optimizers`.
    Keras2,
    /// Keras up to 2.10, and `tf.keras.optimizers.legacy` since.
    KerasLegacy,
    /// TensorFlow Addons: `tfa.optimizers`, and the legacy optimizers of Keras inside and beside them.
    Addons,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keras3 => "Keras 3",
            Self::Keras2 => "Keras 2.11 to 2.15",
            Self::KerasLegacy => "the legacy generation of Keras",
            Self::Addons => "TensorFlow Addons",
        })
    }
}

/// Keys that only Keras 3 writes.
pub(crate) const KERAS_3: [&str; 2] = ["loss_scale_factor", "gradient_accumulation_steps"];

const CLIPS: [&str; 3] = ["clipnorm", "global_clipnorm", "clipvalue"];

/// The reasons that stand in errors.
mod reason {
    pub(super) const UNKNOWN: &str = "it has no such field";
    pub(super) const GENERATION: &str = "the other generation treats sparse gradients differently";
    pub(super) const DIALECT: &str = "it has its own arithmetic";
    pub(super) const AVERAGES: &str = "Keras 3 and Keras 2 average differently: see Ema::keras3";
    pub(super) const NO_SCHEDULE: &str = "it takes a number, and no schedule";
    pub(super) const EPSILON: &str = "it replaces 0 by 1e-7";
    pub(super) const WHOLE: &str = "it takes whole numbers";
    pub(super) const TWO_CLIPS: &str = "it takes clipnorm or global_clipnorm, not both";
}

/// The class name that the configuration of an object made in code has: `Addons>RectifiedAdam` where TensorFlow Addons
/// has the class and knows all of these fields, which it finds only by this name.
pub(super) fn full_name(class_name: &str, fields: &Config) -> String {
    let addons = |class: &&Class| class.name == class_name && matches!(class.module, Module::Addons(_));
    let is_known = |class: &Class| {
        let known = |key: &str| key == "name" || CLIPS.contains(&key) || class.kind(key).is_some();
        fields.keys().all(|key| known(key))
    };
    match OPTIMIZERS.iter().chain(&SCHEDULES).find(addons) {
        Some(class) if is_known(class) => format!("Addons>{class_name}"),
        _ => class_name.to_owned(),
    }
}

/// Serialises an optimizer for a library, or names what that library cannot express.
pub(crate) fn express(
    target: Target,
    class_name: &str,
    dialect: Dialect,
    fields: Config,
) -> Result<Value, ConfigError> {
    let class = target.class(class_name, &OPTIMIZERS)?;
    let out = Expression { target, class };
    if !dialect.is_told_by_form() {
        return Err(out.refuse(Dialect::KEY, &dialect.name().into(), reason::DIALECT));
    }
    if dialect.is_legacy() != target.is_legacy() {
        return Err(out.refuse("is_legacy_optimizer", &dialect.is_legacy().into(), reason::GENERATION));
    }
    let is_of_keras3 = KERAS_3.iter().any(|key| fields.contains_key(*key));
    if let Some(uses) = fields.get("use_ema").filter(|uses| **uses == true)
        && is_of_keras3 != (target == Target::Keras3)
    {
        return Err(out.refuse("use_ema", uses, reason::AVERAGES));
    }
    let mut config = Config::new();
    for (key, value) in fields {
        let value = match class.kind(&key) {
            Some(kind) => Some(out.field(&key, kind, &value)?),
            None => out.option(&key, value)?,
        };
        config.extend(value.map(|value| (key, value)));
    }
    out.complete(&mut config)?;
    Ok(class.wrap(&config))
}

impl Target {
    fn is_legacy(self) -> bool {
        matches!(self, Self::KerasLegacy | Self::Addons)
    }

    fn has(self, module: Module) -> bool {
        match module {
            Module::KerasSchedules => true,
            Module::Keras => !self.is_legacy(),
            Module::KerasLegacy => self.is_legacy(),
            Module::Addons(_) => self == Self::Addons,
        }
    }

    fn class(self, class_name: &str, classes: &'static [Class]) -> Result<&'static Class, ConfigError> {
        let found = classes.iter().find(|class| class.name == class_name && self.has(class.module));
        found.ok_or_else(|| ConfigError::NoSuchClass { target: self, class_name: class_name.to_owned() })
    }
}

/// An object that is being expressed in the terms of a library.
#[derive(Clone, Copy)]
struct Expression {
    target: Target,
    class: &'static Class,
}

impl Expression {
    fn refuse(self, key: &str, value: &Value, reason: &'static str) -> ConfigError {
        ConfigError::NotExpressible {
            target: self.target,
            class_name: self.class.name,
            key: key.to_owned(),
            value: shorten(value),
            reason,
        }
    }

    /// A field of the class.
    fn field(self, key: &str, kind: Kind, value: &Value) -> Result<Value, ConfigError> {
        let refuse = |reason| self.refuse(key, value, reason);
        match kind {
            Kind::Other => Ok(value.clone()),
            Kind::Rate if value.is_object() && unwrapped(value).is_object() => self.schedule(value),
            Kind::Number | Kind::Rate => number(&unwrapped(value)).ok_or_else(|| refuse(reason::NO_SCHEDULE)),
            Kind::Epsilon if value.as_f64() == Some(0.0) => Err(refuse(reason::EPSILON)),
            Kind::Epsilon => Ok(value.clone()),
            Kind::Steps => Ok(steps(&unwrapped(value))),
            Kind::Whole => Some(steps(value)).filter(Value::is_u64).ok_or_else(|| refuse(reason::WHOLE)),
            Kind::Optimizer => self.optimizer(value),
        }
    }

    /// An option of the engine; `None` if the library does not have it, and it is off.
    fn option(self, key: &str, value: Value) -> Result<Option<Value>, ConfigError> {
        let is_new = !self.target.is_legacy();
        match key {
            "name" => Ok(Some(value)),
            "clipnorm" | "clipvalue" | "global_clipnorm" => Ok(Some(value).filter(|limit| is_new || !limit.is_null())),
            "weight_decay" if is_new => self.field(key, Kind::Number, &value).map(Some),
            "use_ema" | "ema_momentum" | "ema_overwrite_frequency" if is_new => Ok(Some(value)),
            key if KERAS_3.contains(&key) && (self.target == Target::Keras3 || value.is_null()) => {
                Ok(Some(value).filter(|_| self.target == Target::Keras3))
            }
            // Both are written beside `use_ema`, which names the option.
            "ema_momentum" | "ema_overwrite_frequency" => Ok(None),
            "jit_compile" | "is_legacy_optimizer" => Ok(Some(value).filter(|_| self.target == Target::Keras2)),
            _ => Err(self.refuse(key, &value, reason::UNKNOWN)),
        }
    }

    /// Adds fields that only this library has, and refuses fields that it does not combine.
    fn complete(self, config: &mut Config) -> Result<(), ConfigError> {
        if self.target == Target::Keras3 {
            for key in KERAS_3 {
                config.entry(key).or_insert(Value::Null);
            }
        }
        if self.target.is_legacy()
            && config.contains_key("clipnorm")
            && let Some(limit) = config.get("global_clipnorm")
        {
            return Err(self.refuse("global_clipnorm", limit, reason::TWO_CLIPS));
        }
        // Nadam's constructor replaces the `decay` of its own configuration by `schedule_decay`, or by its default.
        if self.class.name == "Nadam"
            && self.target.is_legacy()
            && let Some(decay) = config.get("decay")
        {
            config.insert("schedule_decay".to_owned(), decay.clone());
        }
        Ok(())
    }

    fn schedule(self, value: &Value) -> Result<Value, ConfigError> {
        let (class_name, fields) = opened(value);
        let class = self.target.class(&class_name, &SCHEDULES)?;
        let inside = Self { class, ..self };
        let mut config = Config::new();
        for (key, value) in fields.iter().filter(|(key, value)| *key != "name" || value.is_string()) {
            let kind = if key == "name" { Some(Kind::Other) } else { class.kind(key) };
            let kind = kind.ok_or_else(|| inside.refuse(key, value, reason::UNKNOWN))?;
            config.insert(key.clone(), inside.field(key, kind, value)?);
        }
        Ok(class.wrap(&config))
    }

    /// An optimizer inside, with the options that its own configuration has. They are off, or it would not be inside.
    fn optimizer(self, value: &Value) -> Result<Value, ConfigError> {
        let (class_name, mut fields) = opened(value);
        let is_own = |key: &str| {
            let classes = OPTIMIZERS.iter().filter(|class| class.name == class_name);
            key == "name" || classes.flat_map(|class| class.fields).any(|(name, _)| *name == key)
        };
        let has_other_generation =
            ["SGD", "Nadam", "Adam"].contains(&class_name.as_str()) && !fields.contains_key("decay");
        let dialect = if has_other_generation { Dialect::Keras } else { Dialect::KerasLegacy };
        fields.retain(|key, value| is_own(key) || !is_off(value));
        express(self.target, &class_name, dialect, fields)
    }
}

/// Whether an option asks for nothing. (Two options of averages have numbers, without averages.)
fn is_off(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

/// The class, without package, and the fields of an object that this library has written.
fn opened(value: &Value) -> (String, Config) {
    let class_name = value["class_name"].as_str().unwrap_or_default();
    let class_name = class_name.rsplit('>').next().unwrap_or_default().to_owned();
    (class_name, value["config"].as_object().cloned().unwrap_or_default())
}

/// A number in floating point, or a list of such numbers; `null` stays.
fn number(value: &Value) -> Option<Value> {
    match value {
        Value::Null => Some(Value::Null),
        Value::Array(items) => items.iter().map(number).collect(),
        other => other.as_f64().map(Value::from),
    }
}

/// A number of steps, or a list of such numbers: whole where possible.
fn steps(value: &Value) -> Value {
    if let Value::Array(items) = value {
        return items.iter().map(steps).collect();
    }
    whole(value).map_or_else(|| value.clone(), Value::from)
}
