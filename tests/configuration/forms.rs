//! The forms that configurations have in the wild: each is read as its library reads it, and comes back as it was.

use optimizers::config::{ConfigError, HyperparameterError};
use optimizers::{DynOptimizer, Ema, Error, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd, Variable};
use serde_json::{Value, json};

use super::{read, sgd};

/// The value of a variable `w` after one step from 1 with a gradient of 3.
fn stepped(config: &Value) -> f64 {
    let mut optimizer = Optimizer::from_config(config, &optimizers::registry::<f64>()).unwrap();
    let mut w = [1.0];
    optimizer.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0])]).unwrap();
    w[0]
}

/// Keras 2.15 and Keras 3 ask `limit and limit > 0`, and `if frequency`. Keras's legacy generation clips to nothing.
#[test]
fn limits_and_frequencies_of_zero_are_off_in_newer_generations() {
    for (key, limit) in [("clipnorm", json!(0)), ("clipvalue", json!(0.0)), ("global_clipnorm", json!(-1))] {
        let new = sgd(json!({"learning_rate": 0.5, "use_ema": false, key: limit}));
        assert_eq!((stepped(&new), read(&new).unwrap()), (-0.5, new));
        let old = sgd(json!({"learning_rate": 0.5, "decay": 0.0, key: limit}));
        assert!(matches!(read(&old), Err(Error::Hyperparameter(HyperparameterError { name, .. })) if name == key));
        let addons = json!({"class_name": "Addons>NovoGrad", "config": {key: limit}});
        assert!(matches!(read(&addons), Err(Error::Hyperparameter(_))));
    }
    // An off limit does not exclude another one.
    let two = sgd(json!({"learning_rate": 0.5, "use_ema": false, "clipnorm": 0, "clipvalue": 1.0}));
    assert_eq!((stepped(&two), read(&two).unwrap()), (0.5, two));

    let never = sgd(json!({"learning_rate": 0.5, "use_ema": true, "ema_momentum": 0.5, "ema_overwrite_frequency": 0}));
    assert_eq!((stepped(&never), read(&never).unwrap()), (-0.5, never));
    let built = Optimizer::<_, f64>::builder(Sgd::new(0.5)).clipnorm(0.0).build();
    assert!(matches!(built, Err(Error::Hyperparameter(_))), "in code, 0 is refused");
}

/// Without averages Keras looks at neither of these fields.
#[test]
fn fields_of_averages_that_are_not_kept_may_have_any_value() {
    for (momentum, frequency) in [(json!(null), json!(null)), (json!(2), json!(-3)), (json!(0.5), json!(2.5))] {
        for use_ema in [json!(false), json!(null), json!(0)] {
            let config = sgd(json!({"learning_rate": 0.5, "use_ema": use_ema, "ema_momentum": momentum,
                "ema_overwrite_frequency": frequency}));
            assert_eq!(read(&config).unwrap(), config);
            let builder = OptimizerBuilder::from_config(&config, &optimizers::registry::<f64>()).unwrap();
            let written = builder.ema(Ema::new(0.99)).build().unwrap().to_config().unwrap();
            assert_eq!(
                (&written["config"]["use_ema"], &written["config"]["ema_momentum"]),
                (&json!(true), &json!(0.99))
            );
        }
    }
    for (key, value) in [("ema_momentum", json!(null)), ("ema_overwrite_frequency", json!(2.5))] {
        assert!(read(&sgd(json!({"use_ema": true, key: value}))).is_err());
    }
}

#[test]
fn numbers_come_back_as_they_were_spelled() {
    let rate = json!({"module": "keras.optimizers.schedules", "class_name": "CosineDecayRestarts", "registered_name": null,
        "config": {"initial_learning_rate": 1, "first_decay_steps": 900.0, "t_mul": 2, "m_mul": 1, "alpha": 0,
            "name": "SGDRDecay"}});
    let keras_3 = sgd(json!({"learning_rate": rate, "momentum": 1, "nesterov": 1, "weight_decay": 1, "clipnorm": 2,
        "use_ema": 1, "ema_momentum": 1, "ema_overwrite_frequency": 7.0}));
    let rectified = json!({"class_name": "Addons>RectifiedAdam", "config": {"learning_rate": 1, "sma_threshold": 5,
        "total_steps": 1000.0, "min_lr": 0, "decay": 0}});
    let lookahead = json!({"class_name": "Addons>Lookahead", "config": {"sync_period": 6, "slow_step_size": 1,
        "optimizer": {"class_name": "SGD", "config": {"learning_rate": 1, "decay": 0, "momentum": 0}}}});
    for config in [keras_3, rectified, lookahead] {
        let back = read(&config).unwrap();
        assert_eq!(back, config);
        assert_eq!(back.to_string(), config.to_string(), "1 is not 1.0");
    }
}

