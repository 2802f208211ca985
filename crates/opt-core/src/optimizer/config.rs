//! Reads optimizers from Keras's JSON, and writes them.

mod groups;
mod scaled;

use serde_json::{Value, json};

use scaled::Scaled;

use super::builder::Options;
use super::{DynOptimizer, Optimizer, OptimizerBuilder};
use crate::config::{
    Config, ConfigError, Dialect, Envelope, Fields, FromConfig, Interval, KERAS_3, Registry, Steps, Target,
    bare_fields, express, is_model, optimizer_of,
};
use crate::decay::Exclude;
use crate::ema::Ema;
use crate::error::Error;
use crate::group::Group;
use crate::master::Master;
use crate::moments::MomentStorage;
use crate::real::Scalar;
use crate::report::NonFinite;
use crate::rule::UpdateRule;

/// Keys of Keras optimizers that have no effect here.
const WITHOUT_MEANING: [&str; 3] = ["name", "jit_compile", "is_legacy_optimizer"];

/// Our key for the engine's weight decay, where the rule has a `weight_decay` of its own.
const DECOUPLED: &str = "decoupled_weight_decay";

impl<T: Scalar> OptimizerBuilder<Box<dyn UpdateRule<T>>, T> {
    /// Reads the configuration of any registered class: the result of `keras.optimizers.serialize`, of both generations
    /// of Keras 2, of Keras 3 and of TensorFlow Addons, or of [`Optimizer::to_config`].
    ///
    /// Also takes what `keras.optimizers.get` takes, a class name such as `"sgd"` in any case, and what Keras stores
    /// with a compiled model: `config.json` of a `.keras` file, and `training_config` of an `.h5` file.
    ///
    /// # Errors
    ///
    /// When the class or a key is unknown or not supported, or a value has the wrong type.
    /// [`build`](OptimizerBuilder::build) checks the ranges.
    pub fn from_config(config: &Value, registry: &Registry<T>) -> Result<Self, ConfigError> {
        let config = optimizer_of(config);
        if let Some((scaled, inner)) = Scaled::of(config, registry.schedules())? {
            let mut builder = Self::from_config(&inner, registry)?;
            scaled.apply(&mut builder.options, inner)?;
            return Ok(builder);
        }
        let (class_name, fields, envelope) = Envelope::open(config)?;
        let mut reader = registry.fields(&class_name, told_apart(fields));
        let rule = registry.rule(&mut reader).map_err(|error| match error {
            ConfigError::UnknownClass { .. } if is_model(config) => ConfigError::WithoutOptimizer { found: class_name },
            other => other,
        })?;
        Self::new(rule).read_options(reader, envelope, registry)
    }
}

impl<T: Scalar> DynOptimizer<T> {
    /// Reads a configuration and builds the optimizer: see [`OptimizerBuilder::from_config`].
    ///
    /// # Errors
    ///
    /// When a class or a key is unknown, a value has the wrong type, or a number is out of range.
    pub fn from_config(config: &Value, registry: &Registry<T>) -> Result<Self, Error> {
        OptimizerBuilder::from_config(config, registry)?.build()
    }
}

impl<R: FromConfig<T>, T: Scalar> OptimizerBuilder<R, T> {
    /// Reads the configuration of one class into its own type. The registry is for schedules and wrapped rules.
    ///
    /// Also takes the fields alone, as `get_config()` returns them.
    ///
    /// # Errors
    ///
    /// As [`from_config`](OptimizerBuilder::from_config), and [`ConfigError::OtherClass`].
    pub fn from_config_of(config: &Value, registry: &Registry<T>) -> Result<Self, ConfigError> {
        let config = optimizer_of(config);
        if let Some((scaled, inner)) = Scaled::of(config, registry.schedules())? {
            let mut builder = Self::from_config_of(&inner, registry)?;
            scaled.apply(&mut builder.options, inner)?;
            return Ok(builder);
        }
        let (found, fields, envelope) = match bare_fields(config) {
            Some(fields) => Envelope::open(&json!({"class_name": R::CLASS_NAME, "config": fields}))?,
            None => Envelope::open(config)?,
        };
        if !found.eq_ignore_ascii_case(R::CLASS_NAME) {
            return Err(ConfigError::OtherClass { found, expected: R::CLASS_NAME });
        }
        let mut reader = registry.fields(R::CLASS_NAME, told_apart(fields));
        let rule = R::from_config(&mut reader, registry)?;
        Self::new(rule).read_options(reader, envelope, registry)
    }
}

