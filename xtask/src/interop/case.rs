//! One round trip: the part of it that happens in this library.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use ndarray::{ArrayD, IxDyn};
use optimizers::checkpoint::import::{ImportOptions, KerasWeights, TorchState};
use optimizers::checkpoint::{Element, save};
use optimizers::{DynOptimizer, Variable, registry};
use serde::Deserialize;
use serde_json::Value;

/// Steps on each side after each transfer.
const STEPS: usize = 5;

/// Numbers by variable, row by row.
type Values = BTreeMap<String, Vec<f64>>;

/// What `interop/round_trip.py` has written about a run: see there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    source: Source,
    dtype: Precision,
    /// The largest error that rounding explains.
    pub(super) tolerance: f64,
    /// The steps before the first transfer.
    iterations: u64,
    shapes: BTreeMap<String, Vec<usize>>,
    /// Of the steps after the first transfer.
    gradients: Vec<Values>,
    /// The variables there, after the first five of these steps.
    after: Values,
}

/// The form of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Keras,
    Pytorch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Precision {
    Float32,
    Float64,
}

/// What came of the first transfer.
#[derive(Debug)]
pub(super) struct Stay {
    /// The largest error after five steps.
    pub(super) error: f64,
    /// The variables after five more steps.
    pub(super) after: Values,
}

impl Case {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        read_json(&folder.join("case.json"))
    }

    /// Loads the state, takes five steps, saves `here.safetensors`, and takes five more.
    pub(super) fn here(&self, folder: &Path) -> anyhow::Result<Stay> {
        match self.dtype {
            Precision::Float32 => Run::<f32>::load(self, folder)?.stay(folder),
            Precision::Float64 => Run::<f64>::load(self, folder)?.stay(folder),
        }
    }
}

/// The largest error of what came back after five more steps there.
pub(super) fn back(folder: &Path, here: &Values) -> anyhow::Result<f64> {
    deviation(&read_json(&folder.join("back.json"))?, here)
}

fn read_json<D: for<'de> Deserialize<'de>>(path: &Path) -> anyhow::Result<D> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
}

/// A training here that started elsewhere.
struct Run<'c, T: Element> {
    case: &'c Case,
    optimizer: DynOptimizer<T>,
    values: BTreeMap<String, ArrayD<T>>,
}

impl<'c, T: Element> Run<'c, T> {
    fn load(case: &'c Case, folder: &Path) -> anyhow::Result<Self> {
        let config: Value = read_json(&folder.join("optimizer.json"))?;
        let optimizer = DynOptimizer::from_config(&config, &registry())?;
        let zeros = |(name, shape): (&String, &Vec<usize>)| (name.clone(), ArrayD::zeros(IxDyn(shape)));
        let mut run = Self { case, optimizer, values: case.shapes.iter().map(zeros).collect() };
        let Self { optimizer, values, .. } = &mut run;
        let mut variables = variables(values);
        // The model also has statistics of its normalisation.
        let options = ImportOptions::new().allow_unexpected();
        match case.source {
            Source::Keras => {
                KerasWeights::open(folder.join("model.npz"))?.options(options).load_variables(&mut variables)?;
                KerasWeights::open(folder.join("optimizer.npz"))?.load(optimizer, &mut variables)?;
            }
            Source::Pytorch => {
                let model = TorchState::open(folder.join("model.safetensors"))?;
                model.options(options).load_variables(&mut variables)?;
                let state = TorchState::open(folder.join("optimizer.safetensors"))?;
                state.iterations(case.iterations).load(optimizer, &mut variables)?;
            }
        }
        drop(variables);
        ensure!(run.optimizer.iterations() == case.iterations, "{} steps were read", run.optimizer.iterations());
        Ok(run)
    }

    fn stay(mut self, folder: &Path) -> anyhow::Result<Stay> {
        let (first, second) = self.case.gradients.split_at_checked(STEPS).context("too few gradients")?;
        self.steps(first)?;
        let error = deviation(&self.numbers(), &self.case.after)?;
        save(folder.join("here.safetensors"), &self.optimizer, &variables(&mut self.values))?;
        self.steps(second)?;
        Ok(Stay { error, after: self.numbers() })
    }

    fn steps(&mut self, steps: &[Values]) -> anyhow::Result<()> {
        for gradients in steps {
            let given = |(name, numbers): (&String, &Vec<f64>)| {
                let shape = self.case.shapes.get(name).with_context(|| format!("no variable {name:?}"))?;
                let numbers = numbers.iter().map(|&number| T::literal(number)).collect();
                Ok((name.clone(), ArrayD::from_shape_vec(IxDyn(shape), numbers)?))
            };
            let given: BTreeMap<String, ArrayD<T>> = gradients.iter().map(given).collect::<anyhow::Result<_>>()?;
            let with_gradients = variables(&mut self.values).into_iter().map(|variable| {
                let gradient = given.get(variable.name());
                match gradient {
                    Some(gradient) => variable.gradient(gradient),
                    None => variable,
                }
            });
            self.optimizer.apply_gradients(with_gradients)?;
        }
        Ok(())
    }

