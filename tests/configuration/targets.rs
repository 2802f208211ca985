//! Configurations for other libraries. `tests/reference/check_configurations.py` shows that these libraries read them.

use optimizers::config::{ConfigError, Target};
use optimizers::schedules::{
    Constant, CosineDecay, ExponentialDecay, LinearWarmup, PiecewiseConstantDecay, TriangularCyclicalLearningRate,
    schedule_fn,
};
use optimizers::{
    Adam, AdamW, Ema, Exclude, Lookahead, MomentStorage, Nadam, NonFinite, NovoGrad, Optimizer, OptimizerBuilder,
    RectifiedAdam, Sgd, UpdateRule,
};
use serde_json::{Value, json};

use super::{read, sgd};

#[test]
fn each_target_gets_its_own_form() {
    let rule = || Sgd::new(ExponentialDecay::new(1.0, 1562.5, 0.5));
    let opt = Optimizer::<_, f64>::builder(rule()).clipnorm(2.0).build().unwrap();
    let rate = json!({"module": "keras.optimizers.schedules", "class_name": "ExponentialDecay", "registered_name": null,
        "config": {"initial_learning_rate": 1.0, "decay_steps": 1562.5, "decay_rate": 0.5, "staircase": false}});
    let mut fields = json!({"name": "SGD", "learning_rate": rate, "momentum": 0.0, "nesterov": false,
        "weight_decay": null, "clipnorm": 2.0, "clipvalue": null, "global_clipnorm": null, "use_ema": false,
        "ema_momentum": 0.99, "ema_overwrite_frequency": null, "loss_scale_factor": null,
        "gradient_accumulation_steps": null});
    let serialised = |module: &str, fields: &Value| json!({"module": module, "class_name": "SGD", "config": fields, "registered_name": null});
    assert_eq!(opt.to_config_for(Target::Keras3).unwrap(), serialised("keras.optimizers", &fields));
    let keys = fields.as_object_mut().unwrap();
    keys.retain(|key, _| !["loss_scale_factor", "gradient_accumulation_steps"].contains(&key.as_str()));
    keys.extend([("jit_compile".to_owned(), false.into()), ("is_legacy_optimizer".to_owned(), false.into())]);
    assert_eq!(opt.to_config_for(Target::Keras2).unwrap(), serialised("keras.optimizers", &fields));

    let opt = Optimizer::<_, f64>::builder(rule().legacy()).clipnorm(2.0).build().unwrap();
    let fields = json!({"name": "SGD", "learning_rate": rate, "momentum": 0.0, "nesterov": false, "decay": 0.0,
        "clipnorm": 2.0});
    for target in [Target::KerasLegacy, Target::Addons] {
        assert_eq!(opt.to_config_for(target).unwrap(), serialised("keras.optimizers.legacy", &fields));
    }

    let opt = Optimizer::<_, f64>::new(Lookahead::new(NovoGrad::new(0.5))).unwrap();
    let written = opt.to_config_for(Target::Addons).unwrap();
    assert_eq!(written["registered_name"], json!("Addons>Lookahead"));
    assert_eq!(written["config"]["optimizer"]["class_name"], json!("Addons>NovoGrad"));
    let plain = opt.to_config().unwrap();
    assert_eq!(plain["class_name"], json!("Addons>Lookahead"), "found by Addons, too");
    assert_eq!(plain["config"]["optimizer"]["class_name"], json!("Addons>NovoGrad"));

    // Keras's legacy Nadam replaces its own `decay`, unless it finds `schedule_decay`.
    let opt = Optimizer::<_, f64>::new(Nadam::new(0.5).schedule_decay(0.02)).unwrap();
    let written = opt.to_config_for(Target::KerasLegacy).unwrap();
    assert_eq!((&written["config"]["schedule_decay"], &written["config"]["decay"]), (&json!(0.02), &json!(0.02)));
    assert_eq!(read(&written).unwrap(), written);
}

/// Wherever a configuration came from, and however it was spelled.
#[test]
fn a_configuration_moves_from_one_library_to_another() {
    let from_2 = sgd(json!({"name": "mine", "learning_rate": 1, "momentum": 0, "clipnorm": 0, "use_ema": 0,
        "jit_compile": true, "is_legacy_optimizer": false}));
    let opt = Optimizer::from_config(&from_2, &optimizers::registry::<f64>()).unwrap();
    let for_3 = opt.to_config_for(Target::Keras3).unwrap();
    let expected = json!({"name": "mine", "learning_rate": 1.0, "momentum": 0.0, "nesterov": false,
        "weight_decay": null, "clipnorm": null, "clipvalue": null, "global_clipnorm": null, "use_ema": false,
        "ema_momentum": 0.99, "ema_overwrite_frequency": null, "loss_scale_factor": null,
        "gradient_accumulation_steps": null});
    assert_eq!(for_3["config"].to_string(), expected.to_string(), "Keras 3 refuses a learning rate of 1");
}

