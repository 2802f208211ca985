//! Configurations of every class: read, written, refused.

use opt_core::Schedule;
use opt_core::config::{ConfigError, FromFields, HyperparameterError, Interval, ScheduleRegistry};
use opt_core::config::{HyperparameterKind, HyperparameterSpec};
use opt_schedules::{
    Anneal, Configurable, Constant, CosineDecay, CosineDecayRestarts, ExponentialCyclicalLearningRate,
    ExponentialDecay, InverseTimeDecay, Join, LinearWarmup, OneCycle, PiecewiseConstantDecay, PolynomialDecay,
    ScaleMode, Triangular2CyclicalLearningRate, TriangularCyclicalLearningRate,
};
use serde_json::{Value, json};

fn registry() -> ScheduleRegistry {
    let mut registry = ScheduleRegistry::new();
    opt_schedules::register(&mut registry);
    registry
}

fn read(class_name: &str, config: &Value) -> Result<opt_core::Hyper, ConfigError> {
    registry().hyper(&json!({"class_name": class_name, "config": config}))
}

/// The schedule writes this configuration, and the registry makes of it a schedule with the same values, which writes
/// it again.
fn assert_round_trip<S: Schedule + FromFields>(schedule: &S, config: &Value) {
    assert_eq!(schedule.class_name(), S::CLASS_NAME);
    assert_eq!(Value::Object(schedule.config().unwrap()), *config, "{}", S::CLASS_NAME);
    schedule.validate().unwrap();
    let hyper = read(S::CLASS_NAME, config).unwrap();
    for step in (0..100).chain([u64::MAX]) {
        assert_eq!(hyper.at(step), schedule.value(step), "{} at step {step}", S::CLASS_NAME);
    }
    assert_eq!(hyper.to_json().unwrap(), json!({"class_name": S::CLASS_NAME, "config": config}));
    assert_described::<S>(config);
}

/// The class describes the fields that it writes, and each default is what a missing field means.
fn assert_described<S: Schedule + FromFields>(config: &Value) {
    let described: Vec<_> = S::hyperparameters().iter().map(|spec| spec.name).collect();
    let mut written: Vec<_> = config.as_object().unwrap().keys().collect();
    written.sort_by_key(|key| described.iter().position(|name| name == key));
    assert_eq!(described, written, "{}", S::CLASS_NAME);
    for spec in S::hyperparameters() {
        assert_default::<S>(config, &spec);
    }
}

fn assert_default<S: Schedule + FromFields>(config: &Value, spec: &HyperparameterSpec) {
    let mut fields = config.as_object().unwrap().clone();
    fields.remove(spec.name);
    if spec.name == "warmup_target" {
        fields.remove("warmup_steps"); // nothing without a target
    }
    let result = S::from_fields(&mut opt_core::config::Fields::new(S::CLASS_NAME, fields, &registry()));
    let written = result.and_then(|schedule| schedule.config());
    match &spec.default {
        None => {
            let missing = ConfigError::MissingKey { class_name: S::CLASS_NAME.to_owned(), key: spec.name.to_owned() };
            assert_eq!(written, Err(missing));
        }
        Some(default) => {
            assert_eq!(written.unwrap()[spec.name], *default, "{} {}", S::CLASS_NAME, spec.name);
            assert_ne!(config[spec.name], *default, "{} {} is not tested", S::CLASS_NAME, spec.name);
        }
    }
}

#[test]
fn classes_of_keras() {
    let decay = json!({"initial_learning_rate": 0.5, "decay_steps": 6, "decay_rate": 0.75, "staircase": true});
    assert_round_trip(&ExponentialDecay::new(0.5, 6, 0.75).staircase(true), &decay);
    assert_round_trip(&InverseTimeDecay::new(0.5, 6, 0.75).staircase(true), &decay);
    assert_round_trip(
        &PiecewiseConstantDecay::new([3, 9], [1.0, 0.5, 0.25]),
        &json!({"boundaries": [3, 9], "values": [1.0, 0.5, 0.25]}),
    );
    assert_round_trip(
        &PolynomialDecay::new(0.5, 6).end_learning_rate(0.25).power(1.5).cycle(true),
        &json!({
            "initial_learning_rate": 0.5, "decay_steps": 6, "end_learning_rate": 0.25, "power": 1.5, "cycle": true
        }),
    );
}

#[test]
fn cosines_of_keras() {
    assert_round_trip(
        &CosineDecay::new(0.5, 6).alpha(0.25).warmup(2.0, 5),
        &json!({
            "initial_learning_rate": 0.5, "decay_steps": 6, "alpha": 0.25, "warmup_target": 2.0, "warmup_steps": 5
        }),
    );
    assert_round_trip(
        &CosineDecayRestarts::new(0.5, 6).t_mul(1.5).m_mul(0.5).alpha(0.25),
        &json!({"initial_learning_rate": 0.5, "first_decay_steps": 6, "t_mul": 1.5, "m_mul": 0.5, "alpha": 0.25}),
    );
}

#[test]
fn classes_of_tensorflow_addons() {
    let mut wave = json!({
        "initial_learning_rate": 0.125, "maximal_learning_rate": 0.5, "step_size": 6, "scale_mode": "iterations"
    });
    let iterations = ScaleMode::Iterations;
    assert_round_trip(&TriangularCyclicalLearningRate::new(0.125, 0.5, 6).scale_mode(iterations), &wave);
    assert_round_trip(&Triangular2CyclicalLearningRate::new(0.125, 0.5, 6).scale_mode(iterations), &wave);
    wave["scale_mode"] = "cycle".into();
    wave["gamma"] = 0.75.into();
    let exponential = ExponentialCyclicalLearningRate::new(0.125, 0.5, 6).gamma(0.75);
    assert_round_trip(&exponential.scale_mode(ScaleMode::Cycle), &wave);
}

