//! From class names to rules and schedules. Anyone can register classes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::value::unwrapped;
use super::{Config, ConfigError, Envelope, Fields, FromFields, HyperparameterSpec};
use crate::hyper::Hyper;
use crate::real::Scalar;
use crate::rule::UpdateRule;
use crate::schedule::Schedule;

/// A rule that can be read from a configuration.
///
/// Every rule that implements [`FromFields`] implements it. A wrapper implements it directly: it reads the rule inside
/// through the registry.
pub trait FromConfig<T: Scalar>: UpdateRule<T> + Sized + 'static {
    /// The class name in configurations.
    const CLASS_NAME: &'static str;

    /// The rule's own fields, which [`Configurable::config`](super::Configurable::config) writes. Tables in the
    /// documents are generated from this list.
    #[must_use]
    fn hyperparameters() -> Vec<HyperparameterSpec> {
        Vec::new()
    }

    /// Reads the rule's own fields. The other fields belong to the engine, or are refused by it.
    ///
    /// # Errors
    ///
    /// When a field is missing or has the wrong type.
    fn from_config(fields: &mut Fields<'_>, registry: &Registry<T>) -> Result<Self, ConfigError>;
}

impl<T: Scalar, R: UpdateRule<T> + FromFields> FromConfig<T> for R {
    const CLASS_NAME: &'static str = <R as FromFields>::CLASS_NAME;

    fn hyperparameters() -> Vec<HyperparameterSpec> {
        <R as FromFields>::hyperparameters()
    }

    fn from_config(fields: &mut Fields<'_>, _registry: &Registry<T>) -> Result<Self, ConfigError> {
        Self::from_fields(fields)
    }
}

type ReadSchedule = fn(&mut Fields<'_>) -> Result<Arc<dyn Schedule>, ConfigError>;

/// A function that reads a rule from its fields, and rules inside it through the registry.
pub type ReadRule<T> = fn(&mut Fields<'_>, &Registry<T>) -> Result<Box<dyn UpdateRule<T>>, ConfigError>;

/// A registered class.
#[derive(Debug, Clone, Copy)]
struct Class<Read> {
    read: Read,
    hyperparameters: fn() -> Vec<HyperparameterSpec>,
}

/// The name of a registered class, whatever its case is; another name stays as it is.
fn canonical<C>(class_name: &str, classes: &BTreeMap<&'static str, C>) -> String {
    let exact = classes.get_key_value(class_name).map(|(name, _)| *name);
    let same = || classes.keys().copied().find(|name| name.eq_ignore_ascii_case(class_name));
    exact.or_else(same).unwrap_or(class_name).to_owned()
}

/// The schedules that configurations may name.
#[derive(Clone, Default)]
pub struct ScheduleRegistry {
    classes: BTreeMap<&'static str, Class<ReadSchedule>>,
}

impl ScheduleRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a schedule, or replaces the one with the same class name.
    #[doc(alias = "custom_objects")]
    pub fn register<S: Schedule + FromFields>(&mut self) -> &mut Self {
        let read: ReadSchedule = |fields| Ok(Arc::new(S::from_fields(fields)?));
        self.classes.insert(S::CLASS_NAME, Class { read, hyperparameters: S::hyperparameters });
        self
    }

    /// The fields of a class; an empty list if the class is unknown.
    #[must_use]
    pub fn hyperparameters(&self, class_name: &str) -> Vec<HyperparameterSpec> {
        self.classes.get(class_name).map_or_else(Vec::new, |class| (class.hyperparameters)())
    }

    /// The class names, sorted.
    pub fn class_names(&self) -> impl Iterator<Item = &'static str> {
        self.classes.keys().copied()
    }

    /// Reads a number or a serialised schedule.
    ///
    /// # Errors
    ///
    /// When the value is neither, its class is unknown, or one of its fields is unknown or not valid.
    pub fn hyper(&self, value: &Value) -> Result<Hyper, ConfigError> {
        if let Some(number) = unwrapped(value).as_f64() {
            return Ok(number.into());
        }
        let (class_name, mut config, mut envelope) = Envelope::open(value)?;
        envelope.keep(&mut config, &["name"]);
        let class_name = canonical(&class_name, &self.classes);
        let class = self.classes.get(class_name.as_str()).ok_or_else(|| ConfigError::UnknownClass {
            class_name: class_name.clone(),
            known: self.class_names().map(str::to_owned).collect(),
        })?;
        let mut fields = Fields::new(&class_name, config, self);
        let schedule = (class.read)(&mut fields)?;
        fields.finish()?;
        schedule.validate()?;
        if let Ok(written) = schedule.config() {
            envelope.remember(&written);
        }
        Ok(Hyper::from_schedule(schedule, envelope))
    }
}

