//! `state_dict`s of PyTorch's optimizers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use opt_core::state::{StateKind, StateValue};
use opt_core::{Optimizer, Parameters, UpdateRule, Variable};
use safetensors::SafeTensors;

use super::foreign::{Foreign, Weights, expected};
use crate::element::Element;
use crate::error::{Action, Error, Mismatch};

/// The names that PyTorch and timm give to the slots of our rules: class, slot, key.
const KEYS: [(&str, &str, &str); 8] = [
    ("SGD", "momentum", "momentum_buffer"),
    ("Nadam", "m", "exp_avg"),
    ("Nadam", "v", "exp_avg_sq"),
    ("RectifiedAdam", "m", "exp_avg"),
    ("RectifiedAdam", "v", "exp_avg_sq"),
    ("NovoGrad", "m", "exp_avg"),
    ("NovoGrad", "v", "exp_avg_sq"),
    ("NovoGrad", "vhat", "max_exp_avg_sq"),
];

/// Numbers that exist here once for all variables: class, slot, key.
const SHARED: [(&str, &str, &str); 1] = [("Nadam", "momentum_cache", "mu_product")];

/// The state of a PyTorch optimizer as safetensors, with the names `state.INDEX.KEY` or `state.NAME.KEY`:
///
/// ```python
/// state = {f"state.{i}.{key}": torch.as_tensor(value)
///          for i, entries in optimizer.state_dict()["state"].items()
///          for key, value in entries.items() if value is not None}
/// safetensors.torch.save_file(state, "optimizer.safetensors")
/// safetensors.torch.save_file(model.state_dict(), "model.safetensors")
/// ```
///
/// | PyTorch, timm | here |
/// |---|---|
/// | `SGD` | `Sgd::pytorch` |
/// | `NAdam` | `Nadam::pytorch` |
/// | `RAdam` | `RectifiedAdam::pytorch` |
/// | `NvNovoGrad` (timm) | `NovoGrad::nvidia` |
///
/// PyTorch counts the steps of each parameter, this library those of the optimizer: all counters must agree. SGD has
/// no counter; [`iterations`](Self::iterations) sets it. PyTorch keeps counters and products in 32 bits unless its
/// default type is 64 bits wide; numbers that were rounded there stay rounded here.
#[derive(Debug, Clone)]
pub struct TorchState {
    path: PathBuf,
    tensors: HashMap<String, Foreign>,
    iterations: Option<u64>,
}

