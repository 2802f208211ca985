//! The types that a hyperparameter may have: how they are read, written and checked.

use serde_json::Value;

use super::{
    AtLeast, ConfigError, HyperparameterError, HyperparameterKind, Interval, ScheduleRegistry, Steps, require,
};
use crate::hyper::Hyper;

/// A type that a hyperparameter may have.
///
/// These are `f64`, `u64`, [`Steps`], `bool`, [`Hyper`] (a number or a schedule), `Option<f64>`, lists of numbers and
/// schedules, and every [`Choice`].
pub trait HyperparameterValue: Sized {
    /// The type of a default in a declaration, such as `0.9`. It is the type itself, except for [`Hyper`], where it is
    /// a number.
    type Literal: Into<Self>;

    /// The type of a range in a declaration; `()` for types without ranges. The default range has every value.
    type Range: Default;

    /// The values that a configuration may have here, in words.
    fn expected() -> String;

    /// Reads a value; `None` if it has another type.
    ///
    /// # Errors
    ///
    /// When it is a schedule that cannot be read.
    fn from_json(value: &Value, schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError>;

    /// The reverse of [`from_json`](Self::from_json).
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotSerializable`] when the value holds code.
    fn to_json(&self) -> Result<Value, ConfigError>;

    /// The description of the type and the range, for documents.
    fn kind(range: Self::Range) -> HyperparameterKind;

    /// Refuses a value that is out of range.
    ///
    /// # Errors
    ///
    /// Names the field, its value and the range.
    fn check(&self, name: &str, range: Self::Range) -> Result<(), HyperparameterError>;
}

/// A hyperparameter that takes one of a few names.
///
/// # Examples
///
/// ```
/// use opt_core::config::{Choice, HyperparameterValue};
///
/// #[derive(Debug, Clone, Copy, PartialEq)]
/// enum Shape {
///     Cosine,
///     Linear,
/// }
///
/// impl Choice for Shape {
///     const CHOICES: &'static [(&'static str, Self)] = &[("cos", Self::Cosine), ("linear", Self::Linear)];
/// }
///
/// assert_eq!(Shape::Cosine.to_json()?, "cos");
/// assert_eq!(Shape::expected(), r#""cos" or "linear""#);
/// # Ok::<(), opt_core::config::ConfigError>(())
/// ```
pub trait Choice: Copy + PartialEq + 'static {
    /// All values, with their names in configurations.
    const CHOICES: &'static [(&'static str, Self)];
}

impl HyperparameterValue for f64 {
    type Literal = Self;
    type Range = Interval;

    fn expected() -> String {
        "a number".to_owned()
    }
    fn from_json(value: &Value, _schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError> {
        Ok(value.as_f64())
    }
    fn to_json(&self) -> Result<Value, ConfigError> {
        Ok((*self).into())
    }
    fn kind(range: Interval) -> HyperparameterKind {
        HyperparameterKind::Number(range)
    }
    fn check(&self, name: &str, range: Interval) -> Result<(), HyperparameterError> {
        require(name, *self, range)
    }
}

impl HyperparameterValue for Option<f64> {
    type Literal = Self;
    type Range = Interval;

    fn expected() -> String {
        "a number or null".to_owned()
    }
    fn from_json(value: &Value, schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError> {
        if value.is_null() { Ok(Some(None)) } else { Ok(f64::from_json(value, schedules)?.map(Some)) }
    }
    fn to_json(&self) -> Result<Value, ConfigError> {
        Ok((*self).into())
    }
    fn kind(range: Interval) -> HyperparameterKind {
        HyperparameterKind::OptionalNumber(range)
    }
    fn check(&self, name: &str, range: Interval) -> Result<(), HyperparameterError> {
        self.map_or(Ok(()), |number| require(name, number, range))
    }
}

impl HyperparameterValue for u64 {
    type Literal = Self;
    type Range = AtLeast;

    fn expected() -> String {
        "a whole number of at least 0".to_owned()
    }
    fn from_json(value: &Value, _schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError> {
        Ok(whole(value))
    }
    fn to_json(&self) -> Result<Value, ConfigError> {
        Ok((*self).into())
    }
    fn kind(AtLeast(least): AtLeast) -> HyperparameterKind {
        HyperparameterKind::Integer(least)
    }
    fn check(&self, name: &str, AtLeast(least): AtLeast) -> Result<(), HyperparameterError> {
        if *self >= least {
            return Ok(());
        }
        Err(HyperparameterError::new(name, *self as f64, format!("a whole number of at least {least}")))
    }
}

impl HyperparameterValue for bool {
    type Literal = Self;
    type Range = ();

