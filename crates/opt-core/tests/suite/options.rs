//! What can be set, from code and from a configuration: each option with its effect, each field with its type.

use opt_core::config::fields;
use opt_core::config::{
    Config, ConfigError, Configurable, Dialect, Envelope, Fields, FromConfig, FromFields, HyperparameterSpec,
    Hyperparameters, ScheduleRegistry,
};
use opt_core::rule::{Kernel, SlotSpec, Step, elementwise};
use opt_core::{
    Ema, Error, Exclude, Hyper, IndexedSlices, Indices, MomentStorage, NonFinite, Optimizer, OptimizerBuilder,
    Registry, Schedule, UpdateRule, Variable,
};
use opt_sgd::Sgd;
use serde_json::{Value, json};

/// Falls by a half at every step.
#[derive(Debug)]
pub(super) struct Halving(pub(super) f64);

impl Schedule for Halving {
    fn value(&self, step: u64) -> f64 {
        self.0 * 0.5_f64.powf(step as f64)
    }
}

impl Configurable for Halving {
    fn class_name(&self) -> &str {
        "Halving"
    }
    fn config(&self) -> Result<Config, ConfigError> {
        Ok(fields([("initial", self.0.into()), ("steps", 1.into())]))
    }
    fn validate(&self) -> Result<(), opt_core::config::HyperparameterError> {
        opt_core::config::require("initial", self.0, 0.0..)
    }
}

impl FromFields for Halving {
    const CLASS_NAME: &'static str = "Halving";

    fn hyperparameters() -> Vec<HyperparameterSpec> {
        <Sgd as FromFields>::hyperparameters()
    }
    fn from_fields(fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        fields.or("steps", 1_u64)?;
        Ok(Self(fields.required("initial")?))
    }
}

fn registry<T: opt_core::Scalar>() -> Registry<T> {
    let mut registry = Registry::new();
    registry.register::<Sgd>().register_schedule::<Halving>();
    registry
}

/// Values after steps with gradients of 0 for variables of 1.
fn after_steps(builder: OptimizerBuilder<Sgd, f64>, names: [&str; 3], steps: usize) -> [f64; 3] {
    let mut opt = builder.build().unwrap();
    let mut values = [1.0; 3];
    for _ in 0..steps {
        let named = names.into_iter().zip(&mut values);
        opt.apply_gradients(named.map(|(name, value)| Variable::new(name, value).gradient(&0.0))).unwrap();
    }
    values
}

#[test]
fn excluded_variables_do_not_decay() {
    let decayed = |exclude: Exclude| {
        let builder = Optimizer::builder(Sgd::new(0.5)).weight_decay(0.5).exclude_from_weight_decay(exclude);
        after_steps(builder, ["a/bias", "head", "a/kernel"], 1)
    };
    assert_eq!(decayed(Exclude::default()), [0.75; 3]);
    assert_eq!(decayed(Exclude::patterns(["bias$"])), [1.0, 0.75, 0.75]);
    assert_eq!(decayed(Exclude::names(["head"])), [0.75, 1.0, 0.75]);
    assert_eq!(decayed(Exclude::patterns(["bias$"]).and_names(["head"])), [1.0, 1.0, 0.75]);
    let build = |exclude| {
        Optimizer::<_, f64>::builder(Sgd::new(0.5)).weight_decay(0.5).exclude_from_weight_decay(exclude).build()
    };
    let error = build(Exclude::patterns(["ok", "("])).unwrap_err();
    assert!(matches!(error, Error::Config(ConfigError::Pattern { pattern, .. }) if pattern == "("));
}

