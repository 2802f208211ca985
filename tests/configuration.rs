//! Keras's JSON in and out: both generations, older and newer versions, and everything that is refused.

mod forms;
mod targets;

use optimizers::config::{ConfigError, HyperparameterError};
use optimizers::schedules::schedule_fn;
use optimizers::{
    AdamW, Ema, Error, Exclude, Lookahead, Master, MomentStorage, NonFinite, NovoGrad, Optimizer, RectifiedAdam, Sgd,
    UpdateRule, Variable,
};
use serde_json::{Value, json};

fn read(config: &Value) -> Result<Value, Error> {
    Ok(Optimizer::from_config(config, &optimizers::registry::<f64>())?.to_config()?)
}

fn sgd(config: impl Into<Value>) -> Value {
    json!({"class_name": "SGD", "config": config.into()})
}

#[test]
fn every_version_comes_back_key_for_key() {
    let new = json!({"name": "SGD", "learning_rate": 0.5, "momentum": 0.25, "nesterov": true, "weight_decay": 0.125,
        "clipnorm": null, "global_clipnorm": 2.0, "clipvalue": null, "use_ema": true, "ema_momentum": 0.75,
        "ema_overwrite_frequency": 7, "jit_compile": true, "is_legacy_optimizer": false});
    let keras_3 = json!({"name": "SGD", "learning_rate": 0.5, "weight_decay": null, "clipnorm": null,
        "global_clipnorm": null, "clipvalue": null, "use_ema": false, "ema_momentum": 0.99,
        "ema_overwrite_frequency": null, "loss_scale_factor": null, "gradient_accumulation_steps": null,
        "momentum": 0.0, "nesterov": false});
    let legacy = json!({"name": "sgd", "clipvalue": 0.5, "clipnorm": 2.0, "learning_rate": 0.5, "decay": 0.25,
        "momentum": 0.5, "nesterov": false});
    let minimal = json!({"learning_rate": 0.5});
    let schedule = json!({"learning_rate": {"class_name": "CosineDecay",
        "config": {"initial_learning_rate": 0.5, "decay_steps": 10, "alpha": 0.0, "name": null}}, "momentum": 0.5});
    let weight_decay_schedule = json!({"learning_rate": 0.5, "weight_decay": {"class_name": "ExponentialDecay",
        "config": {"initial_learning_rate": 0.5, "decay_steps": 10, "decay_rate": 0.5, "staircase": true}}});
    for config in [new, keras_3, legacy, minimal, schedule, weight_decay_schedule] {
        let config = sgd(config);
        assert_eq!(read(&config).unwrap(), config);
    }
    let envelope = json!({"module": "keras.optimizers", "class_name": "Custom>SGD", "config": {"learning_rate": 0.5},
        "registered_name": null, "shared_object_id": 3});
    assert_eq!(read(&envelope).unwrap(), envelope);
}

#[test]
fn a_value_that_was_left_to_its_default_is_written_once_it_changes() {
    let mut opt = Optimizer::from_config(&sgd(json!({"momentum": 0.5})), &optimizers::registry::<f64>()).unwrap();
    assert_eq!(opt.learning_rate(), 0.01);
    opt.set_learning_rate(0.5).unwrap();
    assert_eq!(opt.to_config().unwrap(), sgd(json!({"momentum": 0.5, "learning_rate": 0.5})));
}

#[test]
fn options_from_code_come_back() {
    let opt = Optimizer::<_, f64>::builder(Sgd::new(0.5).momentum(0.25))
        .weight_decay(0.125)
        .exclude_from_weight_decay(Exclude::patterns(["bias$"]).and_names(["scale"]))
        .ema(Ema::new(0.75).overwrite_every(9))
        .non_finite(NonFinite::Error)
        .flush_denormals(false)
        .clipvalue(3.0)
        .build()
        .unwrap();
    let written = opt.to_config().unwrap();
    let config = &written["config"];
    assert_eq!(config["exclude_from_weight_decay"], json!({"var_names": ["bias$"], "var_list": ["scale"]}));
    assert_eq!((&config["non_finite"], &config["clipvalue"]), (&json!("error"), &json!(3.0)));
    assert_eq!(config["flush_denormals"], json!(false));
    assert_eq!((&config["name"], &config["is_legacy_optimizer"]), (&json!("SGD"), &json!(false)));
    assert_eq!(read(&written).unwrap(), written);
}

#[test]
fn moments_in_16_bits_come_back_or_are_refused() {
    let moments = MomentStorage::Bf16 { seed: u64::MAX };
    let opt = Optimizer::<_, f32>::builder(Sgd::new(0.5).momentum(0.5)).moments(moments).build().unwrap();
    let written = opt.to_config().unwrap();
    assert_eq!(written["config"]["moments"], json!({"dtype": "bfloat16", "seed": u64::MAX}));
    let read_32 = |config: &Value| Optimizer::from_config(config, &optimizers::registry::<f32>());
    assert_eq!(read_32(&written).unwrap().to_config().unwrap(), written);
    assert!(read(&written).is_err(), "variables of 64 bits");
    let refused = [
        json!("bfloat16"),
        json!({"dtype": "bfloat16"}),
        json!({"dtype": "bfloat16", "seed": -1}),
        json!({"dtype": "bfloat16", "seed": 0.5}),
        json!({"dtype": "float16", "seed": 1}),
        json!({"dtype": "bfloat16", "seed": 1, "rounding": "nearest"}),
    ];
    for moments in refused {
        let error = read_32(&sgd(json!({"momentum": 0.5, "moments": moments}))).unwrap_err();
        assert!(matches!(&error, Error::Config(ConfigError::WrongType { .. })), "{moments}: {error}");
    }
}

