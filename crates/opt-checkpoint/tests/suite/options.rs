//! Parts of a checkpoint, other names, other configurations.

use std::io::Cursor;

use ndarray::{ArrayD, IxDyn};
use opt_checkpoint::{Checkpoint, Error, LoadOptions, Mismatch, SaveOptions};
use opt_core::state::StateValue;
use opt_core::{DynOptimizer, Optimizer};
use opt_sgd::Sgd;
use serde_json::{Value, json};

use crate::run::{Rule, builder, checkpoint, problem, trained};

fn value(optimizer: &Optimizer<Rule, f32>, name: &str) -> StateValue<'static, f32> {
    optimizer.weights().into_iter().find(|weight| weight.name == name).unwrap().value
}

#[test]
fn only_what_is_asked_for_is_loaded() {
    let (source, source_values) = trained(builder::<f32>(), 5);
    let (before, _) = trained(builder::<f32>(), 2);
    let (mut optimizer, mut variables) = trained(builder::<f32>(), 2);
    let options = LoadOptions::new().only("^v3").unwrap().except("/m$").unwrap();
    let loaded = options.load(&checkpoint(), &mut optimizer, &mut variables).unwrap();
    let mut names = loaded.loaded;
    names.sort();
    assert_eq!(names, ["v3", "v3/average", "v3/slow", "v3/v"]);
    assert_eq!((loaded.iterations, loaded.configuration_compared), (2, false));
    for weight in optimizer.weights() {
        let from = if names.contains(&weight.name) { &source } else { &before };
        assert_eq!(weight.value, value(from, &weight.name), "{}", weight.name);
        assert_eq!(names.contains(&weight.name), !loaded.kept.contains(&weight.name));
    }
    for ((name, got), (_, want)) in variables.0.iter().zip(&source_values.0) {
        assert_eq!(got == want, name == "v3" || got.is_empty(), "{name}");
    }
}

#[test]
fn a_part_can_be_loaded_before_the_first_step() {
    let (mut optimizer, mut variables) = (builder::<f32>().build().unwrap(), problem().start());
    LoadOptions::new().only("^v3").unwrap().load(&checkpoint(), &mut optimizer, &mut variables).unwrap();
    let (source, _) = trained(builder::<f32>(), 5);
    assert_eq!(optimizer.iterations(), 0);
    assert_eq!(value(&optimizer, "v3/m"), value(&source, "v3/m"));
    assert_eq!(value(&optimizer, "v5/m"), StateValue::from(ArrayD::zeros(IxDyn(&[2, 3, 4]))));
}

#[test]
fn a_part_that_is_not_there_is_missing() {
    let (mut optimizer, mut variables) = trained(builder::<f32>(), 2);
    variables.0.push(("v3/new".to_owned(), ArrayD::zeros(IxDyn(&[2]))));
    let (weights, values) = (optimizer.weights(), variables.clone());
    let options = LoadOptions::new().only("^v3").unwrap();
    let error = options.load(&checkpoint(), &mut optimizer, &mut variables).unwrap_err();
    let Error::Mismatch { mismatches, .. } = error else { panic!("{error}") };
    assert_eq!(mismatches, [Mismatch::Missing { name: "v3/new".to_owned() }]);
    assert_eq!((optimizer.weights(), variables), (weights, values));
}

#[test]
fn entries_can_be_renamed() {
    let (want, want_values) = trained(builder::<f32>(), 5);
    let (mut optimizer, mut variables) = (builder::<f32>().build().unwrap(), problem().start::<f32>());
    for (name, _) in &mut variables.0 {
        *name = name.replace('v', "layers.");
    }
    let options = LoadOptions::new().rename(r"^v(\d+)", "layers.$1").unwrap();
    options.load(&checkpoint(), &mut optimizer, &mut variables).unwrap();
    let numbers = |optimizer: &Optimizer<Rule, f32>| {
        optimizer.weights().into_iter().map(|weight| weight.value).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&optimizer), numbers(&want));
    assert!(variables.0.iter().zip(&want_values.0).all(|((_, got), (_, want))| got == want));
    assert!(optimizer.slot("layers.3", "m").is_ok());
}

#[test]
fn two_entries_cannot_get_the_same_name() {
    let (mut optimizer, mut variables) = trained(builder::<f32>(), 2);
    let options = LoadOptions::new().rename("^v4$", "v3").unwrap();
    let error = options.load(&checkpoint(), &mut optimizer, &mut variables).unwrap_err();
    let Error::Mismatch { mismatches, .. } = error else { panic!("{error}") };
    assert!(mismatches.contains(&Mismatch::Twice { name: "v3".to_owned() }), "{mismatches:?}");
}

