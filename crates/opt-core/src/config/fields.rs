//! Reading the fields of one configuration, each exactly once.

use serde_json::Value;

use super::{Config, ConfigError, Envelope, Generation, ScheduleRegistry};
use crate::hyper::Hyper;

/// The fields of a configuration that are still to be read.
///
/// Every read takes the field away; [`finish`](Self::finish) then refuses whatever is left, so that no field is
/// ignored silently.
#[derive(Debug)]
pub struct Fields<'a> {
    class_name: String,
    fields: Config,
    generation: Generation,
    schedules: &'a ScheduleRegistry,
}

impl<'a> Fields<'a> {
    /// Starts to read.
    #[must_use]
    pub fn new(class_name: &str, fields: Config, schedules: &'a ScheduleRegistry) -> Self {
        let generation = Generation::of(&fields);
        Self { class_name: class_name.to_owned(), fields, generation, schedules }
    }

    /// The class that the configuration names, without package prefix.
    #[must_use]
    pub fn class_name(&self) -> &str {
        &self.class_name
    }

    /// Which generation the configuration speaks.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether a field is there and not yet read.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Takes a field as it is.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.fields.remove(key)
    }

    /// Moves fields without meaning into the envelope.
    pub fn keep(&mut self, envelope: &mut Envelope, keys: &[&str]) {
        envelope.keep(&mut self.fields, keys);
    }

    /// Takes a number.
    ///
    /// # Errors
    ///
    /// When it is missing or no number.
    pub fn f64(&mut self, key: &str) -> Result<f64, ConfigError> {
        self.required(key, "a number", Value::as_f64)
    }

    /// Takes a number, or the default where there is none.
    ///
    /// # Errors
    ///
    /// When it is no number.
    pub fn f64_or(&mut self, key: &str, default: f64) -> Result<f64, ConfigError> {
        Ok(self.optional(key, "a number", Value::as_f64)?.unwrap_or(default))
    }

    /// Takes a number that may be missing or `null`.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn optional_f64(&mut self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.nullable(key, "a number or null", Value::as_f64)
    }

    /// Takes a whole number; `10000.0`, as Python writes `1e4`, is one.
    ///
    /// # Errors
    ///
    /// When it is missing, negative, or not whole.
    pub fn u64(&mut self, key: &str) -> Result<u64, ConfigError> {
        self.required(key, "a whole number of at least 0", whole)
    }

    /// Takes a whole number, or the default where there is none.
    ///
    /// # Errors
    ///
    /// When it is negative or not whole.
    pub fn u64_or(&mut self, key: &str, default: u64) -> Result<u64, ConfigError> {
        Ok(self.optional(key, "a whole number of at least 0", whole)?.unwrap_or(default))
    }

    /// Takes a whole number that may be missing or `null`.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn optional_u64(&mut self, key: &str) -> Result<Option<u64>, ConfigError> {
        self.nullable(key, "a whole number of at least 0, or null", whole)
    }

    /// Takes true or false, or the default where there is neither.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn bool_or(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        Ok(self.optional(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// Takes a text, or the default where there is none.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn string_or(&mut self, key: &str, default: &str) -> Result<String, ConfigError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(self.optional(key, "a text", text)?.unwrap_or_else(|| default.to_owned()))
    }

    /// Takes a list of numbers.
    ///
    /// # Errors
    ///
    /// When it is missing or something else.
    pub fn f64_list(&mut self, key: &str) -> Result<Vec<f64>, ConfigError> {
        self.required(key, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// Takes a list of whole numbers.
    ///
    /// # Errors
    ///
    /// When it is missing or something else.
    pub fn u64_list(&mut self, key: &str) -> Result<Vec<u64>, ConfigError> {
        self.required(key, "a list of whole numbers of at least 0", |value| {
            value.as_array()?.iter().map(whole).collect()
        })
    }

    /// Takes a list of texts; an empty one where there is none.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn string_list(&mut self, key: &str) -> Result<Vec<String>, ConfigError> {
        let texts = |value: &Value| {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        Ok(self.nullable(key, "a list of texts", texts)?.unwrap_or_default())
    }

    /// Takes a number or a serialised schedule.
    ///
    /// # Errors
    ///
    /// When it is missing, something else, or a schedule that cannot be read.
    pub fn hyper(&mut self, key: &str) -> Result<Hyper, ConfigError> {
        if self.fields.get(key).is_some_and(Value::is_null) {
            return Err(ConfigError::wrong_type(&self.class_name, key, &Value::Null, "a number or a schedule"));
        }
        self.optional_hyper(key)?.ok_or_else(|| self.missing(key))
    }

    /// Takes a number or a serialised schedule, or the default where there is none.
    ///
    /// # Errors
    ///
    /// When it is `null`, something else, or a schedule that cannot be read.
    pub fn hyper_or(&mut self, key: &str, default: f64) -> Result<Hyper, ConfigError> {
        if self.contains(key) { self.hyper(key) } else { Ok(default.into()) }
    }

    /// Takes a number, a serialised schedule, or `null`.
    ///
    /// # Errors
    ///
    /// When it is something else, or a schedule that cannot be read.
    pub fn optional_hyper(&mut self, key: &str) -> Result<Option<Hyper>, ConfigError> {
        match self.fields.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => self.schedules.hyper(&Value::Object(object)).map(Some),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number.into())),
                None => Err(ConfigError::wrong_type(&self.class_name, key, &value, "a number or a schedule")),
            },
        }
    }

    /// Takes a list of serialised schedules (numbers count as constant ones).
    ///
    /// # Errors
    ///
    /// When it is missing, something else, or one of them cannot be read.
    pub fn hyper_list(&mut self, key: &str) -> Result<Vec<Hyper>, ConfigError> {
        let items = self.required(key, "a list of schedules", |value| value.as_array().cloned())?;
        items.iter().map(|item| self.schedules.hyper(item)).collect()
    }

    /// Refuses what has not been read.
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

    fn missing(&self, key: &str) -> ConfigError {
        ConfigError::MissingKey { class_name: self.class_name.clone(), key: key.to_owned() }
    }

    fn required<V>(&mut self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<V>) -> Result<V, ConfigError> {
        self.optional(key, expected, read)?.ok_or_else(|| self.missing(key))
    }

    fn nullable<V>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<V>,
    ) -> Result<Option<V>, ConfigError> {
        if self.fields.get(key).is_some_and(Value::is_null) {
            self.fields.remove(key);
        }
        self.optional(key, expected, read)
    }

    fn optional<V>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<V>,
    ) -> Result<Option<V>, ConfigError> {
        let Some(value) = self.fields.remove(key) else { return Ok(None) };
        match read(&value) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::wrong_type(&self.class_name, key, &value, expected)),
        }
    }
}

/// A whole number, also when it is written with a decimal point.
fn whole(value: &Value) -> Option<u64> {
    /// 2^53: above, a float does not tell neighbouring whole numbers apart.
    const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..=LARGEST_EXACT).contains(&number)).then_some(number as u64)
    })
}
