//! Reading the fields of one configuration, each exactly once.

use serde_json::Value;

use super::known::Known;
use super::{Choice, Config, ConfigError, Dialect, Envelope, HyperparameterValue, ScheduleRegistry};

/// The fields of a configuration that have not been read yet.
///
/// Each field is read exactly once; a field that nobody has read is an error. Every method that reads a field removes
/// it, and [`finish`](Self::finish) refuses the fields that are left. So no field is ignored silently.
///
/// # Examples
///
/// ```
/// use opt_core::config::{ScheduleRegistry, fields};
/// use opt_core::config::Fields;
///
/// let schedules = ScheduleRegistry::new();
/// let mut reader = Fields::new("SGD", fields([("momentum", 0.5.into()), ("nesterof", true.into())]), &schedules);
/// assert_eq!(reader.required::<f64>("momentum")?, 0.5);
/// assert_eq!(reader.or("nesterov", false)?, false);
/// assert_eq!(reader.finish().unwrap_err().to_string(), r#"SGD: unknown key "nesterof""#);
/// # Ok::<(), opt_core::config::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Fields<'a> {
    class_name: String,
    fields: Config,
    form: Dialect,
    schedules: &'a ScheduleRegistry,
}

/// The name of a field in Keras up to 2.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct OldName {
    /// The class that has the field; `None` for all.
    class_name: Option<&'static str>,
    pub(super) today: &'static str,
    pub(super) old: &'static str,
}

impl OldName {
    const ALL: [Self; 2] = [
        Self { class_name: None, today: "learning_rate", old: "lr" },
        Self { class_name: Some("Nadam"), today: "decay", old: "schedule_decay" },
    ];

    /// The old names among the given fields, which are written with the names of today.
    pub(super) fn used(given: &Config, written: &Config) -> Vec<Self> {
        let is_used = |name: &Self| {
            given.contains_key(name.old) && !given.contains_key(name.today) && written.contains_key(name.today)
        };
        Self::ALL.into_iter().filter(is_used).collect()
    }
}

impl<'a> Fields<'a> {
    /// Starts to read the fields of a class.
    #[must_use]
    pub fn new(class_name: &str, fields: Config, schedules: &'a ScheduleRegistry) -> Self {
        let form = Dialect::of_form(&fields);
        Self { class_name: class_name.to_owned(), fields, form, schedules }
    }

    /// The class that the configuration names, without package prefix.
    #[must_use]
    pub fn class_name(&self) -> &str {
        &self.class_name
    }

    /// The dialect that the form of the configuration tells: [`Dialect::Keras`] or [`Dialect::KerasLegacy`].
    #[must_use]
    pub fn form(&self) -> Dialect {
        self.form
    }

    /// Takes the dialect: of the key `dialect`, or else the one that the form tells. `settings` gives the settings of a
    /// dialect, if the class has it. Without the key, a class that does not have the dialect of the form gets its
    /// `own`.
    ///
    /// # Errors
    ///
    /// When the key names no dialect, or one that the class does not have.
    pub fn in_dialect<C>(&mut self, own: Dialect, settings: impl Fn(Dialect) -> Option<C>) -> Result<C, ConfigError> {
        let unknown = |fields: &Self, value: &Value| {
            let known = Dialect::CHOICES.iter().filter(|(_, dialect)| settings(*dialect).is_some());
            let known: Vec<String> = known.map(|(name, _)| format!("{name:?}")).collect();
            ConfigError::wrong_type(&fields.class_name, Dialect::KEY, value, &format!("one of {}", known.join(", ")))
        };
        if let Some(value) = self.take(Dialect::KEY) {
            let dialect = Dialect::from_json(&value, self.schedules)?;
            return dialect.and_then(&settings).ok_or_else(|| unknown(self, &value));
        }
        let found = settings(self.form).or_else(|| settings(own));
        found.ok_or_else(|| unknown(self, &own.name().into()))
    }

    /// Whether a field is present and not yet read.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Whether a field is present, not yet read, and this text.
    pub(crate) fn is(&self, key: &str, text: &str) -> bool {
        self.fields.get(key).is_some_and(|value| value == text)
    }