#[test]
fn masters_in_fewer_bits_come_back_or_are_refused() {
    let read_32 = |config: &Value| Optimizer::from_config(config, &optimizers::registry::<f32>());
    for (master, form) in [
        (Master::Full, Value::Null),
        (Master::Bits24 { seed: u64::MAX }, json!({"bits": 24, "seed": u64::MAX})),
        (Master::None { seed: 3 }, json!({"bits": 16, "seed": 3})),
    ] {
        let opt = Optimizer::<_, f32>::builder(Sgd::new(0.5)).master(master).build().unwrap();
        let written = opt.to_config().unwrap();
        assert_eq!(written["config"]["master"], form);
        assert_eq!(read_32(&written).unwrap().to_config().unwrap(), written);
    }
    let refused = [json!(24), json!({"bits": 24}), json!({"bits": 32, "seed": 1}), json!({"bits": 24, "seed": -1})];
    for master in refused {
        let error = read_32(&sgd(json!({"master": master}))).unwrap_err();
        assert!(matches!(&error, Error::Config(ConfigError::WrongType { .. })), "{master}: {error}");
    }
}

#[test]
fn a_legacy_optimizer_with_averages_comes_back() {
    let opt = Optimizer::<_, f64>::builder(Sgd::new(0.5).legacy().decay(0.125)).ema(Ema::new(0.5)).build().unwrap();
    let written = opt.to_config().unwrap();
    assert_eq!(written["config"]["is_legacy_optimizer"], json!(true));
    let again = Optimizer::from_config(&written, &optimizers::registry::<f64>()).unwrap();
    assert_eq!(again.to_config().unwrap(), written);
    assert_eq!(again.slot_names(), ["average"]);
}

#[test]
fn legacy_configurations_may_combine_clips_and_others_may_not() {
    let clips = json!({"clipvalue": 3.5, "clipnorm": 1.0, "learning_rate": 1.0, "decay": 0.0});
    assert!(read(&sgd(clips)).is_ok());
    let two = |first: &str, second: &str| read(&sgd(json!({first: 1.0, second: 1.0, "use_ema": false})));
    for (first, second) in
        [("clipnorm", "global_clipnorm"), ("clipnorm", "clipvalue"), ("global_clipnorm", "clipvalue")]
    {
        let Err(Error::Conflict { first: a, second: b }) = two(first, second) else { panic!("{first}, {second}") };
        assert_eq!((a, b), (first, second));
    }
    let built = Optimizer::<_, f64>::builder(Sgd::new(0.5)).clipnorm(1.0).clipvalue(1.0).build();
    assert!(matches!(built, Err(Error::Conflict { first: "clipnorm", second: "clipvalue" })));
}

#[test]
fn numbers_out_of_range_name_the_field() {
    let refused = |key: &str, value: Value| match read(&sgd(json!({"use_ema": true, key: value}))) {
        Err(Error::Hyperparameter(HyperparameterError { name, .. })) => assert_eq!(name, key),
        other => panic!("{key}: {other:?}"),
    };
    refused("momentum", 1.5.into());
    refused("learning_rate", (-0.5).into());
    refused("weight_decay", (-0.5).into());
    refused("ema_momentum", 1.5.into());
    refused("ema_momentum", (-0.25).into());
}

#[test]
fn what_nobody_reads_is_refused() {
    let error = |config: Value| match read(&config) {
        Err(Error::Config(error)) => error,
        other => panic!("{config}: {other:?}"),
    };
    let unknown = |key: &str| ConfigError::UnknownKey { class_name: "SGD".to_owned(), key: key.to_owned() };
    assert_eq!(error(sgd(json!({"momentun": 0.5}))), unknown("momentun"));
    assert_eq!(error(json!({"class_name": "SGD", "config": {}, "weights": []})), unknown("weights"));
    assert!(
        matches!(error(json!({"class_name": "Sgd2", "config": {}})), ConfigError::UnknownClass { class_name, known }
        if class_name == "Sgd2" && known.contains(&"SGD".to_owned()))
    );
    for no_object in [json!(3), json!({"config": {}}), json!({"class_name": 7}), json!(["SGD"]), json!(null), json!({})]
    {
        assert!(matches!(error(no_object), ConfigError::NotAnObject { .. }));
    }
    let wrong_types = [
        ("momentum", json!("a lot")),
        ("momentum", json!(null)),
        ("nesterov", json!(2)),
        ("nesterov", json!("true")),
        ("learning_rate", json!([0.1])),
        ("learning_rate", json!(true)),
        ("use_ema", json!("yes")),
        ("ema_overwrite_frequency", json!("never")),
        ("non_finite", json!("panic")),
        ("exclude_from_weight_decay", json!(["bias"])),
    ];
    for (key, value) in wrong_types {
        let found = error(sgd(json!({key: value})));
        assert!(matches!(&found, ConfigError::WrongType { key: k, .. } if k == key), "{key}: {found:?}");
    }
    let pattern = error(sgd(json!({"weight_decay": 0.5, "exclude_from_weight_decay": {"var_names": ["("]}})));
    assert!(matches!(pattern, ConfigError::Pattern { .. }));
}