#[test]
fn exclusions_need_a_weight_decay() {
    let build = |exclude| Optimizer::<_, f64>::builder(Sgd::new(0.5)).exclude_from_weight_decay(exclude).build();
    assert_eq!(build(Exclude::names(["bias"])).unwrap_err(), Error::NothingToExcludeFrom);
    assert_eq!(build(Exclude::patterns(["bias$"])).unwrap_err(), Error::NothingToExcludeFrom);
    let mut opt = build(Exclude::default()).unwrap();
    assert_eq!(opt.exclude_from_weight_decay(Exclude::names(["bias"])), Err(Error::NothingToExcludeFrom));
    opt.exclude_from_weight_decay(Exclude::default()).unwrap();
}

#[test]
fn averages_overwrite_at_the_steps_asked_for() {
    let run = |ema: Ema| {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).ema(ema).build().unwrap();
        let mut w = [0.0];
        let mut seen = Vec::new();
        for _ in 0..4 {
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&[-8.0])]).unwrap();
            seen.push(w[0]);
        }
        seen
    };
    assert_eq!(run(Ema::new(0.5)), [8.0, 16.0, 24.0, 32.0]);
    // The average starts at 0 and is 4, then 10: the third step goes on from there.
    assert_eq!(run(Ema::new(0.5).overwrite_every(2)), [8.0, 10.0, 18.0, 20.0]);
    for (ema, field) in [
        (Ema::new(1.5), "ema_momentum"),
        (Ema::new(f64::NAN), "ema_momentum"),
        (Ema::new(0.5).overwrite_every(0), "ema_overwrite_frequency"),
    ] {
        let built = Optimizer::<_, f64>::builder(Sgd::new(1.0)).ema(ema).build();
        assert!(matches!(built, Err(Error::Hyperparameter(error)) if error.name == field), "{field}");
    }
}

#[test]
fn clips_exclude_each_other_and_are_above_zero() {
    let refused = |builder: OptimizerBuilder<Sgd, f64>| builder.build().unwrap_err();
    let new = || Optimizer::builder(Sgd::new(1.0));
    let error = refused(new().clipvalue(1.0).global_clipnorm(1.0));
    assert!(matches!(error, Error::Conflict { first: "global_clipnorm", second: "clipvalue" }), "{error}");
    let Error::Hyperparameter(error) = refused(new().clipnorm(0.0)) else { panic!("a limit of 0") };
    assert_eq!((error.name.as_ref(), error.expected.as_str()), ("clipnorm", "a number above 0"));
    assert!(Optimizer::<_, f64>::builder(Sgd::new(1.0).legacy()).clipvalue(1.0).clipnorm(1.0).build().is_ok());
}

#[test]
fn learning_rates_decay_and_follow_schedules() {
    let rate = Hyper::from(1.0);
    assert_eq!([0, 6].map(|step| rate.at(step)), [1.0, 1.0]);
    assert!(rate.validate("rate", 0.0..).is_ok() && rate.schedule().is_none() && !rate.is_scheduled());
    assert_eq!(Hyper::from(-1.0).validate("rate", 0.0..).unwrap_err().name, "rate");

    let rate = Hyper::from(Halving(1.0));
    assert_eq!([0, 1, 2].map(|step| rate.at(step)), [1.0, 0.5, 0.25]);
    assert_eq!(rate.schedule().map(|schedule| schedule.class_name().to_owned()), Some("Halving".to_owned()));
    assert!(rate.is_scheduled());
    assert_eq!(Hyper::from(Halving(-1.0)).validate("rate", 0.0..).unwrap_err().name, "initial");

    let mut rule = Sgd::new(Halving(1.0)).legacy().decay(1.0);
    assert_eq!([0, 1, 2].map(|step| UpdateRule::<f64>::learning_rate_at(&rule, step)), [1.0, 0.25, 0.25 / 3.0]);
    *rule.learning_rate_mut() = 2.0.into();
    assert_eq!(UpdateRule::<f64>::learning_rate_at(&rule, 3), 0.5);
}