#[test]
fn classes_of_our_own() {
    assert_round_trip(&Constant::new(0.5), &json!({"value": 0.5}));
    assert_round_trip(
        &OneCycle::new(0.5, 60)
            .pct_start(0.25)
            .anneal_strategy(Anneal::Linear)
            .div_factor(4.0)
            .final_div_factor(8.0)
            .three_phase(true),
        &json!({
            "max_lr": 0.5, "total_steps": 60, "pct_start": 0.25, "anneal_strategy": "linear", "div_factor": 4.0,
            "final_div_factor": 8.0, "three_phase": true
        }),
    );
    let inner = json!({"class_name": "Constant", "config": {"value": 0.5}});
    assert_round_trip(
        &LinearWarmup::new(Constant::new(0.5), 6).start_value(0.25).delay_inner(false),
        &json!({"inner": inner, "warmup_steps": 6, "start_value": 0.25, "delay_inner": false}),
    );
    assert_round_trip(
        &Join::new(0.25).then(6, Constant::new(0.5)),
        &json!({"schedules": [0.25, inner], "boundaries": [6]}),
    );
}

#[test]
fn without_a_warmup_the_target_is_null() {
    let config = json!({
        "initial_learning_rate": 0.5, "decay_steps": 6, "alpha": 0.0, "warmup_target": null, "warmup_steps": 0
    });
    assert_eq!(Value::Object(CosineDecay::new(0.5, 6).config().unwrap()), config);
    let hyper = read("CosineDecay", &config).unwrap();
    assert_eq!(hyper.to_json().unwrap()["config"], config);
}

#[test]
fn an_old_configuration_comes_back_key_for_key() {
    // Before Keras 2.13 there was no warmup.
    let old = json!({"initial_learning_rate": 0.5, "decay_steps": 6, "alpha": 0.0, "name": "cosine"});
    let hyper = read("CosineDecay", &old).unwrap();
    assert_eq!(hyper.to_json().unwrap()["config"], old);
}

#[test]
fn nested_schedules_keep_what_keras_says_about_them() {
    let inner = json!({
        "module": "keras.optimizers.schedules", "class_name": "CosineDecay", "registered_name": null,
        "config": {"initial_learning_rate": 0.5, "decay_steps": 6, "alpha": 0.0, "name": null}
    });
    let joined = json!({
        "class_name": "Join",
        "config": {"boundaries": [3], "schedules": [
            inner, {"class_name": "LinearWarmup", "config": {"inner": inner, "warmup_steps": 4}}
        ]}
    });
    let hyper = registry().hyper(&joined).unwrap();
    assert_eq!(hyper.to_json().unwrap(), joined);
    assert_eq!([0, 3, 5, 7, 13].map(|step| hyper.at(step)), [0.5, 0.0, 0.25, 0.5, 0.0]);
}

#[test]
fn addons_classes_are_read_by_their_registered_name() {
    let saved = json!({
        "module": "tensorflow_addons.optimizers.cyclical_learning_rate",
        "class_name": "TriangularCyclicalLearningRate",
        "config": {
            "initial_learning_rate": 0.0, "maximal_learning_rate": 1.0, "step_size": 4, "scale_mode": "cycle"
        },
        "registered_name": "Addons>TriangularCyclicalLearningRate"
    });
    let hyper = registry().hyper(&saved).unwrap();
    assert_eq!(hyper.at(2), 0.5);
    assert_eq!(hyper.to_json().unwrap(), saved);
}

#[test]
fn unknown_choices_are_refused_by_name() {
    let wave = json!({
        "initial_learning_rate": 0.0, "maximal_learning_rate": 1.0, "step_size": 4, "scale_mode": "Cycle"
    });
    let error = read("Triangular2CyclicalLearningRate", &wave).unwrap_err();
    let want = r#"Triangular2CyclicalLearningRate: scale_mode is "Cycle", expected "cycle" or "iterations""#;
    assert_eq!(error.to_string(), want);

    let error = read("OneCycle", &json!({"max_lr": 1.0, "total_steps": 4, "anneal_strategy": "cosine"})).unwrap_err();
    assert_eq!(error.to_string(), r#"OneCycle: anneal_strategy is "cosine", expected "cos" or "linear""#);
}

#[test]
fn unknown_keys_and_values_out_of_range_are_refused() {
    let error = read("Constant", &json!({"value": 0.5, "valeu": 0.5})).unwrap_err();
    assert_eq!(error, ConfigError::UnknownKey { class_name: "Constant".to_owned(), key: "valeu".to_owned() });

    let cosine = json!({"initial_learning_rate": 0.5, "decay_steps": 6, "warmup_target": null, "warmup_steps": 5});
    let expected = "0 without warmup_target".to_owned();
    let refused = HyperparameterError { name: "warmup_steps".to_owned(), value: 5.0, expected };
    assert_eq!(read("CosineDecay", &cosine).unwrap_err(), ConfigError::Hyperparameter(refused));
}

#[test]
fn ranges_are_described() {
    let kind = |class: &str, name: &str| {
        let registry = registry();
        registry.hyperparameters(class).into_iter().find(|spec| spec.name == name).map(|spec| spec.kind)
    };
    assert_eq!(kind("CosineDecay", "decay_steps"), Some(HyperparameterKind::Number(Interval::AT_LEAST_ONE)));
    assert_eq!(kind("CosineDecay", "alpha"), Some(HyperparameterKind::Number(Interval::UNIT)));
    for class in registry().class_names() {
        assert!(!registry().hyperparameters(class).is_empty(), "{class} describes its fields");
    }
}