#[test]
fn schedules_are_checked_too() {
    let schedule = |class: &str, config: Value| {
        read(&sgd(json!({"learning_rate": {"class_name": class, "config": config}}))).unwrap_err().to_string()
    };
    assert!(schedule("Cosine", json!({})).starts_with("unknown class \"Cosine\""));
    assert_eq!(
        schedule("CosineDecay", json!({"initial_learning_rate": 0.1})),
        "CosineDecay: key \"decay_steps\" is missing"
    );
    let zero = schedule("CosineDecay", json!({"initial_learning_rate": 0.1, "decay_steps": 0}));
    assert!(zero.contains("decay_steps is 0"), "{zero}");
    let short = schedule("PiecewiseConstantDecay", json!({"boundaries": [5, 10], "values": [1.0, 0.5]}));
    assert!(short.contains("values"), "{short}");
    let unknown = schedule("CosineDecay", json!({"initial_learning_rate": 0.1, "decay_steps": 5, "warmup": 3}));
    assert_eq!(unknown, "CosineDecay: unknown key \"warmup\"");
}

#[test]
fn code_has_no_configuration() {
    let opt = Optimizer::<_, f64>::new(Sgd::new(schedule_fn(|step| 1.0 / (step + 1) as f64))).unwrap();
    assert!(matches!(opt.to_config(), Err(ConfigError::NotSerializable { .. })));
}

/// A wrapper has the weight decay of the rule inside: in code, boxed, and in a configuration.
#[test]
fn a_default_weight_decay_reaches_the_engine() {
    fn decayed<R: UpdateRule<f64>>(mut opt: Optimizer<R, f64>) -> f64 {
        let mut w = [1.0];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
        1.0 - w[0]
    }
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-15, "{got} instead of {want}");
    let inside = || Lookahead::new(AdamW::pytorch(0.5));
    let boxed: Box<dyn UpdateRule<f64>> = Box::new(inside());
    close(decayed(Optimizer::new(boxed).unwrap()), 0.5 * 0.01);
    close(decayed(Optimizer::builder(Lookahead::new(inside())).weight_decay(0.25).build().unwrap()), 0.5 * 0.25);

    let written = Optimizer::<_, f64>::new(inside()).unwrap().to_config().unwrap();
    assert_eq!(written["config"]["weight_decay"], 0.01);
    assert!(written["config"]["optimizer"]["config"].get("weight_decay").is_none());
    let read = |config: &Value| Optimizer::from_config(config, &optimizers::registry::<f64>());
    close(decayed(read(&written).unwrap()), 0.5 * 0.01);
    let mut without = written.clone();
    without["config"].as_object_mut().unwrap().remove("weight_decay");
    close(decayed(read(&without).unwrap()), 0.5 * 0.01);
    assert_eq!(read(&without).unwrap().to_config().unwrap(), without);
    // Inside, nobody would decay.
    let mut inside = written;
    inside["config"]["optimizer"]["config"]["weight_decay"] = json!(0.25);
    let refused = read(&inside).unwrap_err().to_string();
    assert!(refused.contains("weight_decay is 0.25, expected null inside another optimizer"), "{refused}");
}

/// The weight decay of a rule itself has no exclusions: they are refused, from code, from files and later.
#[test]
fn exclusions_beside_a_decay_of_the_rule_are_refused() {
    let exclude = || Exclude::names(["bias"]);
    let rules: [Box<dyn UpdateRule<f32>>; 2] =
        [Box::new(RectifiedAdam::new(0.1).weight_decay(0.5)), Box::new(NovoGrad::new(0.1).weight_decay(0.5))];
    for rule in rules {
        let mut opt = Optimizer::new(rule).unwrap();
        assert_eq!(opt.exclude_from_weight_decay(exclude()), Err(Error::NothingToExcludeFrom));
        let mut config = opt.to_config().unwrap();
        config["config"]["exclude_from_weight_decay"] = json!({"var_list": ["bias"]});
        let read = Optimizer::from_config(&config, &optimizers::registry::<f32>());
        assert_eq!(read.unwrap_err(), Error::NothingToExcludeFrom);
    }
    let built = Optimizer::<_, f32>::builder(RectifiedAdam::new(0.1).weight_decay(0.5));
    assert_eq!(built.exclude_from_weight_decay(exclude()).build().unwrap_err(), Error::NothingToExcludeFrom);
}
