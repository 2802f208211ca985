//! `state_dict`s of PyTorch's optimizers.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use opt_core::state::StateKind;
use opt_core::{Optimizer, Parameters, UpdateRule, Variable};
use safetensors::SafeTensors;

use super::assemble::{Found, Import, Wanted, wanted};
use super::foreign::{ArraySummary, Foreign, Named};
use super::kind::{self, FileKind};
use super::options::{ImportOptions, Imported};
use super::source::{self, PYTORCH};
use crate::element::Element;
use crate::error::{Action, Error};

/// The names that PyTorch and timm give to the slots of our rules: class, slot, key.
const KEYS: [(&str, &str, &str); 19] = [
    ("SGD", "momentum", "momentum_buffer"),
    ("Adam", "m", "exp_avg"),
    ("Adam", "v", "exp_avg_sq"),
    ("Adam", "vhat", "max_exp_avg_sq"),
    ("Adam", STEP, "step"),
    ("AdamW", "m", "exp_avg"),
    ("AdamW", "v", "exp_avg_sq"),
    ("AdamW", "vhat", "max_exp_avg_sq"),
    ("AdamW", STEP, "step"),
    ("Nadam", "m", "exp_avg"),
    ("Nadam", "v", "exp_avg_sq"),
    ("Nadam", "momentum_cache", "mu_product"),
    ("Nadam", STEP, "step"),
    ("RectifiedAdam", "m", "exp_avg"),
    ("RectifiedAdam", "v", "exp_avg_sq"),
    ("RectifiedAdam", STEP, "step"),
    ("NovoGrad", "m", "exp_avg"),
    ("NovoGrad", "v", "exp_avg_sq"),
    ("NovoGrad", "vhat", "max_exp_avg_sq"),
];

/// The slot with a counter of each variable.
const STEP: &str = "step";

/// The counter of a parameter, for each class.
const COUNTER: &str = "step";

/// The state of a PyTorch optimizer as safetensors, with the names `state.NAME.KEY` or `state.INDEX.KEY`.
/// `interop/torch_to_safetensors.py` writes such files, with names where it knows them:
///
/// ```python
/// state = {f"state.{i}.{key}": torch.as_tensor(value)
///          for i, entries in optimizer.state_dict()["state"].items()
///          for key, value in entries.items() if value is not None}
/// safetensors.torch.save_file(state, "optimizer.safetensors")
/// safetensors.torch.save_file(model.state_dict(), "model.safetensors")
/// ```
///
/// An index is the place of the parameter in PyTorch's optimizer. No check can find out that two parameters of the same
/// shape have changed places: prefer names.
///
/// | PyTorch, timm | here |
/// |---|---|
/// | `SGD` | `Sgd::pytorch` |
/// | `Adam`, `AdamW` | `Adam::pytorch`, `AdamW::pytorch` |
/// | `NAdam` | `Nadam::pytorch` |
/// | `RAdam` | `RectifiedAdam::pytorch` |
/// | `NvNovoGrad` (timm) | `NovoGrad::nvidia` |
///
/// A parameter without entries had no gradient yet, and starts with new slots. PyTorch counts the steps of each
/// parameter. Where a rule here has no counters of its own for the variables, all counters must agree and every
/// parameter must have one. SGD has no counter; [`iterations`](Self::iterations) sets it. PyTorch keeps counters and
/// products in 32 bits unless its default type is 64 bits wide; numbers that were rounded there stay rounded here.
///
/// Tensors that nobody asked for are an error, unless an [option](ImportOptions::allow_unexpected) allows them; the
/// counters, `param_groups` and `num_batches_tracked` are accounted for.
#[derive(Debug, Clone)]
pub struct TorchState {
    path: PathBuf,
    tensors: Vec<Named>,
    iterations: Option<u64>,
    options: ImportOptions,
}

