//! Configurations: the optimizer inside comes back key for key, and nothing in it is ignored.

use opt_core::config::fields;
use opt_core::config::{Config, ConfigError, Configurable, Fields, FromFields, Hyperparameters};
use opt_core::rule::{Block, Done, Kernel, SlotInit, SlotSpec, SparseUpdate, Step, WeightsOrder};
use opt_core::{Error, Hyper, Optimizer, OptimizerBuilder, Registry, UpdateRule, Variable};
use opt_lookahead::Lookahead;
use opt_nadam::Nadam;
use opt_radam::RectifiedAdam;
use opt_sgd::Sgd;
use serde_json::{Value, json};

fn registry() -> Registry<f64> {
    let mut registry = Registry::new();
    registry.register::<Sgd>().register::<Nadam>().register::<RectifiedAdam>();
    opt_schedules::register(registry.schedules_mut());
    opt_lookahead::register(&mut registry);
    registry
}

fn around(optimizer: &Value) -> Value {
    json!({
        "module": "tensorflow_addons.optimizers.lookahead",
        "class_name": "Addons>Lookahead",
        "config": {"name": "Ranger", "optimizer": optimizer, "sync_period": 10, "slow_step_size": 0.4},
        "registered_name": "Addons>Lookahead",
    })
}

/// What `tf.keras.optimizers.serialize(tf.keras.optimizers.SGD(0.5, momentum=0.5))` returns.
fn new_style() -> Value {
    json!({
        "module": "keras.optimizers",
        "class_name": "SGD",
        "config": {
            "name": "inside", "weight_decay": null, "clipnorm": null, "global_clipnorm": null, "clipvalue": null,
            "use_ema": false, "ema_momentum": 0.75, "ema_overwrite_frequency": 4, "jit_compile": true,
            "is_legacy_optimizer": false, "learning_rate": 0.5, "momentum": 0.5, "nesterov": false,
        },
        "registered_name": null,
    })
}

fn refused(config: &Value) -> ConfigError {
    match Optimizer::from_config(config, &registry()) {
        Err(Error::Config(error)) => error,
        other => panic!("{config}: {other:?}"),
    }
}

#[test]
fn configurations_come_back_key_for_key() {
    let sgd = json!({"class_name": "SGD", "config": {"learning_rate": 0.5, "decay": 0.0, "momentum": 0.5}});
    let short = json!({"class_name": "Lookahead", "config": {"optimizer": {"class_name": "SGD", "config": {}}}});
    let nested = around(&around(&sgd));
    let mut off = new_style();
    off["config"]["clipnorm"] = json!(0);
    off["config"]["loss_scale_factor"] = json!(null);
    let by_name = json!({"class_name": "lookahead", "config": {"optimizer": "sgd"}});
    let decaying = json!({"class_name": "ExponentialDecay", "config": {
        "initial_learning_rate": 0.5, "decay_steps": 10, "decay_rate": 0.5, "staircase": false, "name": null,
    }});
    let mut scheduled = new_style();
    scheduled["config"]["learning_rate"] = decaying;
    for config in [around(&sgd), short, nested, around(&new_style()), around(&scheduled), around(&off), by_name] {
        let optimizer = Optimizer::from_config(&config, &registry()).unwrap();
        assert_eq!(optimizer.to_config().unwrap(), config);
    }
}

#[test]
fn every_key_has_its_effect() {
    let mut optimizer = Optimizer::from_config(&around(&new_style()), &registry()).unwrap();
    let mut w = [0.0];
    for _ in 0..10 {
        optimizer.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    }
    // m approaches -1: its sum over 10 steps is -10 + 1 - 2^-10.
    assert!((w[0] + 0.4 * (9.0 + 0.5_f64.powi(10))).abs() <= 1e-14, "{w:?}");
}

#[test]
fn what_was_built_in_code_is_written_in_full() {
    let lookahead = Lookahead::new(Sgd::new(0.5).legacy()).sync_period(3).slow_step_size(0.25);
    let optimizer = Optimizer::<_, f64>::builder(lookahead).clipnorm(2.0).build().unwrap();
    let sgd = json!({"name": "SGD", "learning_rate": 0.5, "decay": 0.0, "momentum": 0.0, "nesterov": false});
    let want = json!({"class_name": "Addons>Lookahead", "config": {
        "name": "Lookahead", "clipnorm": 2.0, "sync_period": 3, "slow_step_size": 0.25,
        "optimizer": {"class_name": "SGD", "config": sgd},
    }});
    assert_eq!(optimizer.to_config().unwrap(), want);
}

#[test]
fn defaults_are_those_of_tensorflow_addons() {
    let config = json!({"class_name": "Lookahead", "config": {"optimizer": {"class_name": "SGD", "config": {}}}});
    let builder = OptimizerBuilder::<Lookahead<Sgd>, f64>::from_config_of(&config, &registry()).unwrap();
    let written = builder.build().unwrap().rule().config().unwrap();
    assert_eq!((&written["sync_period"], &written["slow_step_size"]), (&json!(6), &json!(0.5)));
}