#[test]
fn a_value_that_changes_loses_its_spelling() {
    let config = sgd(json!({"lr": 1, "momentum": 1}));
    let mut opt = Optimizer::from_config(&config, &optimizers::registry::<f64>()).unwrap();
    opt.set_learning_rate(2.0).unwrap();
    assert_eq!(opt.to_config().unwrap().to_string(), sgd(json!({"lr": 2.0, "momentum": 1})).to_string());
}

/// The values are those of Keras 2.15.
#[test]
fn lengths_of_schedules_need_not_be_whole() {
    let rate = |class: &str, config: &Value, step: u64| {
        let schedule = json!({"class_name": class, "config": config});
        let config = sgd(json!({"learning_rate": schedule}));
        let optimizer = Optimizer::from_config(&config, &optimizers::registry::<f64>()).unwrap();
        assert_eq!(optimizer.to_config().unwrap(), config);
        optimizer.rule().learning_rate().at(step)
    };
    let exponential = json!({"initial_learning_rate": 1.0, "decay_steps": 2.5, "decay_rate": 0.5, "staircase": true});
    assert_eq!([0, 2, 3, 5, 6].map(|s| rate("ExponentialDecay", &exponential, s)), [1.0, 1.0, 0.5, 0.25, 0.25]);
    let boundaries = json!({"boundaries": [1.5, 3.0], "values": [4, 2, 1]});
    assert_eq!([1, 2, 3, 4].map(|s| rate("PiecewiseConstantDecay", &boundaries, s)), [4.0, 2.0, 2.0, 1.0]);
    let polynomial = json!({"initial_learning_rate": 1.0, "decay_steps": 2.5, "end_learning_rate": 0.0});
    assert_eq!([0, 1, 2, 3].map(|s| rate("PolynomialDecay", &polynomial, s)), [1.0, 0.6, 0.2, 0.0]);
    let cycle = json!({"initial_learning_rate": 1.0, "decay_steps": 2.5, "end_learning_rate": 0.0, "cycle": true});
    assert_eq!([0, 2, 3, 5, 6].map(|s| rate("PolynomialDecay", &cycle, s)), [1.0, 0.2, 0.4, 0.0, 0.2]);
    let warmup = json!({"initial_learning_rate": 0.0, "decay_steps": 2.0, "warmup_target": 1.0, "warmup_steps": 2.5});
    let close = |class: &str, config: &Value, step: u64, expected: f64| {
        let found = rate(class, config, step);
        assert!((found - expected).abs() < 1e-15, "{class} at {step}: {found}, expected {expected}");
    };
    close("CosineDecay", &warmup, 2, 0.8);
    close("CosineDecay", &warmup, 3, 0.5 * (1.0 + (std::f64::consts::PI / 4.0).cos()));
    let restarts = json!({"initial_learning_rate": 1.0, "first_decay_steps": 2.5, "t_mul": 1.0});
    close("CosineDecayRestarts", &restarts, 5, 1.0);
    close("CosineDecayRestarts", &restarts, 3, 0.5 * (1.0 + (std::f64::consts::PI / 5.0).cos()));
    let growing = json!({"initial_learning_rate": 1.0, "first_decay_steps": 2.5, "t_mul": 1.5});
    let found = [2, 3, 6, 7, 11].map(|s| (rate("CosineDecayRestarts", &growing, s) * 1e5).round());
    assert_eq!(found, [9_549.0, 95_677.0, 1_093.0, 95_677.0, 5_853.0]);
    let wave = json!({"initial_learning_rate": 0.0, "maximal_learning_rate": 1.0, "step_size": 2.5});
    close("TriangularCyclicalLearningRate", &wave, 2, 0.8);
    close("TriangularCyclicalLearningRate", &wave, 3, 0.8);
    let rule = RectifiedAdam::new(1.0).total_steps(2.5).warmup_proportion(0.4);
    let mut opt = Optimizer::<_, f64>::new(rule).unwrap();
    let mut w = [0.0];
    let rates = [(); 3].map(|()| {
        let before = w[0];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
        before - w[0]
    });
    // A warmup of 1 step, and a fall of 1.5 steps.
    assert!((rates[0] - 1.0).abs() + (rates[1] - 1.0 / 3.0).abs() + rates[2].abs() < 1e-15, "{rates:?}");
}

