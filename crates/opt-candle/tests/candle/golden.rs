//! Recorded runs of other libraries, replayed on candle's variables: those with dense gradients that start from
//nothing, ! on one rank. The format is that of `tests/golden/README.md`.

use std::fs;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var, WithDType};
use opt_candle::{CandleBuilder, CandleOptimizer, Element};
use optimizers::state::StateValue;
use optimizers::{Exclude, OptimizerBuilder, Registry, UpdateRule};
use serde_json::Value;

/// A run in progress.
struct Replay<'c, T: Element> {
    case: &'c Value,
    vars: Vec<Var>,
    opt: CandleOptimizer<Box<dyn UpdateRule<T>>, T>,
}

impl<'c, T: Element + WithDType> Replay<'c, T> {
    fn new(case: &'c Value, registry: &Registry<T>) -> Self {
        let mut builder = OptimizerBuilder::from_config(&case["optimizer"], registry).unwrap();
        if let Some(patterns) = case["exclude_from_weight_decay"]["var_names"].as_array() {
            builder = builder.exclude_from_weight_decay(Exclude::patterns(patterns.iter().map(text)));
        }
        let var = |variable: &Value| Var::from_tensor(&tensor::<T>(&variable["value"], &shape(variable))).unwrap();
        let vars: Vec<Var> = list(&case["variables"]).iter().map(var).collect();
        let named =
            list(&case["variables"]).iter().zip(&vars).map(|(variable, var)| (text(&variable["name"]), var.clone()));
        let opt = CandleBuilder::new(builder).for_named(named).unwrap();
        Self { case, vars, opt }
    }

    fn run(mut self) {
        for step in list(&self.case["steps"]) {
            self.step(step);
        }
        if self.case["finalized"].is_array() {
            self.opt.finalize().unwrap();
            self.check_variables(&self.case["finalized"]);
        }
    }

    fn step(&mut self, step: &Value) {
        let engine = self.opt.engine_mut();
        step["set_learning_rate"].as_f64().into_iter().for_each(|rate| engine.set_learning_rate(rate).unwrap());
        for (group, rate) in step["set_group_learning_rate"].as_object().into_iter().flatten() {
            engine.set_group_learning_rate(group, number(rate)).unwrap();
        }
        list(&step["freeze"]).iter().for_each(|group| engine.freeze(&text(group)).unwrap());
        list(&step["unfreeze"]).iter().for_each(|group| engine.unfreeze(&text(group)).unwrap());
        let mut grads = GradStore::default();
        for ((var, variable), gradient) in
            self.vars.iter().zip(list(&self.case["variables"])).zip(list(&step["gradients"]))
        {
            if !gradient.is_null() {
                grads.insert(var, tensor::<T>(&gradient["dense"], &shape(variable)));
            }
        }
        self.opt.step(&grads).unwrap();
        self.check_variables(&step["expect"]["variables"]);
        self.check_state(&step["expect"]);
    }

    fn check_variables(&self, expected: &Value) {
        for ((var, variable), want) in self.vars.iter().zip(list(&self.case["variables"])).zip(list(expected)) {
            let got: Vec<T> = var.flatten_all().unwrap().to_vec1().unwrap();
            let got: Vec<f64> = got.into_iter().map(WithDType::to_f64).collect();
            self.check(&text(&variable["name"]), &got, &numbers(want));
        }
    }

    fn check_state(&self, expected: &Value) {
        let engine = self.opt.engine();
        for (variable, slots) in expected["slots"].as_object().into_iter().flatten() {
            for (name, want) in slots.as_object().into_iter().flatten() {
                let want = numbers(want);
                let got = match engine.slot(variable, name).unwrap() {
                    StateValue::Scalar(number) => vec![number; want.len()],
                    array => array.to_f64(),
                };
                self.check(&format!("slot {name} of {variable}"), &got, &want);
            }
        }
        expected["iterations"].as_u64().into_iter().for_each(|want| assert_eq!(engine.iterations(), want));
        expected["loss_scale"].as_f64().into_iter().for_each(|want| assert_eq!(engine.loss_scale(), want));
    }

    fn check(&self, what: &str, got: &[f64], want: &[f64]) {
        let [name, iterations] = [text(&self.case["name"]), self.opt.engine().iterations().to_string()];
        assert_eq!(got.len(), want.len(), "{name}, {iterations} steps: {what}");
        for (got, want) in got.iter().zip(want) {
            let close = (got - want).abs() <= number(&self.case["atol"]) + number(&self.case["rtol"]) * want.abs();
            assert!(close || got == want, "{name}, {iterations} steps: {what}: got {got}, want {want}");
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The elements of a list that may be absent.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        Some("nan") => f64::NAN,
        _ => value.as_f64().expect("a number"),
    }
}

/// Numbers, or a single one.
fn numbers(value: &Value) -> Vec<f64> {
    if value.is_array() { list(value).iter().map(number).collect() } else { vec![number(value)] }
}

fn shape(variable: &Value) -> Vec<usize> {
    list(&variable["shape"]).iter().map(|axis| axis.as_u64().expect("a length") as usize).collect()
}

fn tensor<T: Element + WithDType>(elements: &Value, shape: &[usize]) -> Tensor {
    let elements = numbers(elements).into_iter().map(T::literal).collect();
    Tensor::from_vec(elements, shape, &Device::Cpu).unwrap()
}

fn is_replayed(case: &Value) -> bool {
    let gradients = list(&case["steps"]).iter().flat_map(|step| list(&step["gradients"]));
    let dense = gradients.into_iter().all(|gradient| gradient.is_null() || gradient.get("dense").is_some());
    dense && case["optimizer"].is_object() && case["mesh"].is_null() && case["restore"].is_null()
}

#[test]
fn recorded_runs_pass_on_candles_variables() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let (mut narrow, mut wide) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for case in list(&file["cases"]).iter().filter(|case| is_replayed(case)) {
            if case["dtype"] == "float32" {
                Replay::<f32>::new(case, &optimizers::registry()).run();
                narrow += 1;
            } else {
                Replay::<f64>::new(case, &optimizers::registry()).run();
                wide += 1;
            }
        }
    }
    println!("{narrow} runs in f32, {wide} in f64");
    assert!(narrow >= 10 && wide >= 100, "{narrow} runs in f32, {wide} in f64");
}