#[test]
fn every_option_is_written_and_read() {
    let written = json!({"class_name": "SGD", "config": {
        "name": "SGD", "learning_rate": {"class_name": "Halving", "config": {"initial": 0.5, "steps": 1}},
        "momentum": 0.0, "nesterov": false, "clipnorm": null, "global_clipnorm": 2.0, "clipvalue": null,
        "weight_decay": 0.25, "exclude_from_weight_decay": {"var_names": ["bias$"], "var_list": ["head"]},
        "use_ema": true, "ema_momentum": 0.75, "ema_overwrite_frequency": 5, "is_legacy_optimizer": false,
        "jit_compile": false, "non_finite": "skip_step", "moments": {"dtype": "bfloat16", "seed": 7},
        "flush_denormals": false}});
    let opt = Optimizer::<_, f32>::builder(Sgd::new(Halving(0.5)))
        .global_clipnorm(2.0)
        .weight_decay(0.25)
        .exclude_from_weight_decay(Exclude::patterns(["bias$"]).and_names(["head"]))
        .ema(Ema::new(0.75).overwrite_every(5))
        .non_finite(NonFinite::SkipStep)
        .moments(MomentStorage::Bf16 { seed: 7 })
        .flush_denormals(false)
        .build()
        .unwrap();
    assert_eq!(opt.to_config().unwrap(), written);
    let again = Optimizer::from_config(&written, &registry::<f32>()).unwrap();
    assert_eq!(again.to_config().unwrap(), written);

    let only = |key: &str, value: Value| {
        let mut config = json!({"class_name": "SGD", "config": {"learning_rate": 0.5, key: value}});
        if key == "exclude_from_weight_decay" {
            config["config"]["weight_decay"] = json!(0.25);
        }
        let read: Result<OptimizerBuilder<Sgd, f32>, _> = OptimizerBuilder::from_config_of(&config, &registry());
        read.map(|builder| (builder.build().unwrap().to_config().unwrap(), config))
    };
    for (key, value) in [
        ("exclude_from_weight_decay", json!({"var_list": ["a"]})),
        ("exclude_from_weight_decay", json!({"var_names": ["a"]})),
        ("non_finite", json!("error")),
        ("moments", json!({"dtype": "float8", "seed": 7})),
        ("clipnorm", json!(0.5)),
        ("clipvalue", json!(0.5)),
        ("loss_scale_factor", json!(null)),
        ("jit_compile", json!(true)),
    ] {
        let (written, config) = only(key, value).unwrap();
        assert_eq!(written, config, "{key}");
    }
    assert!(only("non_finite", json!("propagate")).is_ok());
    for (key, value) in [
        ("moments", json!({"dtype": "float16", "seed": 7})),
        ("moments", json!({"dtype": "bfloat16", "seed": 7, "more": 1})),
        ("moments", json!({"dtype": "bfloat16", "seed": -7})),
        ("moments", json!({"dtype": "float8"})),
        ("moments", json!(16)),
        ("non_finite", json!("ignore")),
        ("exclude_from_weight_decay", json!("bias")),
        ("use_ema", json!(2)),
        ("clipnorm", json!("small")),
        ("loss_scale_factor", json!("large")),
        ("gradient_accumulation_steps", json!("many")),
    ] {
        assert!(matches!(only(key, value), Err(ConfigError::WrongType { key: k, .. }) if k == key), "{key}");
    }
    assert!(matches!(only("momentun", json!(0.5)), Err(ConfigError::UnknownKey { key, .. }) if key == "momentun"));
    for (key, value) in [("amsgrad", json!(true)), ("lr", json!(0.25))] {
        assert!(matches!(only(key, value), Err(ConfigError::NotSupported { key: k, .. }) if k == key), "{key}");
    }
    let other = OptimizerBuilder::<Sgd, f32>::from_config_of(&json!({"class_name": "Adam", "config": {}}), &registry());
    assert!(matches!(other, Err(ConfigError::OtherClass { found, expected: "SGD" }) if found == "Adam"));
}

