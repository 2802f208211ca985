//! Runs of other systems resume here from the state that they saved, with the same numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use opt_checkpoint::import::{Imported, KerasWeights, TorchState};
use opt_checkpoint::{Element, Error, Mismatch};
use opt_conformance::problem::Variables;
use opt_core::{DynOptimizer, Optimizer, Variable};
use opt_sgd::Sgd;
use serde::Deserialize;
use serde_json::Value;

/// A run that was recorded by `tests/reference/record_imports.py`.
#[derive(Debug, Clone, Deserialize)]
struct Case {
    name: String,
    dtype: String,
    optimizer: Value,
    /// The file with the state after some steps.
    saved: String,
    /// The number of these steps.
    iterations: u64,
    shapes: BTreeMap<String, Vec<usize>>,
    /// At that moment.
    variables: BTreeMap<String, Vec<f64>>,
    /// The steps after it.
    steps: Vec<Step>,
    rtol: f64,
    atol: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct Step {
    gradients: BTreeMap<String, Vec<f64>>,
    expect: BTreeMap<String, Vec<f64>>,
}

#[derive(Debug, Deserialize)]
struct File {
    cases: Vec<Case>,
}

/// The order in which the recorded optimizers first saw their variables.
const ORDER: [&str; 2] = ["kernel", "bias"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/imports")
}

fn cases(file: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    serde_json::from_str::<File>(&text).unwrap().cases
}

fn case(file: &str, name: &str) -> Case {
    cases(file).into_iter().find(|case| case.name == name).unwrap()
}

impl Case {
    fn path(&self) -> PathBuf {
        folder().join(&self.saved)
    }

    fn start<T: Element>(&self) -> (DynOptimizer<T>, Variables<T>) {
        let optimizer = Optimizer::from_config(&self.optimizer, &optimizers::registry()).unwrap();
        let variables = ORDER.iter().map(|&name| (name.to_owned(), self.array(name, &self.variables)));
        (optimizer, Variables(variables.collect()))
    }

    fn array<T: Element>(&self, name: &str, of: &BTreeMap<String, Vec<f64>>) -> ArrayD<T> {
        let numbers = of[name].iter().map(|&number| T::literal(number)).collect();
        ArrayD::from_shape_vec(IxDyn(&self.shapes[name]), numbers).unwrap()
    }