#[test]
fn settings_of_the_engine_are_refused_inside() {
    let schedule = json!({"class_name": "Constant", "config": {"value": 0.5}});
    for (key, value) in [
        ("clipnorm", json!(1.0)),
        ("clipvalue", json!(0.5)),
        ("global_clipnorm", json!(0.5)),
        ("weight_decay", json!(0.1)),
        ("weight_decay", schedule),
        ("decoupled_weight_decay", json!(0.1)),
        ("exclude_from_weight_decay", json!({"var_names": ["bias"]})),
        ("use_ema", json!(true)),
        ("non_finite", json!("error")),
        ("loss_scale_factor", json!(2.0)),
        ("gradient_accumulation_steps", json!(4)),
    ] {
        let mut inner = new_style();
        inner["config"][key] = value.clone();
        match refused(&around(&inner)) {
            ConfigError::WrongType { class_name, key: found_key, found, .. }
            | ConfigError::NotSupported { class_name, key: found_key, found, .. } => {
                assert_eq!((class_name.as_str(), found_key.as_str(), found), ("SGD", key, value.to_string()));
            }
            other => panic!("{key}: {other:?}"),
        }
    }
}

/// RectifiedAdam has a weight decay of its own, which is not the engine's.
#[test]
fn a_weight_decay_of_the_rule_stays_inside() {
    let config = around(&json!({"class_name": "RectifiedAdam", "config": {"weight_decay": 0.5}}));
    let mut optimizer = Optimizer::from_config(&config, &registry()).unwrap();
    assert_eq!(optimizer.to_config().unwrap(), config);
    let mut w = [1.0];
    optimizer.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
    assert!((w[0] - (1.0 - 1e-3 * 0.5)).abs() <= 1e-15);
}

#[test]
fn what_cannot_be_read_is_named() {
    let message = |config: &Value| refused(config).to_string();
    let sgd = || json!({"class_name": "SGD", "config": {}});
    assert_eq!(
        refused(&around(&json!({"class_name": "Adagrad", "config": {}}))),
        ConfigError::UnknownClass {
            class_name: "Adagrad".to_owned(),
            known: ["Lookahead", "Nadam", "RectifiedAdam", "SGD"].map(str::to_owned).to_vec(),
        }
    );
    let unknown = around(&json!({"class_name": "SGD", "config": {"momentun": 0.9}}));
    assert_eq!(message(&unknown), "SGD: unknown key \"momentun\"");
    let mut missing = around(&sgd());
    missing["config"].as_object_mut().unwrap().remove("optimizer");
    assert_eq!(message(&missing), "Lookahead: key \"optimizer\" is missing");
    assert!(matches!(refused(&around(&json!(["sgd"]))), ConfigError::NotAnObject { .. }));
    for (key, value) in [("sync_period", json!(3.5)), ("sync_period", json!(-3)), ("slow_step_size", json!("half"))] {
        let mut wrong = around(&sgd());
        wrong["config"][key] = value;
        assert!(matches!(refused(&wrong), ConfigError::WrongType { key: found, .. } if found == key));
    }
    let mut unknown = around(&sgd());
    unknown["config"]["sync_periods"] = json!(5);
    assert_eq!(message(&unknown), "Lookahead: unknown key \"sync_periods\"");
    let mut out_of_range = around(&sgd());
    out_of_range["config"]["sync_period"] = json!(0);
    assert!(matches!(Optimizer::from_config(&out_of_range, &registry()), Err(Error::Hyperparameter(_))));
}

#[test]
fn a_typed_lookahead_reads_its_own_class_only() {
    let config = around(&new_style());
    let typed = OptimizerBuilder::<Lookahead<Sgd>, f64>::from_config_of(&config, &registry()).unwrap();
    assert_eq!(typed.build().unwrap().to_config().unwrap(), config);
    let other = OptimizerBuilder::<Lookahead<Nadam>, f64>::from_config_of(&config, &registry());
    assert_eq!(other.err(), Some(ConfigError::OtherClass { found: "SGD".to_owned(), expected: "Nadam" }));
}

/// A stranger's rule, with a slot of every kind, by names that Lookahead would use.
#[derive(Debug, Clone)]
struct Stranger(Hyper);

/// Wants touched rows only, and insists.
struct Touched(f64);

impl Kernel<f64> for Touched {
    fn update(&self, block: Block<'_, f64>) -> Done {
        assert!(block.is_touched(), "a row that the kernel did not ask for");
        block.elementwise(SparseUpdate::Rows, &self.0, |eta, w, g, [sum, ones, start]: [f64; 3]| {
            (w - eta * g, [sum + g, ones, start])
        })
    }

    fn visits_untouched_rows(&self) -> bool {
        false
    }
}

impl Configurable for Stranger {
    fn class_name(&self) -> &str {
        "Stranger"
    }
    fn config(&self) -> Result<Config, ConfigError> {
        Ok(fields([("learning_rate", self.0.to_json()?)]))
    }
}