/// Keras up to 2.2, and `keras.optimizers.get`.
#[test]
fn old_names_are_read_and_kept() {
    let old_sgd = json!({"class_name": "sGd", "config": {"lr": 0.5, "decay": 0.0, "momentum": 0.0, "nesterov": false}});
    let only_lr = sgd(json!({"lr": 0.5}));
    for config in [&old_sgd, &only_lr] {
        assert_eq!((stepped(config), &read(config).unwrap()), (-0.5, config));
    }
    // psi is called schedule_decay in both generations of this class.
    let nadam = |key: &str| json!({"class_name": "Nadam", "config": {"lr": 0.5, "beta_1": 0.9, "beta_2": 0.999, "epsilon": null, key: 0.02}});
    assert_eq!(stepped(&nadam("schedule_decay")), stepped(&nadam("decay")));
    assert_ne!(stepped(&nadam("schedule_decay")), stepped(&json!({"class_name": "nadam", "config": {"lr": 0.5}})));
    assert_eq!(read(&nadam("schedule_decay")).unwrap(), nadam("schedule_decay"));

    // Keras 2.15 ignores `lr` in the newer generation.
    for config in [json!({"lr": 0.5, "use_ema": false}), json!({"lr": 0.5, "learning_rate": 0.25, "decay": 0.0})] {
        let error = read(&sgd(config)).unwrap_err();
        assert!(matches!(&error, Error::Config(ConfigError::NotSupported { key, .. }) if key == "lr"), "{error}");
    }
}

#[test]
fn names_of_classes_may_have_any_case_and_stand_alone() {
    for name in ["sgd", "SGD", "Sgd"] {
        assert_eq!(read(&json!(name)).unwrap(), json!(name));
        assert_eq!(stepped(&json!({"class_name": name, "config": {"learning_rate": 0.5}})), -0.5);
    }
    let mut opt = Optimizer::from_config(&json!("nadam"), &optimizers::registry::<f64>()).unwrap();
    opt.set_learning_rate(0.5).unwrap();
    assert_eq!(opt.to_config().unwrap(), json!({"class_name": "nadam", "config": {"learning_rate": 0.5}}));
    assert!(matches!(read(&json!("adamax")), Err(Error::Config(ConfigError::UnknownClass { .. }))));
    let inside = json!({"class_name": "lookahead", "config": {"optimizer": "sgd"}});
    assert_eq!(read(&inside).unwrap(), inside);
}

/// As Keras 3 writes tensors, and both generations arrays.
#[test]
fn wrapped_values_are_read_and_kept() {
    let tensor = |value: Value| json!({"class_name": "__tensor__", "config": {"value": value, "dtype": "float32"}});
    let numpy = |value: Value| json!({"class_name": "__numpy__", "config": {"value": value, "dtype": "int64"}});
    let rate = json!({"class_name": "PiecewiseConstantDecay", "config": {"boundaries": numpy(json!([0, 5])),
        "values": [tensor(json!(0.5)), tensor(json!(0.25)), 0.125], "name": null}});
    let config = sgd(json!({"learning_rate": rate, "weight_decay": tensor(json!(0.5)), "momentum": tensor(json!(0))}));
    assert_eq!((stepped(&config), read(&config).unwrap()), (1.0 - 0.25 - 1.5, config));
}