impl TorchState {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read; [`Error::Import`] when it is of another kind, which is then named with what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        kind::check(path, FileKind::Safetensors)?;
        let bytes = std::fs::read(path).map_err(Error::io(Action::Read, path))?;
        let invalid =
            |error: safetensors::SafeTensorError| Error::Import { path: path.to_owned(), problem: error.to_string() };
        let read = SafeTensors::deserialize(&bytes).map_err(invalid)?;
        let foreign = |(name, tensor): (&str, safetensors::tensor::TensorView<'_>)| {
            let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
            Named { name: name.to_owned(), array: Foreign { dtype, shape, bytes: tensor.data().to_vec() } }
        };
        Ok(Self::new(path, read.iter().map(foreign).collect()))
    }

    /// Tensors from memory.
    pub fn from_tensors<T: Element>(tensors: impl IntoIterator<Item = (String, ArrayD<T>)>) -> Self {
        let named = |(name, array)| Named { name, array: Foreign::of::<T>(&array) };
        Self::new(Path::new("(memory)"), tensors.into_iter().map(named).collect())
    }

    fn new(path: &Path, mut tensors: Vec<Named>) -> Self {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Self { path: path.to_owned(), tensors, iterations: None, options: ImportOptions::new() }
    }

    /// The number of steps that had been taken, if the file does not have it.
    #[must_use]
    pub fn iterations(mut self, iterations: u64) -> Self {
        self.iterations = Some(iterations);
        self
    }

    /// Sets the options.
    #[must_use]
    pub fn options(mut self, options: ImportOptions) -> Self {
        self.options = options;
        self
    }

    /// Names, types and shapes of the tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = ArraySummary> + '_ {
        self.tensors.iter().map(Named::summary)
    }

    /// Whether it has state of an optimizer: tensors called `state.NAME.KEY`.
    #[must_use]
    pub fn is_optimizer(&self) -> bool {
        self.tensors.iter().any(|named| label_and_key(&named.name).is_some())
    }

    /// Replaces the state of an optimizer, all of it unless the [options](Self::options) say otherwise. `model` has the
    /// parameters; if the file has no names, in the order of PyTorch's optimizer. Their values stay unchanged; load
    /// them [first](Self::load_variables), because some new slots are copies of them.
    ///
    /// # Errors
    ///
    /// [`Error::Import`] for a rule that has no counterpart or another dialect, or counters that disagree;
    /// [`Error::Mismatch`] with everything that is missing, unexpected, or of another type or shape. The optimizer is
    /// then unchanged.
    pub fn load<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        model: &mut P,
    ) -> Result<Imported, Error> {
        let mut variables = model.variables();
        let class = optimizer.rule().class_name().to_owned();
        if !KEYS.iter().any(|(known, ..)| *known == class) {
            return Err(self.problem(format!("PyTorch has no counterpart of {class}")));
        }
        source::check(&self.path, optimizer, &PYTORCH)?;
        let names: Vec<&str> = variables.iter().map(Variable::name).collect();
        let entries = wanted(optimizer, &variables)?;
        let state = State::new(self, &class, &names, &entries)?;
        state.check(&entries)?;
        let sources: Vec<Found<'_>> = entries.iter().map(|wanted| state.find(wanted)).collect::<Result<_, _>>()?;
        let found: Vec<(Wanted, Found<'_>)> = entries.into_iter().zip(sources).collect();
        let bookkeeping: Vec<&Named> = state.bookkeeping().collect();
        self.import().state(optimizer, &mut variables, &found, &bookkeeping)
    }

    /// Replaces the values of variables by the tensors of the same names: `model.state_dict()`.
    ///
    /// An optimizer that has slots of these variables already does not know of the new values: averages, masters and
    /// Lookahead's slow weights are still copies of the old ones. [`Optimizer::reset`] starts them anew.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] with everything that is missing, unexpected, or of another type or shape. The variables are
    /// then unchanged.
    pub fn load_variables<T: Element, P: Parameters<T> + ?Sized>(&self, model: &mut P) -> Result<Imported, Error> {
        let mut places = HashMap::with_capacity(self.tensors.len());
        for (place, named) in self.tensors.iter().enumerate() {
            let name = self.options.names.renamed(&named.name);
            if places.insert(name.clone(), place).is_some() {
                return Err(self.problem(format!("{name:?} is there twice after renaming")));
            }
        }
        let is_bookkeeping = |name: &str| name.rsplit('.').next() == Some("num_batches_tracked");
        self.import().variables(&mut model.variables(), |_, name| places.get(name).copied(), is_bookkeeping)
    }

    fn import(&self) -> Import<'_> {
        Import { path: &self.path, arrays: &self.tensors, options: &self.options }
    }

    fn problem(&self, problem: String) -> Error {
        self.import().problem(problem)
    }
}

/// The tensors of a file by parameter and key.
struct State<'f> {
    file: &'f TorchState,
    class: &'f str,
    /// Whether the rule here counts the steps of each variable.
    counts_by_variable: bool,
    /// For each of the optimizer's variables, its tensors by key.
    of: Vec<HashMap<&'f str, &'f Named>>,
}

impl<'f> State<'f> {
    /// Gives each parameter of the file to a variable: by name, or by index if the file has no names.
    fn new(file: &'f TorchState, class: &'f str, names: &[&str], entries: &[Wanted]) -> Result<Self, Error> {
        let labelled = file.tensors.iter().filter_map(|named| {
            let (label, key) = label_and_key(&named.name)?;
            Some((file.options.names.renamed(label), key, named))
        });
        let labelled: Vec<_> = labelled.collect();
        let labels: HashSet<&str> = labelled.iter().map(|(label, ..)| label.as_ref()).collect();
        let indexed = labels.iter().all(|label| label.parse::<usize>().is_ok())
            && !names.iter().any(|name| labels.contains(name));
        let places: HashMap<&str, usize> = names.iter().enumerate().map(|(place, name)| (*name, place)).collect();
        let mut of = vec![HashMap::new(); names.len()];
        for (label, key, named) in &labelled {
            let place = if indexed { label.parse().ok() } else { places.get(label.as_ref()).copied() };
            let Some(entries) = place.and_then(|place| of.get_mut(place)) else { continue };
            if entries.insert(*key, *named).is_some() {
                return Err(file.problem(format!("{key} of {label:?} is there twice after renaming")));
            }
        }
        if !labelled.is_empty() && of.iter().all(HashMap::is_empty) {
            let (label, ..) = &labelled[0];
            let problem =
                format!("the state is that of other parameters, such as {label:?}: rename them, or strip a prefix");
            return Err(file.problem(problem));
        }
        let counts_by_variable = entries.iter().any(|wanted| wanted.variable.is_some() && wanted.slot == STEP);
        Ok(Self { file, class, counts_by_variable, of })
    }