#[test]
fn what_keras_does_not_have_is_written_only_when_it_is_set() {
    let config = Optimizer::<_, f64>::new(Sgd::new(0.5)).unwrap().to_config().unwrap();
    for key in ["exclude_from_weight_decay", "non_finite", "moments", "flush_denormals"] {
        assert!(!config["config"].as_object().unwrap().contains_key(key), "{key}");
    }
}

opt_core::hyperparameters! {
    /// A rule that changes nothing, and decays by default.
    #[derive(Debug)]
    struct Fading {
        learning_rate: Hyper = 0.5, in 0.0.., "learning rate";
    }
    rule "Fading" {
        default_weight_decay: |_: &Self| Some(0.25),
    }
}

impl UpdateRule<f64> for Fading {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![]
    }
    fn begin_step(&self, _step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f64>> {
        Box::new(elementwise((), |(): &(), w, _g, []: [f64; 0]| (w, [])))
    }
}

#[test]
fn a_rule_may_decay_by_default() {
    let decayed = |builder: OptimizerBuilder<Fading, f64>| {
        let (mut opt, mut w) = (builder.boxed().build().unwrap(), [1.0]);
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
        1.0 - w[0]
    };
    let read = |fields: Value| {
        let config = json!({"class_name": "Fading", "config": fields});
        OptimizerBuilder::<Fading, f64>::from_config_of(&config, &Registry::new())
    };
    let made = || Optimizer::builder(Fading::default());
    assert_eq!(decayed(made()), 0.125);
    assert_eq!(decayed(made().weight_decay(0.5)), 0.25);
    assert_eq!(decayed(made().weight_decay(0.0)), 0.0);
    assert_eq!(decayed(read(json!({})).unwrap()), 0.125);
    assert_eq!(decayed(read(json!({"weight_decay": 0.5})).unwrap()), 0.25);
    let null = read(json!({"weight_decay": null})).unwrap_err().to_string();
    assert_eq!(null, "Fading: weight_decay is null, expected a number or a schedule");
}

/// Keras passes weight decay through 32 bits, for variables in 64 bits, too: `tf.cast(0.004, tf.float64)` is
/// 0.004000000189989805.
#[test]
fn weight_decay_of_keras_is_rounded() {
    let decayed = |rule: Sgd| {
        let mut opt = Optimizer::<_, f64>::builder(rule).weight_decay(0.004).build().unwrap();
        let mut w = [1.0];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
        1.0 - w[0]
    };
    assert_eq!(decayed(Sgd::new(1.0)), 1.0 - (1.0 - 0.004000000189989805));
    assert_eq!(decayed(Sgd::optax(1.0)), 1.0 - (1.0 - 0.004));
}

/// In the order of the variable's axes, whatever its memory looks like; in a sparse gradient, in its values.
#[test]
fn gradients_that_are_not_finite_are_found() {
    use ndarray::{Array2, ShapeBuilder};
    let place = |dense: bool, order: bool| {
        let mut opt = Optimizer::builder(Sgd::new(0.5)).non_finite(NonFinite::Error).build().unwrap();
        let mut w = Array2::<f64>::zeros((2, 3).set_f(order));
        let mut gradient = Array2::zeros((2, 3).set_f(order));
        gradient[[1, 2]] = f64::NEG_INFINITY;
        let w = Variable::new("w", &mut w);
        let w = if dense { w.gradient(&gradient) } else { w.sparse_gradient(&[0_usize, 0], &gradient) };
        match opt.apply_gradients([w]) {
            Err(Error::NonFiniteGradient { variable, index, value }) => (variable, index, value),
            other => panic!("{other:?}"),
        }
    };
    for (dense, order) in [(true, false), (true, true), (false, false), (false, true)] {
        assert_eq!(place(dense, order), ("w".to_owned(), vec![1, 2], f64::NEG_INFINITY), "{dense} {order}");
    }
}