impl TorchState {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not a safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(Action::Read, path))?;
        let invalid =
            |error: safetensors::SafeTensorError| Error::Import { path: path.to_owned(), problem: error.to_string() };
        let read = SafeTensors::deserialize(&bytes).map_err(invalid)?;
        let foreign = |(name, tensor): (&str, safetensors::tensor::TensorView<'_>)| {
            let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
            (name.to_owned(), Foreign { dtype, shape, bytes: tensor.data().to_vec() })
        };
        Ok(Self { path: path.to_owned(), tensors: read.iter().map(foreign).collect(), iterations: None })
    }

    /// The number of steps that had been taken, if the file does not have it.
    #[must_use]
    pub fn iterations(mut self, iterations: u64) -> Self {
        self.iterations = Some(iterations);
        self
    }

    /// Replaces all state of an optimizer. `variables` are the parameters, in the order of PyTorch's optimizer. Their
    /// values stay unchanged.
    ///
    /// # Errors
    ///
    /// [`Error::Import`] for a rule that has no counterpart, or counters that disagree; [`Error::Mismatch`] with
    /// everything that is missing, or of another type or shape. The optimizer is then unchanged.
    pub fn load<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        model: &mut P,
    ) -> Result<(), Error> {
        let mut variables = model.variables();
        let class = optimizer.rule().class_name().to_owned();
        if !KEYS.iter().any(|(known, ..)| *known == class) {
            return Err(self.problem(format!("PyTorch has no counterpart of {class}")));
        }
        let names: Vec<&str> = variables.iter().map(Variable::name).collect();
        let mut weights = Weights::new();
        for (name, kind) in expected(optimizer, &variables)? {
            weights.push(match kind {
                StateKind::Iterations => Ok(StateValue::Iterations(self.counter(&names)?)),
                _ => self.entry(&class, &names, &name, &kind)?,
            });
        }
        Ok(optimizer.restore(&mut variables, weights.finish(&self.path)?)?)
    }

    /// Replaces the values of variables by the tensors of the same names: `model.state_dict()`.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] with everything that is missing, or of another type or shape. The variables are then
    /// unchanged.
    pub fn load_variables<T: Element, P: Parameters<T> + ?Sized>(&self, model: &mut P) -> Result<(), Error> {
        let mut variables = model.variables();
        let mut weights = Weights::new();
        for variable in &variables {
            let (name, kind) = (variable.name(), StateKind::Array(variable.view()?.shape().to_vec()));
            let missing = || Mismatch::Missing { name: name.to_owned() };
            weights.push(self.tensors.get(name).ok_or_else(missing).and_then(|tensor| tensor.weight(name, &kind)));
        }
        for (variable, value) in variables.iter_mut().zip(weights.finish(&self.path)?) {
            if let StateValue::Array(value) = value {
                variable.view_mut()?.assign(&value);
            }
        }
        Ok(())
    }

    /// An entry of the state: `slot`, or `variable/slot`.
    fn entry<T: Element>(
        &self,
        class: &str,
        names: &[&str],
        name: &str,
        kind: &StateKind,
    ) -> Result<Result<StateValue<'static, T>, Mismatch>, Error> {
        let missing = || Mismatch::Missing { name: name.to_owned() };
        let key = |table: &[(&str, &str, &'static str)], slot: &str| {
            table.iter().find(|(known, ours, _)| *known == class && *ours == slot).map(|(.., key)| *key)
        };
        if let Some(key) = key(&SHARED, name) {
            let number = |tensor: &Foreign| tensor.number(name).ok().map(|number| (number, number.to_bits()));
            return Ok(self.common(names, key, number)?.ok_or_else(missing).map(StateValue::Scalar));
        }
        let of_variable = name.rsplit_once('/');
        let index = of_variable.and_then(|(variable, _)| names.iter().position(|name| *name == variable));
        let (Some((_, slot)), Some(index)) = (of_variable, index) else { return Ok(Err(missing())) };
        if (class, slot) == ("SGD", "started") {
            // There is a buffer only if a gradient has come.
            let started = self.find(names, index, "momentum_buffer").is_some();
            return Ok(Ok(StateValue::Scalar(f64::from(u8::from(started)))));
        }
        let tensor = key(&KEYS, slot).and_then(|key| self.find(names, index, key));
        match (tensor, kind) {
            (Some(tensor), _) => Ok(tensor.weight(name, kind)),
            // No gradient has come yet.
            (None, StateKind::Array(shape)) if class == "SGD" => Ok(Ok(StateValue::from(zeros(shape)))),
            _ => Ok(Err(missing())),
        }
    }

    /// The step counter: the one set by the caller, or that of all parameters.
    fn counter(&self, names: &[&str]) -> Result<u64, Error> {
        let count = |tensor: &Foreign| tensor.count("step").ok().map(|count| (count, count));
        match (self.common(names, "step", count)?, self.iterations) {
            (Some(found), Some(said)) if found != said => {
                Err(self.problem(format!("{found} steps had been taken, not {said}")))
            }
            (Some(count), _) | (None, Some(count)) => Ok(count),
            (None, None) => Err(self.problem("there is no step counter: say how many iterations".to_owned())),
        }
    }

    /// A number that all parameters have in common; none if no parameter has it.
    fn common<N: Copy, B: PartialEq>(
        &self,
        names: &[&str],
        key: &str,
        read: impl Fn(&Foreign) -> Option<(N, B)>,
    ) -> Result<Option<N>, Error> {
        let mut common = None;
        for tensor in (0..names.len()).filter_map(|index| self.find(names, index, key)) {
            let (number, bits) = read(tensor).ok_or_else(|| self.problem(format!("{key} is no number")))?;
            match &common {
                Some((_, first)) if *first != bits => {
                    return Err(self.problem(format!("the parameters disagree about {key}, which is one number here")));
                }
                _ => common = Some((number, bits)),
            }
        }
        Ok(common.map(|(number, _)| number))
    }

    fn find(&self, names: &[&str], index: usize, key: &str) -> Option<&Foreign> {
        let by_name = self.tensors.get(&format!("state.{}.{key}", names[index]));
        by_name.or_else(|| self.tensors.get(&format!("state.{index}.{key}")))
    }

    fn problem(&self, problem: String) -> Error {
        Error::Import { path: self.path.clone(), problem }
    }
}

fn zeros<T: Element>(shape: &[usize]) -> ndarray::ArrayD<T> {
    ndarray::ArrayD::zeros(shape)
}