    fn expected() -> String {
        "true or false".to_owned()
    }
    /// Also takes what Python takes for true and false: 1, 0 and `null`.
    fn from_json(value: &Value, _schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError> {
        Ok(match value.as_f64() {
            Some(0.0) => Some(false),
            Some(1.0) => Some(true),
            _ if value.is_null() => Some(false),
            _ => value.as_bool(),
        })
    }
    fn to_json(&self) -> Result<Value, ConfigError> {
        Ok((*self).into())
    }
    fn kind((): ()) -> HyperparameterKind {
        HyperparameterKind::Bool
    }
    fn check(&self, _name: &str, (): ()) -> Result<(), HyperparameterError> {
        Ok(())
    }
}

impl HyperparameterValue for Hyper {
    type Literal = f64;
    type Range = Interval;

    fn expected() -> String {
        "a number or a schedule".to_owned()
    }
    fn from_json(value: &Value, schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError> {
        if value.is_object() { schedules.hyper(value).map(Some) } else { Ok(value.as_f64().map(Self::from)) }
    }
    fn to_json(&self) -> Result<Value, ConfigError> {
        self.to_json()
    }
    fn kind(range: Interval) -> HyperparameterKind {
        HyperparameterKind::NumberOrSchedule(range)
    }
    /// An error of a schedule names the field of the schedule, too: `weight_decay.decay_steps`.
    fn check(&self, name: &str, range: Interval) -> Result<(), HyperparameterError> {
        let result = self.validate(name, range);
        match self {
            Self::Constant(_) => result,
            Self::Schedule(_) => {
                result.map_err(|error| HyperparameterError { name: format!("{name}.{}", error.name), ..error })
            }
        }
    }
}

impl<C: Choice> HyperparameterValue for C {
    type Literal = Self;
    type Range = ();

    fn expected() -> String {
        let names: Vec<String> = C::CHOICES.iter().map(|(name, _)| format!("{name:?}")).collect();
        match names.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
    fn from_json(value: &Value, _schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError> {
        Ok(C::CHOICES.iter().find(|(name, _)| value == name).map(|(_, choice)| *choice))
    }
    fn to_json(&self) -> Result<Value, ConfigError> {
        let name = C::CHOICES.iter().find(|(_, choice)| choice == self).map(|(name, _)| *name);
        Ok(name.into())
    }
    fn kind((): ()) -> HyperparameterKind {
        HyperparameterKind::Choice(C::CHOICES.iter().map(|(name, _)| *name).collect())
    }
    fn check(&self, _name: &str, (): ()) -> Result<(), HyperparameterError> {
        Ok(())
    }
}

/// Lists are checked element by element. An error names the element: `values[1]`.
macro_rules! list {
    ($element:ty, range: $range:ty, expected: $expected:literal, kind: $kind:expr) => {
        impl HyperparameterValue for Vec<$element> {
            type Literal = Self;
            type Range = $range;

            fn expected() -> String {
                $expected.to_owned()
            }
            fn from_json(value: &Value, schedules: &ScheduleRegistry) -> Result<Option<Self>, ConfigError> {
                let Some(items) = value.as_array() else { return Ok(None) };
                items.iter().map(|item| <$element>::from_json(item, schedules)).collect()
            }
            fn to_json(&self) -> Result<Value, ConfigError> {
                self.iter().map(HyperparameterValue::to_json).collect()
            }
            fn kind(range: $range) -> HyperparameterKind {
                let kind: fn($range) -> HyperparameterKind = $kind;
                kind(range)
            }
            fn check(&self, name: &str, range: $range) -> Result<(), HyperparameterError> {
                let mut items = self.iter().enumerate();
                items.try_for_each(|(index, item)| item.check(&format!("{name}[{index}]"), range))
            }
        }
    };
}

list!(f64, range: Interval, expected: "a list of numbers", kind: HyperparameterKind::Numbers);
list!(Steps, range: Interval, expected: "a list of numbers", kind: HyperparameterKind::Numbers);
list!(u64, range: AtLeast, expected: "a list of whole numbers of at least 0", kind: |_| HyperparameterKind::Integers);
list!(Hyper, range: Interval, expected: "a list of schedules", kind: |_| HyperparameterKind::Schedules);

/// A value without the objects that Keras wraps around tensors and arrays:
/// `{"class_name": "__tensor__", "config": {"value": 0.1, "dtype": "float32"}}`.
pub(super) fn unwrapped(value: &Value) -> Value {
    if let Value::Array(items) = value {
        return items.iter().map(unwrapped).collect();
    }
    let is_wrapped = matches!(value["class_name"].as_str(), Some("__tensor__" | "__numpy__"));
    value.pointer("/config/value").filter(|_| is_wrapped).unwrap_or(value).clone()
}

/// A whole number, also if it is written with a decimal point, such as `10000.0` (Python writes `1e4` so).
pub(super) fn whole(value: &Value) -> Option<u64> {
    /// 2^53: above it, floats cannot tell neighbouring whole numbers apart.
    const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..=LARGEST_EXACT).contains(&number)).then_some(number as u64)
    })
}