#[test]
fn moments_are_narrow_in_32_bits_only() {
    for storage in [MomentStorage::Bf16 { seed: 0 }, MomentStorage::Float8 { seed: 0 }] {
        let narrow = Optimizer::<_, f64>::builder(Sgd::new(0.5)).moments(storage).build();
        assert!(matches!(narrow, Err(Error::MomentStorage { .. })));
    }
}

/// Reads one field, which is then gone.
fn field<V>(value: &Value, read: impl Fn(&mut Fields<'_>) -> Result<V, ConfigError>) -> Result<V, ConfigError> {
    let mut schedules = ScheduleRegistry::new();
    schedules.register::<Halving>();
    let mut fields = Fields::new("Class", opt_core::config::fields([("key", value.clone())]), &schedules);
    assert!(fields.contains("key") && !fields.contains("other"));
    let value = read(&mut fields)?;
    assert!(!fields.contains("key"));
    fields.finish()?;
    Ok(value)
}

/// Asserts what a reader makes of a value, of `null`, of nothing, and of another type.
macro_rules! reads {
    ($method:ident $(::<$type:ty>)? ($($default:expr)?), $value:tt => $read:expr, null: $null:expr, absent: $absent:expr, not $wrong:tt) => {
        let read = |value: &Value| field(value, |fields| fields.$method $(::<$type>)? ("key" $(, $default)?));
        assert_eq!(read(&json!($value)).ok(), Some($read), "{}", stringify!($method));
        assert_eq!(read(&Value::Null).ok(), $null, "{} of null", stringify!($method));
        assert!(matches!(read(&json!($wrong)), Err(ConfigError::WrongType { class_name, key, .. })
            if class_name == "Class" && key == "key"), "{}", stringify!($method));
        let schedules = ScheduleRegistry::new();
        let absent = Fields::new("Class", Config::new(), &schedules).$method $(::<$type>)? ("key" $(, $default)?);
        let missing = matches!(&absent, Err(ConfigError::MissingKey { class_name, key })
            if class_name == "Class" && key == "key");
        let expected: Option<_> = $absent;
        assert!(missing == expected.is_none() && absent.ok() == expected, "{} of nothing", stringify!($method));
    };
}

#[test]
fn fields_have_types() {
    reads!(required::<f64>(), 2.5 => 2.5, null: None, absent: None, not "2.5");
    reads!(optional::<f64>(), 2.5 => Some(2.5), null: None, absent: Some(None), not "2.5");
    reads!(or(3.5), 2.5 => 2.5, null: None, absent: Some(3.5), not "2.5");
    reads!(nullable::<f64>(), 2.5 => Some(2.5), null: Some(None), absent: Some(None), not true);
    reads!(required::<Option<f64>>(), 2.5 => Some(2.5), null: Some(None), absent: None, not true);
    reads!(required::<u64>(), 7 => 7, null: None, absent: None, not 2.5);
    reads!(required::<u64>(), 7.0 => 7, null: None, absent: None, not (-7.0));
    reads!(or(9_u64), 7 => 7, null: None, absent: Some(9), not (-7));
    reads!(or(9_u64), 9007199254740992.0 => 1 << 53, null: None, absent: Some(9), not 1e17);
    reads!(nullable::<u64>(), 7 => Some(7), null: Some(None), absent: Some(None), not 0.5);
    reads!(or(true), false => false, null: Some(false), absent: Some(true), not 2);
    reads!(or(true), 0 => false, null: Some(false), absent: Some(true), not 0.5);
    reads!(or(false), true => true, null: Some(false), absent: Some(false), not "true");
    reads!(or(false), 1.0 => true, null: Some(false), absent: Some(false), not (-1));
    reads!(required::<Vec<f64>>(), [2.5, 1] => vec![2.5, 1.0], null: None, absent: None, not [2.5, "1"]);
    reads!(required::<Vec<u64>>(), [2, 3.0] => vec![2, 3], null: None, absent: None, not [2, 0.5]);
    let texts = vec!["a".to_owned(), "b".to_owned()];
    reads!(string_list(), ["a", "b"] => texts, null: Some(vec![]), absent: Some(vec![]), not ["a", 1]);
}

#[test]
fn fields_may_be_schedules() {
    let schedule = json!({"class_name": "Halving", "config": {"initial": 4.0}});
    let at = |value: &Value, read: fn(&mut Fields<'_>) -> Result<opt_core::Hyper, ConfigError>| {
        field(value, read).map(|hyper| hyper.at(1))
    };
    for read in
        [|fields: &mut Fields<'_>| fields.required("key"), |fields: &mut Fields<'_>| fields.or("key", Hyper::from(3.0))]
    {
        assert_eq!((at(&schedule, read), at(&json!(5), read)), (Ok(2.0), Ok(5.0)));
        assert!(matches!(at(&Value::Null, read), Err(ConfigError::WrongType { .. })));
        assert!(matches!(at(&json!("fast"), read), Err(ConfigError::WrongType { .. })));
    }
    let optional = |value: &Value| field(value, |fields| Ok(fields.nullable("key")?.map(|hyper: Hyper| hyper.at(1))));
    assert_eq!(
        (optional(&schedule), optional(&json!(5)), optional(&Value::Null)),
        (Ok(Some(2.0)), Ok(Some(5.0)), Ok(None))
    );
    assert!(matches!(optional(&json!(true)), Err(ConfigError::WrongType { .. })));
    let list = field(&json!([schedule, 3.0]), |fields| fields.required::<Vec<Hyper>>("key")).unwrap();
    assert_eq!(list.iter().map(|hyper| hyper.at(1)).collect::<Vec<_>>(), [2.0, 3.0]);

    let schedules = ScheduleRegistry::new();
    let mut empty = Fields::new("Class", Config::new(), &schedules);
    assert!(matches!(empty.required::<Hyper>("key"), Err(ConfigError::MissingKey { key, .. }) if key == "key"));
    assert_eq!(empty.or("key", Hyper::from(3.0)).unwrap().at(9), 3.0);
    assert!(matches!(field(&schedule, |fields| fields.required::<f64>("key")), Err(ConfigError::WrongType { .. })));

    let read = |config: Value| registry::<f64>().schedules().hyper(&json!({"class_name": "Halving", "config": config}));
    let hyper = read(json!({"initial": 4.0, "name": "mine"})).unwrap();
    assert_eq!(hyper.to_json().unwrap()["config"], json!({"initial": 4.0, "name": "mine"}));
    assert!(
        matches!(read(json!({"initial": 4.0, "steep": 1})), Err(ConfigError::UnknownKey { key, .. }) if key == "steep")
    );
    assert!(
        matches!(read(json!({"initial": -4.0})), Err(ConfigError::Hyperparameter(error)) if error.name == "initial")
    );
}

#[test]
fn what_is_left_over_is_refused_and_what_is_kept_comes_back() {
    let (class, fields, mut envelope) =
        Envelope::open(&json!({"class_name": "Mine>SGD", "module": "m", "config": {"a": 1, "b": 2}})).unwrap();
    assert_eq!(class, "SGD");
    let schedules = ScheduleRegistry::new();
    let mut reader = Fields::new(&class, fields.clone(), &schedules);
    assert_eq!((reader.class_name(), reader.form()), ("SGD", Dialect::Keras));
    assert_eq!(reader.take("a"), Some(json!(1)));
    assert_eq!(reader.take("a"), None);
    reader.keep(&mut envelope, &["b", "c"]);
    reader.finish().unwrap();
    envelope.remember(&opt_core::config::fields([("a", json!(1)), ("d", json!(4))]));
    let written = envelope.wrap("SGD", opt_core::config::fields([("a", json!(1)), ("d", json!(4))]));
    assert_eq!(written, json!({"class_name": "Mine>SGD", "module": "m", "config": {"a": 1, "b": 2}}));
    let changed = envelope.wrap("SGD", opt_core::config::fields([("a", json!(3)), ("d", json!(5))]));
    assert_eq!(changed["config"], json!({"a": 3, "b": 2, "d": 5}));

    let left = Fields::new("SGD", fields, &schedules).finish();
    assert!(matches!(left, Err(ConfigError::UnknownKey { class_name, key }) if class_name == "SGD" && key == "a"));
    let open = |value: Value| Envelope::open(&value).unwrap_err();
    assert!(
        matches!(open(json!({"class_name": "A", "config": [1]})), ConfigError::WrongType { key, .. } if key == "config")
    );
    assert!(
        matches!(open(json!({"class_name": "A", "config": {}, "extra": 1})), ConfigError::UnknownKey { key, .. } if key == "extra")
    );
    let long = open(json!(["x".repeat(80)])).to_string();
    assert!(long.ends_with(&format!("found [\"{}...", "x".repeat(58))), "{long}");
    assert!(open(json!([1])).to_string().ends_with("found [1]"));
}

#[test]
fn generations_are_told_by_their_keys() {
    let schedules = ScheduleRegistry::new();
    let generation = |fields: Value| {
        let Value::Object(fields) = fields else { panic!("an object") };
        Fields::new("SGD", fields, &schedules).form()
    };
    assert_eq!(generation(json!({})), Dialect::Keras);
    assert_eq!(generation(json!({"decay": 0.0})), Dialect::KerasLegacy);
    assert_eq!(generation(json!({"lr": 0.5})), Dialect::KerasLegacy);
    assert_eq!(generation(json!({"decay": 0.0, "use_ema": false})), Dialect::Keras);
    assert_eq!(generation(json!({"is_legacy_optimizer": true, "use_ema": false})), Dialect::KerasLegacy);
    assert_eq!(generation(json!({"is_legacy_optimizer": false, "decay": 0.0})), Dialect::Keras);
}

#[test]
fn registries_say_what_they_know() {
    let registry = registry::<f64>();
    assert_eq!(registry.class_names().collect::<Vec<_>>(), ["SGD"]);
    assert_eq!(registry.schedules().class_names().collect::<Vec<_>>(), ["Halving"]);
    let specs = <Sgd as FromConfig<f64>>::hyperparameters();
    assert!(!specs.is_empty());
    assert_eq!(registry.hyperparameters("SGD"), specs);
    assert_eq!(registry.schedules().hyperparameters("Halving"), specs);
    assert!(registry.hyperparameters("Halving").is_empty() && registry.schedules().hyperparameters("SGD").is_empty());
    let mut added = Registry::<f64>::new();
    added.schedules_mut().register::<Halving>();
    assert!(added.schedules().class_names().eq(["Halving"]));
    let text = format!("{registry:?}");
    assert!(text.contains("SGD") && text.contains("Halving"), "{text}");
    let unknown = Optimizer::from_config(&json!({"class_name": "Sgd2", "config": {}}), &registry).unwrap_err();
    assert!(matches!(unknown, Error::Config(ConfigError::UnknownClass { class_name, known })
        if class_name == "Sgd2" && known == ["SGD"]));
}

#[test]
fn sparse_gradients_show_their_rows() {
    let slices = IndexedSlices::new(vec![4, 1], ndarray::array![[0.5, 0.0], [0.0, 0.5]]);
    assert_eq!((slices.indices(), slices.values().shape()), (&[4, 1][..], &[2, 2][..]));
    let (some, none): (Indices<'_>, Indices<'_>) = ((&[3_i64, 4]).into(), (&[0_u32; 0]).into());
    assert_eq!((some.len(), some.is_empty(), none.len(), none.is_empty()), (2, false, 0, true));
}
