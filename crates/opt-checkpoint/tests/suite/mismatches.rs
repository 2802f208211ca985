//! A checkpoint that does not fit is refused as a whole, and one error lists all differences.

use ndarray::{Array1, ArrayD, IxDyn};
use opt_checkpoint::{Checkpoint, Contents, Element, Error, Mismatch, SaveOptions, save};
use opt_conformance::problem::Variables;
use opt_core::{Ema, Hyper, Optimizer, UpdateRule, Variable};
use opt_sgd::Sgd;
use serde_json::json;

use crate::run::{builder, bytes, checkpoint, novograd, problem, saved, trained};

/// Tries to load into a training with another history, and checks that it is unchanged.
fn refused<R: UpdateRule<T>, T: Element>(
    checkpoint: &Checkpoint,
    (mut optimizer, mut variables): (Optimizer<R, T>, Variables<T>),
) -> Vec<Mismatch> {
    let (weights, values) = (optimizer.weights(), variables.clone());
    let error = checkpoint.load(&mut optimizer, &mut variables).unwrap_err();
    assert_eq!((optimizer.weights(), variables), (weights, values));
    match error {
        Error::Mismatch { mismatches, .. } => mismatches,
        other => panic!("{other}"),
    }
}

fn missing(name: &str) -> Mismatch {
    Mismatch::Missing { name: name.to_owned() }
}

fn unexpected(name: &str) -> Mismatch {
    Mismatch::Unexpected { name: name.to_owned() }
}

#[test]
fn everything_that_does_not_fit_is_listed() {
    let (optimizer, mut variables) = trained(builder::<f32>(), 3);
    variables.0.retain(|(name, _)| name != "v0");
    variables.0.push(("extra".to_owned(), ArrayD::zeros(IxDyn(&[2]))));
    for (name, value) in &mut variables.0 {
        if name == "v1" {
            *value = ArrayD::zeros(IxDyn(&[1, 1]));
        }
    }
    let mut found = refused(&checkpoint(), (optimizer, variables));
    let (shape, found_shape) = (vec![1, 1], vec![1]);
    let mut want = vec![missing("extra")];
    for name in ["v1", "v1/average", "v1/m", "v1/slow", "v1/v"] {
        let (name, expected, found) = (name.to_owned(), shape.clone(), found_shape.clone());
        want.push(Mismatch::Shape { name, expected, found });
    }
    want.extend(["v0", "v0/average", "v0/m", "v0/slow", "v0/v"].map(unexpected));
    let text = |mismatch: &Mismatch| mismatch.to_string();
    found.sort_by_key(text);
    want.sort_by_key(text);
    assert_eq!(found, want);
}

