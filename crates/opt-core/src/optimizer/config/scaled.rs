//! Loss scales and gradient accumulation in configurations: Keras's `LossScaleOptimizer`, which is written around the
//! optimizer, keys of Keras 3, and our own keys.

use serde_json::{Value, json};

use super::super::builder::Options;
use crate::accumulate::Accumulate;
use crate::config::{Config, ConfigError, Dialect, Envelope, Fields, KERAS_3, ScheduleRegistry, Target};
use crate::loss_scale::LossScale;

/// Our key for a loss scale.
const LOSS_SCALE: &str = "loss_scale";

/// Our key for accumulation.
const ACCUMULATE: &str = "accumulate";

/// Keras 3's keys, for a fixed loss scale and for its own way to accumulate.
const FACTOR: &str = KERAS_3[0];
const STEPS: &str = KERAS_3[1];

/// Keras's names of the optimizer around another one: of Keras 3 and of the legacy generation, and of Keras 2.
const WRAPPERS: [&str; 2] = ["LossScaleOptimizer", "LossScaleOptimizerV3"];

const INNER: &str = "inner_optimizer";

/// Options of Keras 3 that its wrapper writes, and that have no effect there.
const OF_INNER: [&str; 8] =
    ["weight_decay", "clipnorm", "global_clipnorm", "clipvalue", "use_ema", "ema_overwrite_frequency", FACTOR, STEPS];

/// A loss scale that was written around an optimizer, and the form of the wrapper.
pub(super) struct Scaled {
    loss_scale: LossScale,
    envelope: Envelope,
}

impl Scaled {
    /// Splits a configuration into the wrapper and the optimizer inside; `None` if it has no wrapper.
    pub(super) fn of(config: &Value, schedules: &ScheduleRegistry) -> Result<Option<(Self, Value)>, ConfigError> {
        let class = config.get("class_name").and_then(Value::as_str).unwrap_or_default();
        let class = class.rsplit('>').next().unwrap_or_default();
        if !WRAPPERS.iter().any(|name| name.eq_ignore_ascii_case(class)) {
            return Ok(None);
        }
        let (class_name, fields, mut envelope) = Envelope::open(config)?;
        let mut reader = Fields::new(&class_name, fields, schedules);
        let inner = reader.take_required(INNER)?;
        let dynamic = reader.or("dynamic", true)?;
        let initial: Option<f64> = reader.nullable("initial_scale")?;
        let interval: Option<u64> = reader.nullable("dynamic_growth_steps")?;
        let loss_scale = if dynamic {
            let LossScale { initial: first, growth_interval } = LossScale::dynamic();
            LossScale { initial: initial.unwrap_or(first), growth_interval: interval.or(growth_interval) }
        } else {
            LossScale::fixed(initial.ok_or_else(|| ConfigError::missing_key(&class_name, "initial_scale"))?)
        };
        for key in OF_INNER {
            if let Some(value) = reader.peek(key).filter(|value| !is_off(value)) {
                return Err(ConfigError::not_supported(&class_name, key, value, "set it on the inner optimizer"));
            }
        }
        reader.keep(&mut envelope, &OF_INNER);
        reader.keep(&mut envelope, &["name", "ema_momentum", "learning_rate"]);
        reader.finish()?;
        Ok(Some((Self { loss_scale, envelope }, inner)))
    }

    /// Gives the loss scale to the options of the optimizer inside, whose configuration is `inner`.
    ///
    /// # Errors
    ///
    /// When the optimizer inside has a loss scale of its own.
    pub(super) fn apply(self, options: &mut Options, inner: Value) -> Result<(), ConfigError> {
        let Self { loss_scale, mut envelope } = self;
        if options.loss_scale.is_some() || options.wrapper.is_some() {
            let reason = "it scales the loss itself: LossScaleOptimizer takes an optimizer without a loss scale";
            return Err(ConfigError::not_supported(WRAPPERS[0], INNER, &inner, reason));
        }
        envelope.remember(&wrapped(loss_scale, inner));
        options.loss_scale = Some(loss_scale);
        options.wrapper = Some(envelope);
        Ok(())
    }
}