#[test]
fn an_optimizer_is_found_in_the_configuration_of_its_model() {
    let config = sgd(json!({"learning_rate": 0.5}));
    let whole = json!({"module": "keras", "class_name": "Sequential", "config": {"layers": []}, "build_config": {},
        "compile_config": {"optimizer": config, "loss": "mse"}});
    let training = json!({"loss": "mse", "metrics": [], "optimizer_config": config});
    let compiled = json!({"optimizer": config, "loss": "mse", "metrics": null});
    for part in [&whole, &training, &compiled] {
        assert_eq!(read(part).unwrap(), config);
        let own = OptimizerBuilder::<Sgd, f64>::from_config_of(part, &optimizers::registry()).unwrap();
        assert_eq!(own.build().unwrap().learning_rate(), 0.5);
    }
    let not_compiled = json!({"class_name": "Sequential", "config": {"layers": []}});
    let message = read(&not_compiled).unwrap_err().to_string();
    assert!(message.contains("compile_config") && message.contains("optimizer_config"), "{message}");
}

#[test]
fn fields_without_a_class_are_read_by_a_type_that_has_one() {
    let fields = json!({"name": "SGD", "learning_rate": 0.5, "decay": 0.0, "momentum": 0, "nesterov": false});
    let message = read(&fields).unwrap_err().to_string();
    assert!(message.contains("without its class") && message.contains("from_config_of"), "{message}");
    let own = OptimizerBuilder::<Sgd, f64>::from_config_of(&fields, &optimizers::registry()).unwrap();
    assert_eq!(own.build().unwrap().to_config().unwrap(), sgd(fields));
}

#[test]
fn keys_of_features_that_do_not_exist_here_are_known() {
    for (key, value) in [
        ("amsgrad", json!(true)),
        ("decay", json!(0.5)),
        ("maximize", json!(true)),
        ("foreach", json!(true)),
        ("gradient_aggregator", json!("mean")),
    ] {
        let error = read(&sgd(json!({"use_ema": false, key: value}))).unwrap_err();
        assert!(matches!(&error, Error::Config(ConfigError::NotSupported { key: k, .. }) if k == key), "{error}");
        assert!(error.to_string().starts_with(&format!("SGD: {key} is {value}: ")), "{error}");
    }
    let off =
        sgd(json!({"use_ema": false, "loss_scale_factor": 1.0, "gradient_accumulation_steps": 0, "amsgrad": false,
        "decay": 0.0, "maximize": false, "foreach": null, "capturable": false, "fused": null, "differentiable": 0,
        "exclude_from_weight_decay": null, "nesterov": null}));
    assert_eq!(read(&off).unwrap(), off);
}

/// `\Z` is the end of a text in Python.
#[test]
fn patterns_are_those_of_python() {
    let decayed = |pattern: &str| {
        let exclude = json!({"var_names": [pattern]});
        let config = sgd(json!({"learning_rate": 0.5, "weight_decay": 0.5, "exclude_from_weight_decay": exclude}));
        let mut opt = Optimizer::from_config(&config, &optimizers::registry::<f64>()).unwrap();
        assert_eq!(opt.to_config().unwrap(), config);
        let mut values = ["a/bias", "bias/a", "a\\Z", "<b>"].map(|name| (name, [1.0]));
        opt.apply_gradients(values.iter_mut().map(|(name, w)| Variable::new(*name, w).gradient(&[0.0]))).unwrap();
        values.map(|(_, w)| w[0] < 1.0)
    };
    assert_eq!(decayed(r"bias\Z"), [false, true, true, true]);
    assert_eq!(decayed(r"\\Z"), [true, true, false, true]);
    assert_eq!(decayed(r"\<b\>"), [true, true, true, false]);
}

/// Which averages they are is a part of the configuration.
#[test]
fn averages_keep_their_kind() {
    let keras3 = json!({"class_name": "SGD", "config": {
        "learning_rate": 0.01, "loss_scale_factor": null, "gradient_accumulation_steps": null,
    }});
    let averaged = |ema: Ema| {
        let builder = OptimizerBuilder::<_, f64>::from_config(&keras3, &optimizers::registry()).unwrap();
        builder.ema(ema).build().unwrap().to_config().unwrap()
    };
    let trained = |config: &Value| {
        let mut opt = DynOptimizer::<f64>::from_config(config, &optimizers::registry()).unwrap();
        let mut w = [10.0_f64];
        for _ in 0..10 {
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
        }
        opt.finalize_variable_values(&mut [Variable::new("w", &mut w)]).unwrap();
        w[0]
    };
    let ema = || Ema::new(0.99);
    assert!((trained(&averaged(ema())) - 9.994662).abs() < 5e-7);
    assert!((trained(&averaged(ema().keras3())) - 9.985618).abs() < 5e-7);
}