#[test]
fn damage_is_listed_with_the_rest() {
    let mut file = saved();
    let damaged = Checkpoint::from_bytes(file.clone()).unwrap();
    let tensor = damaged.tensors().find(|tensor| tensor.name == "embedding/m").unwrap();
    file[tensor.pieces[0].bytes.start as usize + 5] ^= 4;
    let (optimizer, mut variables) = trained(builder::<f32>(), 3);
    variables.0.push(("extra".to_owned(), ArrayD::zeros(IxDyn(&[2]))));
    let found = refused(&Checkpoint::from_bytes(file).unwrap(), (optimizer, variables));
    let [first, Mismatch::Checksum { name, expected, found }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((first, name.as_str(), *expected), (&missing("extra"), "embedding/m", tensor.pieces[0].checksum));
    assert_ne!(found, expected);
}

#[test]
fn another_element_type_is_refused() {
    let found = refused(&checkpoint(), trained(builder::<f64>(), 3));
    let dtype =
        |name: &str| Mismatch::DType { name: name.to_owned(), expected: "F64".to_owned(), found: "F32".to_owned() };
    // Variables and four slots each; counter and shared slot are the same.
    assert_eq!(found.len(), 5 * problem().variables.len());
    assert!(found.contains(&dtype("v3")) && found.contains(&dtype("v3/slow")), "{found:?}");
}

#[test]
fn another_rule_is_refused() {
    let found = refused(&checkpoint(), trained(novograd::<f32>(), 3));
    assert!(found.contains(&missing("v3/vhat")) && found.contains(&unexpected("v3/slow")), "{found:?}");
    assert!(found.contains(&unexpected("momentum_cache")), "{found:?}");
    let class =
        |mismatch: &Mismatch| matches!(mismatch, Mismatch::Configuration { field, .. } if field == "class_name");
    assert!(found.iter().any(class), "{found:?}");
}

#[test]
fn another_configuration_is_refused() {
    let (mut optimizer, variables) = trained(builder::<f32>(), 5);
    optimizer.set_learning_rate(0.0625).unwrap();
    // Lookahead's learning rate is that of the rule inside.
    let found = refused(&checkpoint(), (optimizer, variables));
    let [Mismatch::Configuration { field, expected, found }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(field, "optimizer");
    assert_eq!(
        (&expected["config"]["learning_rate"], &found["config"]["learning_rate"]),
        (&json!(0.0625), &json!(0.125))
    );
}

#[test]
fn code_in_a_schedule_leaves_no_configuration() {
    let make = || {
        let schedule = opt_schedules::schedule_fn(|step| 0.5 / (1.0 + step as f64));
        Optimizer::<_, f32>::new(Sgd::new(Hyper::from(schedule))).unwrap()
    };
    let (mut w, folder) = ([1.0], tempfile::tempdir().unwrap());
    let path = folder.path().join("a");
    assert!(!save(&path, &make(), &[Variable::new("w", &mut w)]).unwrap().has_configuration);
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.config(), None);
    let built = checkpoint.optimizer::<f32>(&optimizers::registry());
    assert!(matches!(built, Err(Error::NoConfiguration { .. })), "{built:?}");
    let loaded = checkpoint.load(&mut make(), &mut [Variable::new("w", &mut w)]).unwrap();
    assert!(!loaded.configuration_compared);
}

#[test]
fn averages_are_no_training() {
    let (mut optimizer, mut variables) = trained(builder::<f32>(), 5);
    let options = SaveOptions::new().contents(Contents::Averaged);
    let checkpoint = Checkpoint::from_bytes(bytes(options, &optimizer, &variables)).unwrap();
    let error = checkpoint.load(&mut optimizer, &mut variables).unwrap_err();
    assert_eq!(error.to_string(), "(memory) holds averaged weights, not raw ones");
}

#[test]
fn variables_of_the_same_name_are_refused() {
    let (mut optimizer, mut variables) = trained(builder::<f32>(), 5);
    let first = variables.0[0].clone();
    variables.0.push(first);
    let error = checkpoint().load(&mut optimizer, &mut variables).unwrap_err();
    assert!(matches!(error, Error::Optimizer(opt_core::Error::DuplicateVariable { .. })), "{error}");
}

#[test]
fn half_a_model_is_not_saved() {
    let (optimizer, mut variables) = trained(builder::<f32>(), 5);
    variables.0.retain(|(name, _)| name != "v4" && name != "v1");
    let error = SaveOptions::new().write(&mut std::io::Cursor::new(vec![]), &optimizer, &variables).unwrap_err();
    assert_eq!(error.to_string(), r#"the optimizer knows variables that were not given: ["v1", "v4"]"#);
}

/// Names that the optimizer knows were checked by it; the others are checked when they are saved.
#[test]
fn names_that_collide_are_refused() {
    let try_names = |stepped: &'static str, names: [&'static str; 2]| {
        let [mut a, mut b] = [Array1::<f32>::zeros(2), Array1::zeros(2)];
        let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.5)).unwrap();
        opt.add_variables(&mut Variable::new(stepped, &mut a)).unwrap();
        let variables = names.into_iter().zip([&mut a, &mut b]).map(|(name, value)| Variable::new(name, value));
        let variables: Vec<_> = variables.collect();
        match SaveOptions::new().write(&mut std::io::Cursor::new(vec![]), &opt, &variables) {
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    };
    let taken = |name: &str, owner: &str| {
        Some(format!("the name {name:?} is taken in checkpoints by {owner}: rename the variable"))
    };
    assert_eq!(try_names("a", ["a", "b"]), None);
    let slot = taken("a/momentum", r#"the slot "momentum" of variable "a""#);
    assert_eq!(try_names("a", ["a", "a/momentum"]), slot);
    assert_eq!(try_names("a/momentum", ["a/momentum", "a"]), slot);
    assert_eq!(try_names("b", ["iterations", "b"]), taken("iterations", "the step counter"));
    assert_eq!(try_names("a", ["a", "__metadata__"]), taken("__metadata__", "the file format"));
    assert_eq!(try_names("a", ["a", "a"]), Some(r#"variable "a" is given twice"#.to_owned()));
}

#[test]
fn what_is_no_state_is_not_saved() {
    let (mut optimizer, mut variables) = trained(builder::<f32>(), 5);
    let mut model = Array1::<f32>::zeros(3);
    optimizer.add_variables(&mut [Variable::new("value", &mut model)]).unwrap();
    let guard = optimizer.swap_in(Ema::SLOT, &mut model).unwrap();
    // A guard that is never dropped: the averages stay in the variables.
    std::mem::forget(guard);
    let error = SaveOptions::new().write(&mut std::io::Cursor::new(vec![]), &optimizer, {
        variables.0.push(("value".to_owned(), model.into_dyn()));
        &variables
    });
    assert!(matches!(error, Err(Error::Optimizer(opt_core::Error::SwappedIn { .. }))), "{error:?}");
}