    /// A file without any state is the state of an optimizer that has not started.
    fn check(&self, entries: &[Wanted]) -> Result<(), Error> {
        let has_slots = entries.iter().any(|wanted| wanted.variable.is_some() && !wanted.is_master());
        let is_empty = self.of.iter().all(HashMap::is_empty);
        if has_slots && is_empty && self.file.iterations != Some(0) {
            return Err(self.file.problem("there is no state of an optimizer".to_owned()));
        }
        Ok(())
    }

    /// The source of an entry of the optimizer's state.
    fn find(&self, wanted: &Wanted) -> Result<Found<'f>, Error> {
        let key = KEYS.iter().find(|(class, slot, _)| *class == self.class && *slot == wanted.slot);
        let key = key.map(|(.., key)| *key);
        let Some(variable) = wanted.variable else {
            if wanted.kind == StateKind::Iterations {
                return self.counter().map(Found::Iterations);
            }
            let common = key.map_or(Ok(None), |key| self.common(key))?;
            return Ok(common.map_or(Found::Missing, Found::Array));
        };
        let tensors = &self.of[variable];
        if (self.class, wanted.slot.as_str()) == ("SGD", "started") {
            // There is a buffer only if a gradient has come.
            return Ok(Found::Number(f64::from(u8::from(tensors.contains_key("momentum_buffer")))));
        }
        // Only a counter for all variables would give a variable that starts later another number of steps.
        let may_start = self.may_differ() || self.file.options.allow_missing;
        Ok(match key.and_then(|key| tensors.get(key)) {
            Some(named) => Found::Array(named),
            None if wanted.is_master() || (may_start && tensors.is_empty()) => Found::New,
            None => Found::Missing,
        })
    }

    /// Whether parameters may have taken different numbers of steps: no number of the rule here depends on a counter of
    /// all variables, except the learning rate.
    fn may_differ(&self) -> bool {
        self.counts_by_variable || ["SGD", "NovoGrad"].contains(&self.class)
    }

    /// The step counter of the optimizer: the one set by the caller, or that of the parameters.
    fn counter(&self) -> Result<u64, Error> {
        let may_differ = self.may_differ();
        let mut counters = Vec::new();
        for named in self.of.iter().filter_map(|tensors| tensors.get(COUNTER)) {
            let count = named.array.count(&named.name);
            counters.push(count.map_err(|_| self.file.problem(format!("{} is no number of steps", named.name)))?);
        }
        let found = counters.iter().max().copied();
        if !may_differ && counters.iter().any(|count| Some(*count) != found) {
            return Err(self.disagreement(COUNTER));
        }
        match (found, self.file.iterations) {
            (Some(found), Some(said)) if found != said => {
                Err(self.file.problem(format!("{found} steps had been taken, not {said}")))
            }
            (_, Some(said)) => Ok(said),
            (Some(found), None) => Ok(found),
            (None, None) => Err(self.file.problem("there is no step counter: say how many iterations".to_owned())),
        }
    }

    /// A number that all parameters have in common; none if no parameter has it.
    fn common(&self, key: &str) -> Result<Option<&'f Named>, Error> {
        let mut all = self.of.iter().filter_map(|tensors| tensors.get(key).copied());
        let first = all.next();
        if all.any(|named| Some(&named.array) != first.map(|first| &first.array)) {
            return Err(self.disagreement(key));
        }
        Ok(first)
    }

    fn disagreement(&self, key: &str) -> Error {
        self.file.problem(format!("the parameters disagree about {key}, which is one number here"))
    }

    /// The tensors that need not be loaded: counters, numbers in common, and the settings of the optimizer.
    fn bookkeeping(&self) -> impl Iterator<Item = &'f Named> {
        let settings = self.file.tensors.iter().filter(|named| named.name.starts_with("param_groups."));
        let of = |key| self.of.iter().filter_map(move |tensors| tensors.get(key).copied());
        let common = (self.class == "Nadam").then(|| of("mu_product"));
        settings.chain(of(COUNTER)).chain(common.into_iter().flatten())
    }
}

/// Splits `state.LABEL.KEY`.
fn label_and_key(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("state.")?.rsplit_once('.')
}