    /// Takes the recorded steps; returns the first number that differs from the recorded one.
    fn differs<T: Element>(&self, optimizer: &mut DynOptimizer<T>, variables: &mut Variables<T>) -> Option<String> {
        for (number, step) in self.steps.iter().enumerate() {
            let gradients: BTreeMap<&str, ArrayD<T>> =
                ORDER.iter().map(|&name| (name, self.array(name, &step.gradients))).collect();
            let given = variables.0.iter_mut();
            let given =
                given.map(|(name, value)| Variable::new(name.as_str(), value).gradient(&gradients[name.as_str()]));
            optimizer.apply_gradients(given).unwrap();
            for (name, value) in &variables.0 {
                for (got, want) in value.iter().map(|number| number.as_()).zip(&step.expect[name]) {
                    let close = (got - want).abs() <= self.atol + self.rtol * want.abs();
                    if !close {
                        return Some(format!("{}: step {number}: {name}: got {got}, want {want}", self.name));
                    }
                }
            }
        }
        assert_eq!(optimizer.iterations(), self.iterations + self.steps.len() as u64);
        None
    }
}

fn goes_on<T: Element>(case: &Case, load: impl Fn(&mut DynOptimizer<T>, &mut Variables<T>)) {
    let (mut optimizer, mut variables) = case.start::<T>();
    load(&mut optimizer, &mut variables);
    assert_eq!(optimizer.iterations(), case.iterations, "{}", case.name);
    assert_eq!(case.differs(&mut optimizer, &mut variables), None);
    // The recorded numbers do depend on the state, if there is any.
    if case.name != "sgd_plain" {
        let (mut optimizer, mut variables) = case.start::<T>();
        assert!(case.differs(&mut optimizer, &mut variables).is_some(), "{}: the state does not matter", case.name);
    }
}

fn keras<T: Element>(case: &Case) {
    goes_on::<T>(case, |optimizer, variables| {
        let weights = KerasWeights::open(case.path()).unwrap();
        // It saved the last steps of an SGD without momentum.
        let weights = if case.name == "sgd_plain" { weights.from_keras2() } else { weights };
        weights.load(optimizer, variables).unwrap();
    });
}

#[test]
fn runs_of_keras_and_addons_go_on() {
    let cases = cases("keras.json");
    assert_eq!(cases.len(), 12);
    for case in &cases {
        if case.dtype == "float32" { keras::<f32>(case) } else { keras::<f64>(case) }
    }
}

#[test]
fn runs_of_pytorch_and_timm_go_on() {
    let cases = cases("torch.json");
    assert_eq!(cases.len(), 6);
    for case in &cases {
        goes_on::<f64>(case, |optimizer, variables| {
            let state = TorchState::open(case.path()).unwrap();
            let state = if case.name.starts_with("sgd") { state.iterations(case.iterations) } else { state };
            state.load(optimizer, variables).unwrap();
        });
    }
}

#[test]
fn weights_of_models_come_in() {
    for (file, name, load) in
        [("keras.json", "sgd", "keras_model.npz"), ("torch.json", "sgd", "torch_model.safetensors")]
    {
        let (_, want) = case(file, name).start::<f64>();
        let mut variables = want.clone();
        variables.0.iter_mut().for_each(|(_, value)| value.fill(0.0));
        let path = folder().join(load);
        let imported = match KerasWeights::open(&path) {
            Ok(weights) => weights.load_variables(&mut variables).unwrap(),
            Err(_) => TorchState::open(&path).unwrap().load_variables(&mut variables).unwrap(),
        };
        assert_eq!(imported.loaded, ORDER);
        assert_eq!(variables, want, "{load}");
    }
}

/// Checks that optimizer and variables are unchanged.
fn refused<T: Element>(
    case: &Case,
    change: impl Fn(&mut DynOptimizer<T>, &mut Variables<T>),
    load: impl Fn(&mut DynOptimizer<T>, &mut Variables<T>) -> Result<Imported, Error>,
) -> Error {
    let (mut optimizer, mut variables) = case.start::<T>();
    change(&mut optimizer, &mut variables);
    let before = (optimizer.weights(), variables.clone());
    let error = load(&mut optimizer, &mut variables).unwrap_err();
    assert_eq!((optimizer.weights(), variables), before);
    error
}

#[test]
fn lists_of_keras_that_do_not_fit_are_refused_whole() {
    let load = |case: &Case| {
        let path = case.path();
        move |optimizer: &mut DynOptimizer<f64>, variables: &mut Variables<f64>| {
            KerasWeights::open(&path).unwrap().load(optimizer, variables)
        }
    };
    let (radam, novograd) = (case("keras.json", "radam"), case("keras.json", "novograd"));
    let error = refused(&radam, |_, _| (), load(&novograd)).to_string();
    let text = "7 arrays, the optimizer has 5: iterations, kernel/m, bias/m, kernel/v, bias/v";
    assert!(error.ends_with(text), "{error}");
    let swapped = |_: &mut DynOptimizer<f64>, variables: &mut Variables<f64>| variables.0.reverse();
    let Error::Mismatch { mismatches, .. } = refused(&radam, swapped, load(&radam)) else { panic!() };
    assert_eq!(mismatches.len(), 4);
    let (expected, found) = (vec![3], vec![4, 3]);
    assert_eq!(mismatches[0], Mismatch::Shape { name: "bias/m".to_owned(), expected, found });
    let Error::Mismatch { mismatches, .. } =
        refused(&case("keras.json", "sgd"), |_, _| (), load(&case("keras.json", "sgd_float32")))
    else {
        panic!()
    };
    assert_eq!(mismatches.len(), 2);
    let sgd = case("keras.json", "sgd");
    let model = |_: &mut DynOptimizer<f64>, variables: &mut Variables<f64>| {
        KerasWeights::open(folder().join("keras_sgd.npz")).unwrap().load_variables(variables)
    };
    assert!(refused(&sgd, |_, _| (), model).to_string().ends_with("3 arrays for 2 variables"));
}

#[test]
fn state_of_pytorch_that_does_not_fit_is_refused_whole() {
    let load = |file: &str, iterations: Option<u64>| {
        let path = folder().join(file);
        move |optimizer: &mut DynOptimizer<f64>, variables: &mut Variables<f64>| {
            let state = TorchState::open(&path).unwrap();
            let state = iterations.into_iter().fold(state, TorchState::iterations);
            state.load(optimizer, variables)
        }
    };
    let (sgd, radam) = (case("torch.json", "sgd"), case("torch.json", "radam"));
    let none = refused(&sgd, |_, _| (), load("torch_sgd.safetensors", None)).to_string();
    assert!(none.ends_with("there is no step counter: say how many iterations"), "{none}");
    let other = refused(&radam, |_, _| (), load("torch_radam.safetensors", Some(7))).to_string();
    assert!(other.ends_with("6 steps had been taken, not 7"), "{other}");
    let Error::Mismatch { mismatches, .. } = refused(&radam, |_, _| (), load("torch_sgd.safetensors", Some(6))) else {
        panic!()
    };
    let missing = ["kernel/step", "bias/step", "kernel/m", "bias/m", "kernel/v", "bias/v"]
        .map(|name| Mismatch::Missing { name: name.to_owned() });
    let unexpected = ["state.0.momentum_buffer", "state.1.momentum_buffer"];
    let unexpected = unexpected.map(|name| Mismatch::Unexpected { name: name.to_owned() });
    assert_eq!(mismatches, [&missing[..], &unexpected].concat());
    let ranger = Case { optimizer: case("keras.json", "lookahead").optimizer, ..radam };
    let unknown = refused(&ranger, |_, _| (), load("torch_radam.safetensors", None)).to_string();
    assert!(unknown.ends_with("PyTorch has no counterpart of Lookahead"), "{unknown}");
}

/// A parameter that has had no gradient yet has no buffer in PyTorch.
#[test]
fn pytorch_may_know_nothing_of_a_variable() {
    let case = case("torch.json", "sgd_dampening");
    let (mut optimizer, mut variables) = case.start::<f64>();
    variables.0.push(("later".to_owned(), ArrayD::zeros(IxDyn(&[2]))));
    TorchState::open(case.path()).unwrap().iterations(6).load(&mut optimizer, &mut variables).unwrap();
    assert!(optimizer.variables().all(|(name, _)| name != "later"), "its slots come with its first gradient");
    assert_eq!(optimizer.slot("bias", "started").unwrap(), opt_core::state::StateValue::Scalar(1.0));
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, b"PK\x03\x04 neither one nor the other").unwrap();
    assert!(matches!(KerasWeights::open(&path), Err(Error::Import { .. })));
    assert!(matches!(TorchState::open(&path), Err(Error::Import { .. })));
    assert!(matches!(KerasWeights::open(folder.path().join("no")), Err(Error::Io { .. })));
    let mut npz = std::fs::read(case("keras.json", "sgd").path()).unwrap();
    let place = npz.windows(3).position(|bytes| bytes == b"<f8").unwrap();
    npz[place + 1] = b'c';
    std::fs::write(&path, npz).unwrap();
    let error = KerasWeights::open(&path).unwrap_err().to_string();
    assert!(error.contains("arr_1.npy"), "{error}");
    let mut opt = Optimizer::<_, f64>::new(Sgd::new(0.1)).unwrap();
    let weights = KerasWeights::open(folder_of("keras_sgd_plain.npz")).unwrap();
    assert_eq!((weights.len(), weights.is_empty()), (3, false));
    let error = weights.load(&mut opt, &mut vec![0.0; 0]).unwrap_err().to_string();
    assert!(error.ends_with("3 arrays, the optimizer has 1: iterations"), "{error}");
}

fn folder_of(file: &str) -> PathBuf {
    folder().join(file)
}
