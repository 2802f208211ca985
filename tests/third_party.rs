//! A third party's optimizer, Lion (`third_party/lion.rs`), and what it gets for fewer than 45 lines.

pub(crate) mod lion;

use lion::Lion;
use opt_conformance::golden::File;
use opt_conformance::replay::Registries;
use opt_conformance::{Verdict, conformance, replay};
use optimizers::{Optimizer, Registry, Scalar};
use serde_json::{Value, json};

/// With imports and attributes, without blank lines and comments.
#[test]
fn it_is_under_45_lines_of_code() {
    let lines = include_str!("third_party/lion.rs")
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"));
    let count = lines.count();
    assert!((20..45).contains(&count), "{count} lines");
}

// Every law: clips, weight decay, averages, sparse gradients, resume, threads, memory layouts, refusals.
conformance! {
    class: Lion,
    variants: { default: Lion { learning_rate: 0.0625.into(), ..Lion::default() } },
    golden: [],
    laws: all,
}

fn registry<T: Scalar>() -> Registry<T> {
    let mut registry = optimizers::registry();
    registry.register::<Lion>();
    registry
}

/// A configuration with all stages of the engine, and one of our schedules.
fn everything() -> Value {
    json!({
        "class_name": "Lion",
        "config": {
            "name": "my_lion",
            "learning_rate": {"class_name": "CosineDecay", "config": {"initial_learning_rate": 0.5, "decay_steps": 8}},
            "beta_1": 0.5,
            "beta_2": 0.75,
            "weight_decay": 0.125,
            "global_clipnorm": 1.0,
            "use_ema": true,
            "ema_momentum": 0.5,
            "ema_overwrite_frequency": 4,
            "exclude_from_weight_decay": {"var_names": ["bias"]},
            "non_finite": "skip_step",
        },
    })
}

#[test]
fn its_configuration_comes_back_key_for_key() {
    let optimizer = Optimizer::from_config(&everything(), &registry::<f32>()).unwrap();
    assert_eq!(optimizer.to_config().unwrap(), everything());
    let message = |change: Value| {
        let mut config = everything();
        config["config"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Optimizer::from_config(&config, &registry::<f32>()).unwrap_err().to_string()
    };
    assert_eq!(message(json!({"beta1": 0.5})), "Lion: unknown key \"beta1\"");
    assert_eq!(message(json!({"beta_1": 1.0})), "beta_1 is 1, expected a number in [0, 1)");
}

/// Two steps by hand: eta = 0.5, beta_1 = 0.5, beta_2 = 0.75.
#[test]
fn its_recorded_runs_are_replayed() {
    let file = json!({"format": 1, "cases": [{
        "name": "by hand",
        "dtype": "float64",
        "optimizer": {"class_name": "Lion", "config": {"learning_rate": 0.5, "beta_1": 0.5, "beta_2": 0.75}},
        "variables": [{"name": "w", "shape": [2], "value": [1.0, 2.0]}],
        "steps": [
            {"gradients": [{"dense": [1.0, -2.0]}],
             "expect": {"variables": [[0.5, 2.5]], "slots": {"w": {"m": [0.25, -0.5]}}, "iterations": 1}},
            {"gradients": [{"dense": [-0.125, 0.5]}],
             "expect": {"variables": [[0.0, 2.5]], "slots": {"w": {"m": [0.15625, -0.25]}}, "iterations": 2}},
        ],
        "weights": [{"shape": [], "value": 2.0}, {"shape": [2], "value": [0.15625, -0.25]}],
        "rtol": 0.0,
        "atol": 0.0,
    }]});
    let registries = Registries { float32: registry(), float64: registry() };
    let file: File = serde_json::from_value(file).unwrap();
    assert_eq!(replay(&file.cases[0], &registries), Verdict::Passed);
    let strangers = Registries { float32: optimizers::registry(), float64: optimizers::registry() };
    assert!(matches!(replay(&file.cases[0], &strangers), Verdict::Failed(reason) if reason.contains("unknown class")));
}