    fn numbers(&self) -> Values {
        let numbers = |array: &ArrayD<T>| array.iter().map(|number| number.as_()).collect();
        self.values.iter().map(|(name, array)| (name.clone(), numbers(array))).collect()
    }
}

fn variables<T: Element>(values: &mut BTreeMap<String, ArrayD<T>>) -> Vec<Variable<'_, T>> {
    values.iter_mut().map(|(name, array)| Variable::new(name.as_str(), array)).collect()
}

/// The largest difference, relative to numbers above 1. A NaN is an infinite difference.
fn deviation(got: &Values, want: &Values) -> anyhow::Result<f64> {
    ensure!(got.keys().eq(want.keys()), "variables {:?}, expected {:?}", got.keys(), want.keys());
    let mut largest = 0.0_f64;
    for ((name, got), want) in got.iter().zip(want.values()) {
        if got.len() != want.len() {
            bail!("{name} has {} numbers, expected {}", got.len(), want.len());
        }
        for (got, want) in got.iter().zip(want) {
            let difference = (got - want).abs() / want.abs().max(1.0);
            largest = largest.max(if difference.is_nan() { f64::INFINITY } else { difference });
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimizers::{Optimizer, Sgd};

    fn values(numbers: &[f64]) -> Values {
        Values::from([("w".to_owned(), numbers.to_vec())])
    }

    #[test]
    fn the_largest_difference_counts_and_nan_is_infinite() {
        let largest = |got: &[f64], want: &[f64]| deviation(&values(got), &values(want)).unwrap();
        assert_eq!(largest(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
        assert_eq!(largest(&[0.5, 9.0], &[0.25, 8.0]), 0.25);
        assert_eq!(largest(&[9.0], &[8.0]), 0.125);
        assert_eq!(largest(&[f64::NAN, 1.0], &[0.0, 1.0]), f64::INFINITY);
        assert_eq!(largest(&[0.0], &[f64::NAN]), f64::INFINITY);
        assert!(deviation(&values(&[1.0]), &values(&[1.0, 1.0])).is_err());
        assert!(deviation(&values(&[1.0]), &Values::new()).is_err());
    }

    /// A round trip with this library on both sides.
    fn sample(folder: &Path, rate: f64) -> Case {
        let gradient = |step: u8| values(&[1.0, f64::from(step)]);
        let mut w = [1.0, -1.0];
        let mut there = Optimizer::new(Sgd::new(rate)).unwrap();
        for step in 2..7 {
            let gradient = gradient(step);
            there.apply_gradients([Variable::new("w", &mut w).gradient(&gradient["w"])]).unwrap();
        }
        let state = br#"{"w":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}"#;
        let numbers = [1.0_f64.to_le_bytes(), (-1.0_f64).to_le_bytes()].concat();
        let bytes = [&(state.len() as u64).to_le_bytes()[..], state, &numbers].concat();
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
        let empty = b"{}";
        let bytes = [&(empty.len() as u64).to_le_bytes()[..], empty].concat();
        std::fs::write(folder.join("optimizer.safetensors"), bytes).unwrap();
        let config = r#"{"class_name": "SGD", "config": {"learning_rate": 0.25, "dialect": "pytorch"}}"#;
        std::fs::write(folder.join("optimizer.json"), config).unwrap();
        Case {
            name: "SGD".to_owned(),
            source: Source::Pytorch,
            dtype: Precision::Float64,
            tolerance: 0.0,
            iterations: 2,
            shapes: BTreeMap::from([("w".to_owned(), vec![2])]),
            gradients: (2..12).map(gradient).collect(),
            after: values(&w),
        }
    }

    #[test]
    fn a_stay_compares_saves_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let stay = sample(folder.path(), 0.25).here(folder.path()).unwrap();
        assert_eq!(stay.error, 0.0);
        assert_eq!(stay.after, values(&[-1.5, -17.25]));
        assert!(folder.path().join("here.safetensors").exists());
        std::fs::write(folder.path().join("back.json"), r#"{"w": [-1.5, -17.25]}"#).unwrap();
        assert_eq!(back(folder.path(), &stay.after).unwrap(), 0.0);
        assert!(sample(folder.path(), 0.5).here(folder.path()).unwrap().error > 0.5);
    }
}