impl Hyperparameters for Stranger {
    fn learning_rate(&self) -> &Hyper {
        &self.0
    }
    fn learning_rate_mut(&mut self) -> &mut Hyper {
        &mut self.0
    }
}

impl FromFields for Stranger {
    const CLASS_NAME: &'static str = "Stranger";

    fn from_fields(fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        Ok(Self(fields.required("learning_rate")?))
    }
}

impl UpdateRule<f64> for Stranger {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![
            SlotSpec::shared("slow", 2.0),
            SlotSpec::scalar("slow_2", 3.0),
            SlotSpec::zeros("slow_3"),
            SlotSpec::ones("slow_4"),
            SlotSpec::copy_of_variable("slow_5"),
        ]
    }
    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f64>> {
        Box::new(Touched(step.learning_rate))
    }
    fn weights_order(&self) -> WeightsOrder {
        WeightsOrder::ByVariable
    }
}

#[test]
fn a_strangers_rule_is_wrapped_through_the_registry() {
    let config = around(&json!({"class_name": "Their>Stranger", "config": {"learning_rate": 1.0}}));
    assert!(matches!(refused(&config), ConfigError::UnknownClass { class_name, .. } if class_name == "Stranger"));
    let mut registry = registry();
    registry.register::<Stranger>();
    let mut optimizer = Optimizer::from_config(&config, &registry).unwrap();
    assert_eq!(optimizer.to_config().unwrap(), config);
    let mut w = [0.0, 4.0];
    for _ in 0..10 {
        optimizer.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[0_usize], &[1.0])]).unwrap();
    }
    assert_eq!(w, [-4.0, 4.0]);
    let names: Vec<String> = optimizer.weights().into_iter().map(|weight| weight.name).collect();
    assert_eq!(names, ["iterations", "slow_2", "w/slow", "w/slow_3", "w/slow_4", "w/slow_5", "w/slow_6"]);
}

/// What the rule inside does to its learning rate shows outside, and the clips are those of the legacy generation.
#[test]
fn a_configuration_makes_what_code_makes() {
    let mut config =
        around(&json!({"class_name": "RectifiedAdam", "config": {"learning_rate": 1.0, "total_steps": 8}}));
    config["config"]["clipnorm"] = json!(1.0);
    config["config"]["clipvalue"] = json!(0.5);
    let mut optimizer = Optimizer::from_config(&config, &registry()).unwrap();
    let rule = Lookahead::new(RectifiedAdam::new(1.0).total_steps(8)).sync_period(10).slow_step_size(0.4);
    let mut w = [1.0];
    for step in 0..9 {
        assert_eq!(optimizer.learning_rate(), UpdateRule::<f64>::learning_rate_at(&rule, step));
        optimizer.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    }
    assert_eq!(optimizer.to_config().unwrap(), config);
    let read = optimizer.rule();
    assert_eq!(
        (read.class_name(), read.needs_gradient_norm(), read.slots()),
        ("Lookahead", false, UpdateRule::<f64>::slots(&rule),)
    );
}

#[test]
fn slots_of_one_name_are_told_apart() {
    let stranger = || Stranger(1.0.into());
    let slots = |rule: &dyn UpdateRule<f64>| -> Vec<(String, SlotInit)> {
        rule.slots().iter().map(|slot| (slot.name().to_owned(), slot.init())).collect()
    };
    let want = |inits: &[SlotInit]| -> Vec<(String, SlotInit)> {
        let names = ["slow", "slow_2", "slow_3", "slow_4", "slow_5", "slow_6", "slow_7"];
        names.map(str::to_owned).into_iter().zip(inits.iter().copied()).collect()
    };
    let own = [SlotInit::Shared(2.0), SlotInit::Scalar(3.0), SlotInit::Zeros, SlotInit::Ones, SlotInit::Copy];
    let [once, twice] = [1, 2].map(|levels| [vec![SlotInit::Copy; levels], own.to_vec()].concat());
    assert_eq!(slots(&Lookahead::new(stranger())), want(&once));
    assert_eq!(slots(&Lookahead::new(Lookahead::new(stranger()))), want(&twice));

    let mut opt = Optimizer::new(Lookahead::new(Lookahead::new(stranger()))).unwrap();
    let mut w = [5.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    let names: Vec<String> = opt.weights().into_iter().map(|weight| weight.name).collect();
    let want = ["iterations", "slow_3", "w/slow", "w/slow_2", "w/slow_4", "w/slow_5", "w/slow_6", "w/slow_7"];
    assert_eq!(names, want);
}

#[test]
fn more_slots_than_fit_are_refused() {
    fn deep(levels: usize) -> Box<dyn UpdateRule<f64>> {
        if levels == 0 { Box::new(Sgd::new(1.0)) } else { Box::new(Lookahead::new(deep(levels - 1))) }
    }
    assert_eq!(Optimizer::new(deep(8)).unwrap().slot_names().last(), Some(&"slow_8"));
    assert!(matches!(Optimizer::new(deep(9)), Err(Error::Slots { .. })));
}