#[test]
fn what_a_target_cannot_express_is_named() {
    type Built = OptimizerBuilder<Box<dyn UpdateRule<f32>>>;
    let builder = |rule: Box<dyn UpdateRule<f32>>| -> Built { Optimizer::builder(rule) };
    let sgd = || builder(Box::new(Sgd::new(0.5).momentum(0.5)));
    let legacy = || builder(Box::new(Sgd::new(0.5).legacy()));
    let scheduled = |rate: ExponentialDecay| builder(Box::new(Nadam::new(rate)));
    let falling = || ExponentialDecay::new(0.5, 10, 0.5);
    let bf16 = MomentStorage::Bf16 { seed: 1 };
    let refused: [(Target, &str, Built); 29] = [
        (Target::Keras3, "moments", sgd().moments(bf16)),
        (Target::Keras2, "moments", sgd().moments(bf16)),
        (Target::Keras3, "non_finite", sgd().non_finite(NonFinite::SkipStep)),
        (Target::Keras2, "flush_denormals", sgd().flush_denormals(false)),
        (
            Target::Keras3,
            "exclude_from_weight_decay",
            sgd().weight_decay(0.5).exclude_from_weight_decay(Exclude::names(["b"])),
        ),
        (Target::Keras3, "weight_decay", sgd().weight_decay(falling())),
        (Target::KerasLegacy, "weight_decay", legacy().weight_decay(0.5)),
        (Target::KerasLegacy, "use_ema", legacy().ema(Ema::new(0.5))),
        (Target::KerasLegacy, "global_clipnorm", legacy().clipnorm(1.0).global_clipnorm(1.0)),
        (Target::KerasLegacy, "is_legacy_optimizer", sgd()),
        (Target::Keras3, "is_legacy_optimizer", legacy()),
        (Target::Keras3, "dialect", builder(Box::new(Sgd::pytorch(0.5)))),
        (Target::Keras3, "learning_rate_outside", builder(Box::new(Sgd::new(0.5).learning_rate_outside(true)))),
        (Target::Keras3, "use_ema", sgd().ema(Ema::new(0.5))),
        (Target::Keras2, "use_ema", sgd().ema(Ema::new(0.5).keras3())),
        (Target::Keras3, "schedule_decay", builder(Box::new(Nadam::keras(0.5).schedule_decay(0.5)))),
        (Target::KerasLegacy, "momentum_schedule", builder(Box::new(Nadam::new(0.5).constant_momentum()))),
        (Target::KerasLegacy, "learning_rate", scheduled(falling())),
        (Target::KerasLegacy, "epsilon", builder(Box::new(Nadam::new(0.5).epsilon(0.0)))),
        (Target::KerasLegacy, "epsilon", builder(Box::new(Adam::new(0.5).legacy().epsilon(0.0)))),
        (Target::KerasLegacy, "is_legacy_optimizer", builder(Box::new(Adam::new(0.5)))),
        (Target::Keras3, "dialect", builder(Box::new(AdamW::pytorch(0.5)))),
        (Target::Keras2, "weight_decay", builder(Box::new(AdamW::new(0.5))).weight_decay(falling())),
        (Target::Addons, "is_legacy_optimizer", builder(Box::new(Lookahead::new(Adam::new(0.5))))),
        (Target::Addons, "total_steps", builder(Box::new(RectifiedAdam::new(0.5).total_steps(2.5)))),
        (Target::Addons, "dialect", builder(Box::new(RectifiedAdam::pytorch(0.5)))),
        (Target::Addons, "decoupled_weight_decay", builder(Box::new(RectifiedAdam::new(0.5))).weight_decay(0.5)),
        (Target::Addons, "average_first_step", builder(Box::new(NovoGrad::new(0.5).average_first_step(true)))),
        (Target::Addons, "is_legacy_optimizer", builder(Box::new(Lookahead::new(Sgd::new(0.5))))),
    ];
    for (target, option, built) in refused {
        let found = built.build().unwrap().to_config_for(target).unwrap_err();
        assert!(
            matches!(&found, ConfigError::NotExpressible { key, .. } if key == option),
            "{target}, {option}: {found}"
        );
        assert!(found.to_string().starts_with(&format!("{target} cannot express ")), "{found}");
    }

    let missing: [(Target, &str, Built); 7] = [
        (Target::KerasLegacy, "AdamW", builder(Box::new(AdamW::new(0.5)))),
        (Target::Addons, "AdamW", builder(Box::new(Lookahead::new(AdamW::new(0.5)))).weight_decay(0.0)),
        (Target::Keras3, "NovoGrad", builder(Box::new(NovoGrad::new(0.5)))),
        (Target::KerasLegacy, "Lookahead", builder(Box::new(Lookahead::new(Sgd::new(0.5).legacy())))),
        (Target::Keras2, "Constant", builder(Box::new(Sgd::new(Constant::new(0.5))))),
        (
            Target::Keras2,
            "TriangularCyclicalLearningRate",
            builder(Box::new(Sgd::new(TriangularCyclicalLearningRate::new(0.0, 1.0, 4)))),
        ),
        (
            Target::Addons,
            "LinearWarmup",
            builder(Box::new(RectifiedAdam::new(LinearWarmup::new(CosineDecay::new(0.5, 10), 5)))),
        ),
    ];
    for (target, class, built) in missing {
        let found = built.build().unwrap().to_config_for(target).unwrap_err();
        assert_eq!(found, ConfigError::NoSuchClass { target, class_name: class.to_owned() });
    }
    let code = sgd().build().map(|mut opt| {
        opt.set_learning_rate(schedule_fn(|_| 0.5)).unwrap();
        opt.to_config_for(Target::Keras3)
    });
    assert!(matches!(code, Ok(Err(ConfigError::NotSerializable { .. }))));
}

/// A dialect that Addons does not know is not called by its name there.
#[test]
fn only_what_addons_can_read_names_addons() {
    let name = |rule: RectifiedAdam| Optimizer::<_, f64>::new(rule).unwrap().to_config().unwrap()["class_name"].clone();
    assert_eq!(name(RectifiedAdam::new(PiecewiseConstantDecay::new([1], [1.0, 0.5]))), "Addons>RectifiedAdam");
    assert_eq!(name(RectifiedAdam::pytorch(0.5)), "RectifiedAdam");
}