impl fmt::Debug for ScheduleRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.class_names()).finish()
    }
}

/// The rules and schedules that configurations may name: Keras's `custom_objects`, made explicit.
///
/// The crate `optimizers` has a function that returns one with everything it knows.
#[derive(Clone)]
pub struct Registry<T> {
    rules: BTreeMap<&'static str, Class<ReadRule<T>>>,
    schedules: ScheduleRegistry,
}

impl<T: Scalar> Registry<T> {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self { rules: BTreeMap::new(), schedules: ScheduleRegistry::new() }
    }

    /// Adds a rule, or replaces the one with the same class name.
    pub fn register<R: FromConfig<T>>(&mut self) -> &mut Self {
        let read: ReadRule<T> = |fields, registry| Ok(Box::new(R::from_config(fields, registry)?));
        self.register_class(R::CLASS_NAME, R::hyperparameters, read)
    }

    /// Adds a class by the function that reads it, or replaces the one with the same class name. For a wrapper around
    /// any rule that a configuration names: such a wrapper has no type of its own.
    pub fn register_class(
        &mut self,
        class_name: &'static str,
        hyperparameters: fn() -> Vec<HyperparameterSpec>,
        read: ReadRule<T>,
    ) -> &mut Self {
        self.rules.insert(class_name, Class { read, hyperparameters });
        self
    }

    /// The fields of the class of a rule; an empty list if the class is unknown.
    #[must_use]
    pub fn hyperparameters(&self, class_name: &str) -> Vec<HyperparameterSpec> {
        self.rules.get(class_name).map_or_else(Vec::new, |class| (class.hyperparameters)())
    }

    /// Adds a schedule, or replaces the one with the same class name.
    pub fn register_schedule<S: Schedule + FromFields>(&mut self) -> &mut Self {
        self.schedules.register::<S>();
        self
    }

    /// The class names of the rules, sorted.
    pub fn class_names(&self) -> impl Iterator<Item = &'static str> {
        self.rules.keys().copied()
    }

    /// The schedules.
    #[must_use]
    pub fn schedules(&self) -> &ScheduleRegistry {
        &self.schedules
    }

    /// The schedules, to be changed.
    pub fn schedules_mut(&mut self) -> &mut ScheduleRegistry {
        &mut self.schedules
    }

    /// Starts to read the fields of a class. The case of its name does not matter, as in Keras: `"sgd"` is `"SGD"`.
    #[must_use]
    pub fn fields(&self, class_name: &str, config: Config) -> Fields<'_> {
        Fields::new(&canonical(class_name, &self.rules), config, &self.schedules)
    }

    /// Reads the rule that the class name of `fields` asks for. Fields that the rule does not take stay in `fields`.
    ///
    /// # Errors
    ///
    /// When the class is not registered, or one of its fields is missing or has the wrong type.
    pub fn rule(&self, fields: &mut Fields<'_>) -> Result<Box<dyn UpdateRule<T>>, ConfigError> {
        let class = self.rules.get(fields.class_name()).ok_or_else(|| ConfigError::UnknownClass {
            class_name: fields.class_name().to_owned(),
            known: self.class_names().map(str::to_owned).collect(),
        })?;
        (class.read)(fields, self)
    }
}

impl<T: Scalar> Default for Registry<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Scalar> fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("rules", &self.class_names().collect::<Vec<_>>())
            .field("schedules", &self.schedules)
            .finish()
    }
}