fn is_off(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

/// The fields of the wrapper.
fn wrapped(loss_scale: LossScale, inner: Value) -> Config {
    crate::config::fields([
        (INNER, inner),
        ("dynamic", loss_scale.growth_interval.is_some().into()),
        ("initial_scale", loss_scale.initial.into()),
        ("dynamic_growth_steps", loss_scale.growth_interval.into()),
    ])
}

/// Reads the keys inside an optimizer's configuration.
pub(super) fn read(reader: &mut Fields<'_>, options: &mut Options) -> Result<(), ConfigError> {
    let factor: Option<f64> = reader.nullable(FACTOR)?;
    options.loss_scale = match reader.take(LOSS_SCALE).filter(|value| !value.is_null()) {
        Some(value) if factor.is_some() => {
            let reason = "the same as loss_scale_factor: give one of them";
            return Err(ConfigError::not_supported(reader.class_name(), LOSS_SCALE, &value, reason));
        }
        Some(value) => Some(read_loss_scale(&value, reader)?),
        // A factor of 1 is none.
        None => factor.filter(|factor| *factor != 1.0).map(LossScale::fixed),
    };
    let steps = reader.take(STEPS).filter(|value| !is_off(value) && *value != 0 && *value != 1);
    let steps = steps.map(|value| {
        let wrong = || ConfigError::wrong_type(reader.class_name(), STEPS, &value, "a whole number or null");
        value.as_u64().ok_or_else(wrong)
    });
    options.accumulate = match (steps.transpose()?, reader.take(ACCUMULATE).filter(|value| !value.is_null())) {
        (Some(_), Some(value)) => {
            let reason = "the same as gradient_accumulation_steps: give one of them";
            return Err(ConfigError::not_supported(reader.class_name(), ACCUMULATE, &value, reason));
        }
        (Some(steps), None) => Some(Accumulate::keras3(steps)),
        (None, Some(value)) => Some(read_accumulate(&value, reader)?),
        (None, None) => None,
    };
    Ok(())
}

fn read_loss_scale(value: &Value, reader: &Fields<'_>) -> Result<LossScale, ConfigError> {
    let scale = || {
        let fields = value.as_object()?;
        let known = ["dynamic", "initial_scale", "dynamic_growth_steps"];
        let initial = fields.get("initial_scale")?.as_f64()?;
        let interval = fields.get("dynamic_growth_steps").filter(|steps| !steps.is_null());
        let growth_interval = match (fields.get("dynamic")?.as_bool()?, interval) {
            (true, Some(steps)) => Some(steps.as_u64()?),
            (true, None) => LossScale::dynamic().growth_interval,
            (false, None) => None,
            (false, Some(_)) => return None,
        };
        fields.keys().all(|key| known.contains(&key.as_str())).then_some(LossScale { initial, growth_interval })
    };
    let expected = "an object with \"dynamic\", \"initial_scale\" and, if dynamic, \"dynamic_growth_steps\"";
    scale().ok_or_else(|| ConfigError::wrong_type(reader.class_name(), LOSS_SCALE, value, expected))
}

fn read_accumulate(value: &Value, reader: &Fields<'_>) -> Result<Accumulate, ConfigError> {
    let accumulate = || {
        let fields = value.as_object().filter(|fields| fields.len() == 2)?;
        let steps = fields.get("steps")?.as_u64()?;
        match fields.get("reduction")?.as_str()? {
            "mean" => Some(Accumulate::mean(steps)),
            "sum" => Some(Accumulate::sum(steps)),
            "keras3" => Some(Accumulate::keras3(steps)),
            _ => None,
        }
    };
    let expected = "an object with \"steps\" and a \"reduction\" of \"mean\", \"sum\" or \"keras3\"";
    accumulate().ok_or_else(|| ConfigError::wrong_type(reader.class_name(), ACCUMULATE, value, expected))
}

/// Writes the keys inside an optimizer's configuration.
pub(super) fn write(fields: &mut Config, options: &Options, dialect: Dialect) {
    // Keras 3's keys also say that averages are those of Keras 3.
    let keras3 =
        dialect == Dialect::Keras && if options.use_ema { options.ema.includes_all } else { options.has_keras3_keys };
    match options.loss_scale.filter(|_| options.wrapper.is_none()) {
        None => {}
        Some(LossScale { initial, growth_interval: None }) if keras3 => {
            fields.insert(FACTOR.to_owned(), initial.into());
        }
        Some(LossScale { initial, growth_interval: None }) => {
            fields.insert(LOSS_SCALE.to_owned(), json!({"dynamic": false, "initial_scale": initial}));
        }
        Some(LossScale { initial, growth_interval: Some(steps) }) => {
            let scale = json!({"dynamic": true, "initial_scale": initial, "dynamic_growth_steps": steps});
            fields.insert(LOSS_SCALE.to_owned(), scale);
        }
    }
    match options.accumulate {
        None => {}
        // Keras 3 takes no 1.
        Some(Accumulate { steps: steps @ 2.., keras3: true, .. }) if keras3 => {
            fields.insert(STEPS.to_owned(), steps.into());
        }
        Some(Accumulate { steps, mean, keras3 }) => {
            let reduction = match (keras3, mean) {
                (true, _) => "keras3",
                (false, true) => "mean",
                (false, false) => "sum",
            };
            fields.insert(ACCUMULATE.to_owned(), json!({"steps": steps, "reduction": reduction}));
        }
    }
}

impl Options {
    /// Writes the wrapper around the optimizer's configuration, if it was read inside one.
    pub(super) fn wrap(&self, inner: Value) -> Value {
        match (&self.wrapper, self.loss_scale) {
            (Some(envelope), Some(loss_scale)) => envelope.wrap(WRAPPERS[0], wrapped(loss_scale, inner)),
            _ => inner,
        }
    }
}

/// The configuration of an optimizer with a loss scale, for a library.
pub(super) fn express(target: Target, loss_scale: LossScale, mut inner: Value) -> Value {
    if target == Target::Keras3 && loss_scale.growth_interval.is_none() {
        inner["config"][FACTOR] = loss_scale.initial.into();
        return inner;
    }
    let mut config = wrapped(loss_scale, inner);
    let in_keras2 = "keras.src.mixed_precision.loss_scale_optimizer";
    let (module, class_name) = match target {
        Target::Keras3 => {
            config.remove("dynamic");
            ("keras.optimizers", WRAPPERS[0])
        }
        Target::Keras2 => (in_keras2, WRAPPERS[1]),
        Target::KerasLegacy | Target::Addons => (in_keras2, WRAPPERS[0]),
    };
    let registered_name = if target == Target::Keras3 { Value::Null } else { class_name.into() };
    json!({"module": module, "class_name": class_name, "config": config, "registered_name": registered_name})
}
