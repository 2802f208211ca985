//! Configurations that say the same in other words come back in their own.

use opt_core::config::{Envelope, HyperparameterKind, HyperparameterSpec, Interval, fields};
use opt_core::{Exclude, Optimizer, OptimizerBuilder, Registry, UpdateRule};
use opt_sgd::Sgd;
use serde_json::{Value, json};

fn registry() -> Registry<f32> {
    let mut registry = Registry::new();
    registry.register::<Sgd>();
    registry
}

/// `base` with these fields more.
fn with(mut base: Value, fields: &Value) -> Value {
    base["config"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    base
}

fn legacy() -> Value {
    json!({"class_name": "SGD", "config": {"learning_rate": 0.5, "momentum": 0.0, "nesterov": false, "decay": 0.0}})
}

#[test]
fn what_asks_for_nothing_comes_back() {
    let asks_for_nothing = [
        json!({"clipnorm": null}),
        json!({"clipvalue": null, "global_clipnorm": null, "weight_decay": null}),
        json!({"is_legacy_optimizer": true, "use_ema": false, "ema_momentum": 0.5, "ema_overwrite_frequency": null}),
        json!({"non_finite": "propagate"}),
        json!({"flush_denormals": true}),
        json!({"exclude_from_weight_decay": {}}),
        json!({"exclude_from_weight_decay": {"var_names": [], "var_list": null}}),
        // A default of the rule's own, which it does not write.
        json!({"dampening": 0.0}),
        json!({"dampening": 0}),
    ];
    for fields in asks_for_nothing {
        let config = with(legacy(), &fields);
        let optimizer = Optimizer::from_config(&config, &registry()).unwrap();
        assert_eq!(optimizer.to_config().unwrap(), config);
    }
}

#[test]
fn lists_come_back_as_they_were_written() {
    let fields = json!({"weight_decay": 0.25, "exclude_from_weight_decay": {"var_names": ["^b"], "var_list": []}});
    let config = with(legacy(), &fields);
    let optimizer = Optimizer::from_config(&config, &registry()).unwrap();
    assert_eq!(optimizer.to_config().unwrap(), config);
}

/// As long as nobody asks for something after all.
#[test]
fn what_is_asked_for_later_is_written() {
    let fields = json!({"clipnorm": null, "use_ema": false, "is_legacy_optimizer": true});
    let builder = OptimizerBuilder::from_config(&with(legacy(), &fields), &registry()).unwrap();
    let optimizer = builder.clipnorm(2.0).ema(opt_core::Ema::new(0.5)).build().unwrap();
    let written = optimizer.to_config().unwrap();
    assert_eq!((&written["config"]["clipnorm"], &written["config"]["use_ema"]), (&json!(2.0), &json!(true)));
}

/// As long as all of them have their defaults.
#[test]
fn no_fields_come_back_as_none() {
    let config = json!({"class_name": "SGD", "module": null});
    assert_eq!(Optimizer::from_config(&config, &registry()).unwrap().to_config().unwrap(), config);
    let builder = OptimizerBuilder::from_config(&config, &registry()).unwrap();
    let written = builder.clipnorm(2.0).build().unwrap().to_config().unwrap();
    assert_eq!(written, json!({"class_name": "SGD", "module": null, "config": {"clipnorm": 2.0}}));
}

/// The engine's weight decay has a second name, for rules with one of their own.
#[test]
fn weight_decay_keeps_its_name() {
    for name in ["weight_decay", "decoupled_weight_decay"] {
        let config = with(legacy(), &json!({name: 0.25}));
        let optimizer = Optimizer::from_config(&config, &registry()).unwrap();
        assert_eq!(optimizer.to_config().unwrap(), config);
    }
}

/// Numbers are written as the fields' types have them.
#[test]
fn numbers_have_one_form() {
    let config = with(legacy(), &json!({"clipnorm": 2, "weight_decay": 1}));
    let written = Optimizer::from_config(&config, &registry()).unwrap().to_config().unwrap();
    assert_eq!(written, with(legacy(), &json!({"clipnorm": 2.0, "weight_decay": 1.0})));
}

/// Exclusions by name and by pattern are written, each without the other.
#[test]
fn exclusions_are_written() {
    let written = |exclude: Exclude| {
        let builder = Optimizer::<_, f32>::builder(Sgd::new(0.5)).weight_decay(0.5).exclude_from_weight_decay(exclude);
        builder.build().unwrap().to_config().unwrap()["config"].get("exclude_from_weight_decay").cloned()
    };
    assert_eq!(written(Exclude::default()), None);
    assert!(written(Exclude::names(["b"])).is_some_and(|written| written.to_string().contains("\"b\"")));
    assert!(written(Exclude::patterns(["b$"])).is_some_and(|written| written.to_string().contains("\"b$\"")));
}

/// A rule in a box has the fields of its generation.
#[test]
fn boxes_change_no_field() {
    let written = |rule: Sgd| {
        let boxed: Box<dyn UpdateRule<f32>> = Box::new(rule.clone());
        let boxed = Optimizer::new(boxed).unwrap().to_config().unwrap();
        assert_eq!(boxed, Optimizer::<_, f32>::new(rule).unwrap().to_config().unwrap());
        boxed
    };
    assert_ne!(written(Sgd::new(0.5)), written(Sgd::new(0.5).legacy()));
}

/// A field that was left out of what is written comes back if it had its own default, and no other one.
#[test]
fn only_defaults_come_back() {
    let kind = HyperparameterKind::Number(Interval::FINITE);
    let field =
        |name, default: Value| HyperparameterSpec { name, kind: kind.clone(), default: Some(default), meaning: "" };
    let own =
        [field("seven", json!(7.0)), field("two", json!(2.0)), field("yes", json!(true)), field("no", json!(false))];
    let numbers = [("seven", 7.0.into()), ("two", 7.0.into()), ("other", 2.0.into()), ("written", 1.0.into())];
    let mut read = fields(numbers);
    read.extend(fields([("yes", true.into()), ("no", true.into())]));
    let (_, _, mut envelope) = Envelope::open(&json!({"class_name": "A", "config": {}})).unwrap();
    let written = fields([("written", 2.0.into())]);
    envelope.remember_defaults(&read, &written, &own);
    assert_eq!(envelope.wrap("A", written)["config"], json!({"seven": 7.0, "written": 2.0, "yes": true}));
}
