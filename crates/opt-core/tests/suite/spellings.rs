//! Configurations that say the same in other words come back in their own.

use opt_core::config::{Envelope, fields};
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

/// `1` stays `1`, and `1.0` stays `1.0`, until the value changes.
#[test]
fn numbers_keep_their_form() {
    let config = with(legacy(), &json!({"clipnorm": 2, "weight_decay": 1, "momentum": 0, "learning_rate": 1}));
    let read = || OptimizerBuilder::from_config(&config, &registry()).unwrap();
    assert_eq!(read().build().unwrap().to_config().unwrap(), config);
    let mut changed = read().clipnorm(3.0).build().unwrap();
    changed.set_learning_rate(4.0).unwrap();
    let expected = with(config.clone(), &json!({"clipnorm": 3.0, "learning_rate": 4.0}));
    assert_eq!(changed.to_config().unwrap(), expected);
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

/// What was read without error is written as it was given, as long as it would be written as it was then.
#[test]
fn only_what_was_given_comes_back() {
    let given = json!({"lr": 1, "seven": 7.0, "off": false, "changed": 2, "name": null});
    let config = json!({"class_name": "A", "config": given});
    let (_, mut read, mut envelope) = Envelope::open(&config).unwrap();
    envelope.keep(&mut read, &["name"]);
    let number = |key, value: f64| fields([(key, value.into())]);
    let written = || fields([("learning_rate", 1.0.into()), ("seven", 7.0.into()), ("absent", 3.0.into())]);
    let mut first = written();
    first.extend(number("changed", 2.0));
    envelope.remember(&first);
    assert_eq!(envelope.wrap("A", first), config);

    let mut later = written();
    later.extend(number("changed", 4.0));
    later.extend(number("absent", 5.0));
    later.extend(fields([("off", true.into())]));
    let expected = json!({"lr": 1, "seven": 7.0, "off": true, "changed": 4.0, "absent": 5.0, "name": null});
    assert_eq!(envelope.wrap("A", later)["config"], expected);
}