impl<R: UpdateRule<T>, T: Scalar> OptimizerBuilder<R, T> {
    /// Reads the engine's options from the fields that the rule has left, and refuses keys that nobody has read.
    fn read_options(
        mut self,
        mut reader: Fields<'_>,
        mut envelope: Envelope,
        registry: &Registry<T>,
    ) -> Result<Self, ConfigError> {
        reader.keep(&mut envelope, &WITHOUT_MEANING);
        let dialect = self.rule.dialect();
        // A wrapper, or a rule with a single dialect, may be given its key, too.
        if reader.is(Dialect::KEY, dialect.name()) {
            reader.keep(&mut envelope, &[Dialect::KEY]);
        }
        let is_of_keras3 = KERAS_3.iter().any(|key| reader.contains(key));
        let options = &mut self.options;
        options.clip.norm = read_limit(&mut reader, "clipnorm", dialect)?;
        options.clip.value = read_limit(&mut reader, "clipvalue", dialect)?;
        options.clip.global_norm = read_limit(&mut reader, "global_clipnorm", dialect)?;
        let decoupled = reader.nullable(DECOUPLED)?;
        options.weight_decay.is_called_decoupled = decoupled.is_some();
        options.weight_decay.rate = match decoupled {
            Some(rate) => Some(rate),
            // A class with a default takes no `null`, as in Keras.
            None if options.weight_decay.rate.is_some() => {
                reader.optional("weight_decay")?.or(options.weight_decay.rate.take())
            }
            None => reader.nullable("weight_decay")?,
        };
        if let Some(exclude) = reader.take("exclude_from_weight_decay").filter(|exclude| !exclude.is_null()) {
            options.weight_decay.set_exclude(read_exclude(&exclude)?);
        }
        options.use_ema = reader.or("use_ema", false)?;
        options.ema = if options.use_ema { read_ema(&mut reader)? } else { read_unused_ema(&mut reader)? };
        options.ema.includes_all = is_of_keras3;
        options.has_keras3_keys = is_of_keras3;
        scaled::read(&mut reader, options)?;
        options.non_finite = read_non_finite(&mut reader)?;
        options.moments = read_moments(&mut reader)?;
        options.master = read_master(&mut reader)?;
        options.flush_denormals = reader.or("flush_denormals", true)?;
        self.groups = groups::read(&mut reader, registry)?;
        reader.keep_switched_off(&mut envelope)?;
        reader.finish()?;

        if let Ok(written) = self.options.write(&self.rule, &self.groups) {
            envelope.remember(&written);
        }
        self.options.envelope = envelope;
        Ok(self)
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The configuration, `{"class_name": ..., "config": {...}}`. A run depends on nothing else than the configuration,
    /// the [`weights`](Self::weights) and the variables.
    ///
    /// A configuration that was read is written back key for key, with its own spelling of each value. The
    /// configuration of an optimizer that was made in code has the form of Keras 2.15 or, with the prefix `Addons>`, of
    /// TensorFlow Addons. Options that these do not have are written only when they are set.
    /// [`to_config_for`](Self::to_config_for) writes for another library, and refuses what it cannot express.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotSerializable`] when a schedule holds code.
    #[doc(alias = "get_config")]
    pub fn to_config(&self) -> Result<Value, ConfigError> {
        let fields = self.options.write(&self.rule, self.groups.written())?;
        Ok(self.options.wrap(self.options.envelope.wrap(self.rule.class_name(), fields)))
    }

    /// The configuration as another library can read it, with `keras.optimizers.deserialize`.
    ///
    /// Every field is written, in the form of that library, wherever the optimizer's own configuration came from.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotExpressible`] names the first option or hyperparameter that the library cannot express, such
    /// as moments in 16 bits or another library's arithmetic; [`ConfigError::NoSuchClass`] names a rule or schedule
    /// that it does not have; [`ConfigError::NotSerializable`] when a schedule holds code.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::config::Target;
    /// use opt_core::{Exclude, Optimizer};
    /// use opt_sgd::Sgd;
    ///
    /// let opt = Optimizer::<_, f32>::builder(Sgd::new(0.5).momentum(0.9)).weight_decay(0.25).build()?;
    /// let config = opt.to_config_for(Target::Keras3)?;
    /// assert_eq!((&config["module"], &config["config"]["momentum"]), (&"keras.optimizers".into(), &0.9.into()));
    /// assert!(config["config"].get("jit_compile").is_none()); // which Keras 3 would refuse
    ///
    /// let exclude = Exclude::patterns(["bias"]);
    /// let builder = Optimizer::<_, f32>::builder(Sgd::new(0.5)).weight_decay(0.25);
    /// let opt = builder.exclude_from_weight_decay(exclude).build()?;
    /// let error = opt.to_config_for(Target::Keras3).unwrap_err();
    /// assert!(error.to_string().starts_with("Keras 3 cannot express SGD with exclude_from_weight_decay = "));
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn to_config_for(&self, target: Target) -> Result<Value, ConfigError> {
        let has_keras3_keys = target == Target::Keras3;
        let options = Options { loss_scale: None, has_keras3_keys, ..self.options.clone() };
        let mut fields = options.write(&self.rule, self.groups.written())?;
        if let Some(name) = self.options.envelope.name() {
            fields.insert("name".to_owned(), name.into());
        }
        let expressed = express(target, self.rule.class_name(), self.rule.dialect(), fields)?;
        Ok(match self.options.loss_scale {
            Some(loss_scale) => scaled::express(target, loss_scale, expressed),
            None => expressed,
        })
    }
}

impl Options {
    /// The fields of rule and engine together.
    fn write<R: UpdateRule<T>, T: Scalar>(&self, rule: &R, groups: &[Group<T>]) -> Result<Config, ConfigError> {
        let mut fields = rule.config()?;
        let dialect = rule.dialect();
        // Keras's newer generation writes its keys also where they are off.
        let new = dialect == Dialect::Keras;
        fields.insert("name".to_owned(), rule.class_name().into());
        for (key, limit) in self.clip.named() {
            put(&mut fields, key, limit.map(Value::from), new);
        }
        let rate = self.weight_decay.rate.as_ref().map(crate::hyper::Hyper::to_json).transpose()?;
        let coupled = fields.get("weight_decay").and_then(Value::as_f64);
        if dialect == Dialect::Pytorch && coupled == Some(0.0) && rate.is_some() {
            put(&mut fields, "weight_decay", rate, false);
            fields.insert(DECOUPLED.to_owned(), true.into());
        } else if fields.contains_key("weight_decay") || self.weight_decay.is_called_decoupled {
            put(&mut fields, DECOUPLED, rate, false);
        } else {
            put(&mut fields, "weight_decay", rate, new);
        }
        let exclude = self.weight_decay.exclude();
        put(&mut fields, "exclude_from_weight_decay", (!exclude.is_empty()).then(|| write_exclude(exclude)), false);
        if new || self.use_ema {
            fields.insert("use_ema".to_owned(), self.use_ema.into());
            fields.insert("ema_momentum".to_owned(), self.ema.momentum.into());
            fields.insert("ema_overwrite_frequency".to_owned(), self.ema.overwrite_frequency.into());
        }
        if self.use_ema && self.ema.includes_all {
            // The form of Keras 3, whose averages these are.
            fields.extend(KERAS_3.map(|key| (key.to_owned(), Value::Null)));
        } else if new {
            fields.insert("is_legacy_optimizer".to_owned(), false.into());
            fields.insert("jit_compile".to_owned(), false.into());
        } else if self.use_ema {
            fields.insert("is_legacy_optimizer".to_owned(), dialect.is_legacy().into());
        }
        let non_finite = match self.non_finite {
            NonFinite::Propagate => None,
            NonFinite::SkipStep => Some("skip_step".into()),
            NonFinite::Error => Some("error".into()),
        };
        put(&mut fields, "non_finite", non_finite, false);
        let moments = match self.moments {
            MomentStorage::Full => None,
            MomentStorage::Bf16 { seed } => Some(json!({"dtype": "bfloat16", "seed": seed})),
            MomentStorage::Float8 { seed } => Some(json!({"dtype": "float8", "seed": seed})),
        };
        put(&mut fields, "moments", moments, false);
        let master = match self.master {
            Master::Full => None,
            Master::Bits24 { seed } => Some(json!({"bits": 24, "seed": seed})),
            Master::None { seed } => Some(json!({"bits": 16, "seed": seed})),
        };
        put(&mut fields, "master", master, false);
        scaled::write(&mut fields, self, dialect);
        put(&mut fields, groups::KEY, groups::write(groups)?, false);
        put(&mut fields, "flush_denormals", (!self.flush_denormals).then(|| false.into()), false);
        Ok(fields)
    }
}

/// PyTorch's `decoupled_weight_decay` is true or false, and says what `weight_decay` is. Here each weight decay has its
/// own key.
fn told_apart(mut fields: Config) -> Config {
    if fields.get(Dialect::KEY).is_some_and(|dialect| dialect == Dialect::Pytorch.name()) {
        fields.retain(|key, value| key != "weight_decay" || !value.is_null());
    }
    if let Some(&Value::Bool(decoupled)) = fields.get(DECOUPLED) {
        fields.remove(DECOUPLED);
        if decoupled && let Some(rate) = fields.remove("weight_decay") {
            fields.insert(DECOUPLED.to_owned(), rate);
        }
    }
    fields
}

/// Writes a field if it is set. Writes `null` otherwise where the class always has the key.
fn put(fields: &mut Config, key: &str, value: Option<Value>, always: bool) {
    if always || value.is_some() {
        fields.insert(key.to_owned(), value.unwrap_or(Value::Null));
    }
}

/// A limit of a clip. Newer generations of Keras take 0 and negative numbers for no limit; the legacy one clips every
/// gradient to nothing, which is refused as out of range.
fn read_limit(reader: &mut Fields<'_>, key: &str, dialect: Dialect) -> Result<Option<f64>, ConfigError> {
    let limit: Option<f64> = reader.nullable(key)?;
    Ok(limit.filter(|limit| dialect != Dialect::Keras || *limit > 0.0))
}

/// An overwrite frequency of 0 means never.
fn read_ema(reader: &mut Fields<'_>) -> Result<Ema, ConfigError> {
    let mut ema = Ema::new(reader.or("ema_momentum", Ema::default().momentum)?);
    ema.overwrite_frequency = reader.nullable("ema_overwrite_frequency")?.filter(|frequency| *frequency != 0);
    Ok(ema)
}

/// Without averages, Keras looks at neither field. Values that averages could not have are written back, but not used.
fn read_unused_ema(reader: &mut Fields<'_>) -> Result<Ema, ConfigError> {
    let mut ema = Ema::default();
    let momentum: Option<f64> = reader.nullable("ema_momentum")?;
    if let Some(momentum) = momentum.filter(|momentum| Interval::UNIT.contains(*momentum)) {
        ema.momentum = momentum;
    }
    let frequency: Option<f64> = reader.nullable("ema_overwrite_frequency")?;
    ema.overwrite_frequency = frequency.and_then(|frequency| Steps::from(frequency).whole()).filter(|steps| *steps > 0);
    Ok(ema)
}

fn read_exclude(value: &Value) -> Result<Exclude, ConfigError> {
    let class_name = "exclude_from_weight_decay";
    let Value::Object(config) = value else {
        return Err(ConfigError::wrong_type(class_name, class_name, value, "an object with var_names and var_list"));
    };
    let schedules = crate::config::ScheduleRegistry::new();
    let mut fields = Fields::new(class_name, config.clone(), &schedules);
    let exclude = Exclude::patterns(fields.string_list("var_names")?).and_names(fields.string_list("var_list")?);
    fields.finish()?;
    Ok(exclude)
}

fn write_exclude(exclude: &Exclude) -> Value {
    let mut fields = Config::new();
    let (patterns, names) = (exclude.pattern_texts(), exclude.name_texts());
    if !patterns.is_empty() {
        fields.insert("var_names".to_owned(), patterns.into());
    }
    if !names.is_empty() {
        fields.insert("var_list".to_owned(), names.into());
    }
    Value::Object(fields)
}

fn read_non_finite(reader: &mut Fields<'_>) -> Result<NonFinite, ConfigError> {
    const KEY: &str = "non_finite";
    let Some(value) = reader.take(KEY) else { return Ok(NonFinite::Propagate) };
    match value.as_str() {
        Some("propagate") => Ok(NonFinite::Propagate),
        Some("skip_step") => Ok(NonFinite::SkipStep),
        Some("error") => Ok(NonFinite::Error),
        _ => {
            let expected = "\"propagate\", \"skip_step\" or \"error\"";
            Err(ConfigError::wrong_type(reader.class_name(), KEY, &value, expected))
        }
    }
}

fn read_moments(reader: &mut Fields<'_>) -> Result<MomentStorage, ConfigError> {
    const KEY: &str = "moments";
    let Some(value) = reader.take(KEY) else { return Ok(MomentStorage::Full) };
    let fields = value.as_object().filter(|fields| fields.len() == 2);
    let field = |name: &str| fields.and_then(|fields| fields.get(name));
    match (field("dtype").and_then(Value::as_str), field("seed").and_then(Value::as_u64)) {
        (Some("bfloat16"), Some(seed)) => Ok(MomentStorage::Bf16 { seed }),
        (Some("float8"), Some(seed)) => Ok(MomentStorage::Float8 { seed }),
        _ => {
            let expected = "an object with \"dtype\": \"bfloat16\" or \"float8\", and a \"seed\" of at least 0";
            Err(ConfigError::wrong_type(reader.class_name(), KEY, &value, expected))
        }
    }
}

fn read_master(reader: &mut Fields<'_>) -> Result<Master, ConfigError> {
    const KEY: &str = "master";
    let Some(value) = reader.take(KEY) else { return Ok(Master::Full) };
    let fields = value.as_object().filter(|fields| fields.len() == 2);
    let field = |name: &str| fields.and_then(|fields| fields.get(name)).and_then(Value::as_u64);
    match (field("bits"), field("seed")) {
        (Some(24), Some(seed)) => Ok(Master::Bits24 { seed }),
        (Some(16), Some(seed)) => Ok(Master::None { seed }),
        _ => {
            let expected = "an object with \"bits\": 24 or 16, and a \"seed\" of at least 0";
            Err(ConfigError::wrong_type(reader.class_name(), KEY, &value, expected))
        }
    }
}