#[test]
fn a_configuration_may_differ_if_that_is_said() {
    let (mut optimizer, mut variables) = trained(builder::<f32>(), 2);
    optimizer.set_learning_rate(0.5).unwrap();
    let options = LoadOptions::new().any_configuration();
    let loaded = options.load(&checkpoint(), &mut optimizer, &mut variables).unwrap();
    assert_eq!((loaded.iterations, loaded.configuration_compared), (5, false));
    assert_eq!(optimizer.learning_rate(), 0.5);
    assert_eq!(optimizer.weights(), trained(builder::<f32>(), 5).0.weights());
}

#[test]
fn a_pattern_that_is_none_is_refused() {
    for refused in [LoadOptions::new().only("("), LoadOptions::new().except("("), LoadOptions::new().rename("(", "")] {
        assert!(matches!(refused, Err(Error::Pattern { pattern, .. }) if pattern == "("));
    }
}

#[test]
fn variables_go_into_models_that_are_trained_otherwise() {
    let (_, want) = trained(builder::<f32>(), 5);
    let mut variables = problem().start::<f32>();
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    checkpoint().load_variables(&mut variables).unwrap();
    assert_eq!(variables, want);
    problem().step(0, &mut opt, &mut variables).unwrap();
    assert_ne!(variables, want);
}

#[test]
fn variables_that_do_not_fit_are_refused_whole() {
    let mut variables = problem().start::<f32>();
    variables.0.retain(|(name, _)| name != "v4");
    let before = variables.clone();
    let error = checkpoint().load_variables(&mut variables).unwrap_err();
    let Error::Mismatch { mismatches, .. } = error else { panic!("{error}") };
    assert_eq!(mismatches, [Mismatch::Unexpected { name: "v4".to_owned() }]);
    assert_eq!(variables, before);
    let missing = Checkpoint::open("no/such/file").unwrap_err();
    assert!(missing.to_string().starts_with("cannot read no/such/file: "), "{missing}");
}

/// It does not matter how a loss scale is written; what the numbers of slots mean does, also inside and in groups.
#[test]
fn configurations_are_compared_by_what_they_mean() {
    let saved = |config: &Value| {
        let mut opt = read(config);
        let mut w = [1.0_f32];
        opt.step(&mut w, &[1.0]).unwrap();
        let mut file = Cursor::new(Vec::new());
        SaveOptions::new().write(&mut file, &opt, &w).unwrap();
        Checkpoint::from_bytes(file.into_inner()).unwrap()
    };
    let scale = json!({"dynamic": true, "initial_scale": 8.0, "dynamic_growth_steps": 2000});
    let sgd = |outside: bool| json!({"learning_rate": 0.5, "momentum": 0.5, "learning_rate_outside": outside});
    let around = |fields: Value| {
        let inner = json!({"class_name": "SGD", "config": fields});
        json!({"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": inner, "initial_scale": 8.0}})
    };
    let file = saved(&around(sgd(false)));
    let mut own = sgd(false);
    own["loss_scale"] = scale;
    let mut opt = read(&json!({"class_name": "SGD", "config": own}));
    assert!(file.load(&mut opt, &mut [0.0_f32]).unwrap().configuration_compared);

    let velocity = || LoadOptions::new().only("/momentum$").unwrap();
    assert!(velocity().load(&file, &mut read(&around(sgd(false))), &mut [0.0_f32]).is_ok());
    let refused = velocity().load(&file, &mut read(&around(sgd(true))), &mut [0.0_f32]).unwrap_err();
    assert!(refused.to_string().contains("learning_rate_outside"), "{refused}");

    let grouped = |outside: bool| {
        let rule = json!({"class_name": "SGD", "config": sgd(outside)});
        json!({"class_name": "SGD", "config": {"learning_rate": 0.5, "groups": [{"pattern": "value", "rule": rule}]}})
    };
    let file = saved(&grouped(false));
    assert!(velocity().load(&file, &mut read(&grouped(false)), &mut [0.0_f32]).is_ok());
    let refused = velocity().load(&file, &mut read(&grouped(true)), &mut [0.0_f32]).unwrap_err();
    assert!(refused.to_string().contains("groups"), "{refused}");
}

fn read(config: &Value) -> DynOptimizer<f32> {
    DynOptimizer::from_config(config, &optimizers::registry()).unwrap()
}