    /// A field that is present and not yet read.
    pub(crate) fn peek(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)
    }

    /// Takes a field as it is, if it is present.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.fields.remove(key)
    }

    /// Takes a field as it is; it must be present.
    ///
    /// # Errors
    ///
    /// When it is missing.
    pub fn take_required(&mut self, key: &str) -> Result<Value, ConfigError> {
        self.take(key).ok_or_else(|| ConfigError::missing_key(&self.class_name, key))
    }

    /// Moves fields without effect into the envelope.
    pub fn keep(&mut self, envelope: &mut Envelope, keys: &[&str]) {
        envelope.keep(&mut self.fields, keys);
    }

    /// Moves fields for features that do not exist here into the envelope, as long as they are off: Keras 3's
    /// `loss_scale_factor`, PyTorch's `maximize`, and so on. Call it when the fields that do exist have been read.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotSupported`] for a field that asks for something.
    pub fn keep_switched_off(&mut self, envelope: &mut Envelope) -> Result<(), ConfigError> {
        let found: Vec<Known> = Known::among(&self.class_name, &self.fields).collect();
        for known in found {
            known.require_off(&self.class_name, &self.fields[known.key])?;
            self.keep(envelope, &[known.key]);
        }
        Ok(())
    }

    /// Takes a field that must be present.
    ///
    /// # Errors
    ///
    /// When it is missing or has another type.
    pub fn required<V: HyperparameterValue>(&mut self, key: &str) -> Result<V, ConfigError> {
        self.optional(key)?.ok_or_else(|| ConfigError::missing_key(&self.class_name, key))
    }

    /// Takes a field, or the default if it is missing.
    ///
    /// # Errors
    ///
    /// When it has another type.
    pub fn or<V: HyperparameterValue>(&mut self, key: &str, default: V) -> Result<V, ConfigError> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// Takes a field that may be missing.
    ///
    /// # Errors
    ///
    /// When it has another type.
    pub fn optional<V: HyperparameterValue>(&mut self, key: &str) -> Result<Option<V>, ConfigError> {
        let Some(value) = self.remove(key) else { return Ok(None) };
        if value.is_null() && self.null_is_default(key) {
            return Ok(None);
        }
        match V::from_json(&value, self.schedules)? {
            None => Err(ConfigError::wrong_type(&self.class_name, key, &value, &V::expected())),
            read => Ok(read),
        }
    }

    /// Takes a field that may be missing or `null`.
    ///
    /// # Errors
    ///
    /// When it has another type.
    pub fn nullable<V: HyperparameterValue>(&mut self, key: &str) -> Result<Option<V>, ConfigError> {
        let Some(value) = self.remove(key).filter(|value| !value.is_null()) else { return Ok(None) };
        match V::from_json(&value, self.schedules)? {
            None => Err(ConfigError::wrong_type(&self.class_name, key, &value, &format!("{} or null", V::expected()))),
            read => Ok(read),
        }
    }

    /// Takes a list of texts, or an empty list if it is missing.
    ///
    /// # Errors
    ///
    /// When it has another type.
    pub fn string_list(&mut self, key: &str) -> Result<Vec<String>, ConfigError> {
        let texts = |value: &Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let Some(value) = self.fields.remove(key).filter(|value| !value.is_null()) else { return Ok(vec![]) };
        texts(&value).ok_or_else(|| ConfigError::wrong_type(&self.class_name, key, &value, "a list of texts"))
    }

    /// Takes a field under its name or, if it is not there, under its old name. Takes both if they have the same value.
    fn remove(&mut self, key: &str) -> Option<Value> {
        let value = self.fields.remove(key);
        let has_name = |name: &&OldName| {
            name.today == key && name.class_name.is_none_or(|class_name| class_name == self.class_name)
        };
        let Some(name) = OldName::ALL.iter().find(has_name).filter(|_| self.form.is_legacy()) else {
            return value;
        };
        if value.is_none() || value.as_ref() == self.fields.get(name.old) {
            return self.fields.remove(name.old);
        }
        value
    }

    /// Whether `null` stands for the default: the legacy generation replaces an epsilon of `None` by its default.
    fn null_is_default(&self, key: &str) -> bool {
        key == "epsilon" && self.form.is_legacy()
    }

    /// Refuses fields that have not been read.
    ///
    /// # Errors
    ///
    /// Names the first field that is left.
    pub fn finish(self) -> Result<(), ConfigError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(key) => Err(ConfigError::unknown_key(&self.class_name, key)),
        }
    }
}
