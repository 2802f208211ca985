//! The selection: which tensors of the file go to which entries.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use opt_core::state::{DType, ITERATIONS};
use opt_core::{Ema, Master, Optimizer, UpdateRule, Variable};
use safetensors::Dtype;

use super::names::Names;
use crate::checkpoint::Checkpoint;
use crate::element::Element;
use crate::error::{Error, Mismatch};
use crate::ranks::Place;
use crate::region::Region;
use crate::tensors::WholeTensor;

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A step counter.
    Count,
    /// One number.
    Scalar,
    /// Many numbers.
    Array(Dtype),
}

impl Kind {
    fn dtype(self) -> Dtype {
        match self {
            Self::Count => Dtype::U64,
            Self::Scalar => Dtype::F64,
            Self::Array(dtype) => dtype,
        }
    }
}

/// An entry of the model or the optimizer.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The shape of the whole array.
    pub(super) whole: Rc<[usize]>,
    /// The region of it that is here.
    pub(super) region: Rc<Region>,
}

/// The target of a tensor's numbers.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The index in the list of the model's entries.
    pub(super) wanted: usize,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The region of the tensor that is here.
    pub(super) region: Rc<Region>,
}

/// A variable with slots.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) place: Place,
}

/// The tensors of a file under their names in the model, and all differences.
pub(super) struct Selection<'n> {
    names: &'n Names,
    /// Indices in the file's list, by the name in the model; only entries that may be loaded.
    tensors: HashMap<Cow<'n, str>, usize>,
    /// For each tensor of the file, its target.
    pub(super) targets: Vec<Option<Target>>,
    /// The number of the model's entries.
    pub(super) wanted: usize,
    /// The model's entries that are not to be loaded.
    kept: Vec<String>,
    pub(super) mismatches: Vec<Mismatch>,
    found: &'n [WholeTensor],
    /// The file's variables with slots.
    tracked: Vec<Cow<'n, str>>,
}

impl<'n> Selection<'n> {
    pub(super) fn new(checkpoint: &'n Checkpoint, names: &'n Names) -> Self {
        let found = &checkpoint.tensors.whole;
        let mut selection = Self {
            names,
            tensors: HashMap::with_capacity(found.len()),
            targets: vec![None; found.len()],
            wanted: 0,
            kept: Vec::new(),
            mismatches: Vec::new(),
            found,
            tracked: checkpoint.manifest.tracked.iter().map(|name| names.renamed(name)).collect(),
        };
        for (place, tensor) in found.iter().enumerate() {
            let name = names.renamed(&tensor.name);
            if !names.select(&name) {
                continue;
            }
            match selection.tensors.entry(name) {
                Entry::Occupied(twice) => selection.mismatches.push(Mismatch::Twice { name: twice.key().to_string() }),
                Entry::Vacant(new) => _ = new.insert(place),
            }
        }
        selection
    }

    /// Selects only the variables.
    pub(super) fn variables_only(&mut self, checkpoint: &Checkpoint) {
        let names: HashSet<Cow<'_, str>> = checkpoint.variables().iter().map(|name| self.names.renamed(name)).collect();
        self.tensors.retain(|name, _| names.contains(name));
    }

    /// The variables that will have slots, in the order of their records.
    ///
    /// If all is loaded these are the file's, else those that the optimizer knows and then the file's others.
    pub(super) fn tracked<R: UpdateRule<T>, T: Element>(
        &self,
        optimizer: &Optimizer<R, T>,
        variables: &[Variable<'_, T>],
        partial: bool,
    ) -> Result<Vec<Tracked>, Error> {
        let given: HashMap<&str, &Variable<'_, T>> =
            variables.iter().map(|variable| (variable.name(), variable)).collect();
        let known = optimizer.variables().filter(|_| partial).map(|(name, _)| name);
        let mut listed = HashSet::new();
        let names = known.chain(self.tracked.iter().map(AsRef::as_ref)).filter(|name| listed.insert(*name));
        let mut tracked = Vec::new();
        for name in names {
            let here = if partial { Self::known(optimizer, name)? } else { None };
            if let Some(here) = here {
                tracked.push(here);
            } else if let Some(variable) = given.get(name) {
                let place = Place::of_variable(optimizer.distribution(), variable)?;
                tracked.push(Tracked { name: name.to_owned(), dtype: variable.dtype(), place });
            } else if partial && optimizer.variables().any(|(known, _)| known == name) {
                return Err(Error::VariablesMissing { names: vec![name.to_owned()] });
            }
        }
        Ok(tracked)
    }

    /// A variable that the optimizer knows, whether it was given or not. Ranks know only their parts.
    fn known<R: UpdateRule<T>, T: Element>(optimizer: &Optimizer<R, T>, name: &str) -> Result<Option<Tracked>, Error> {
        let known = optimizer.variables().find(|(known, _)| *known == name && optimizer.distribution().is_none());
        let Some((_, shape)) = known else { return Ok(None) };
        // The type of 16 bits makes no difference to the slots.
        let dtype =
            if Master::SLOTS.iter().any(|slot| optimizer.slot(name, slot).is_ok()) { DType::Bf16 } else { T::DTYPE };
        Ok(Some(Tracked { name: name.to_owned(), dtype, place: Place::of(None, name, shape)? }))
    }

    /// Compares names, types and shapes, and gives each tensor its target.
    pub(super) fn compare(&mut self, wanted: impl IntoIterator<Item = Wanted>) {
        for Wanted { name, kind, whole, region } in wanted {
            let wanted = self.wanted;
            self.wanted += 1;
            if !self.names.select(&name) {
                self.kept.push(name);
                continue;
            }
            let Some(place) = self.tensors.remove(name.as_str()) else {
                self.mismatches.push(Mismatch::Missing { name });
                continue;
            };
            let WholeTensor { dtype, shape, .. } = &self.found[place];
            if *dtype != kind.dtype() {
                let (expected, found) = (kind.dtype().to_string(), dtype.to_string());
                self.mismatches.push(Mismatch::DType { name: name.clone(), expected, found });
            }
            if **shape != *whole {
                let (expected, found) = (whole.to_vec(), shape.clone());
                self.mismatches.push(Mismatch::Shape { name: name.clone(), expected, found });
            }
            self.targets[place] = Some(Target { wanted, name, kind, region });
        }
        let mut unexpected: Vec<String> = self.tensors.drain().map(|(name, _)| name.into_owned()).collect();
        unexpected.sort();
        self.mismatches.extend(unexpected.into_iter().map(|name| Mismatch::Unexpected { name }));
    }

    /// Whether slots of the rule are loaded, whose numbers mean what the rule says. The variables are the first
    /// entries.
    pub(super) fn loads_slots_of_rule(&self, variables: usize) -> bool {
        let is_of_engine = |name: &str| {
            let slot = name.rsplit('/').next().unwrap_or_default();
            name == ITERATIONS || slot == Ema::SLOT || Master::SLOTS.contains(&slot)
        };
        self.targets.iter().flatten().any(|target| target.wanted >= variables && !is_of_engine(&target.name))
    }

    /// Whether everything fits that can be compared without the numbers.
    pub(super) fn fits(&self) -> bool {
        self.mismatches.is_empty()
    }

    /// The names that will be loaded, in the order of the file, and the names of the entries that stay.
    pub(super) fn into_names(self) -> (Vec<String>, Vec<String>) {
        (self.targets.into_iter().flatten().map(|target| target.name).collect(), self.kept)
    }

    /// All differences.
    pub(super) fn finish(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let mismatches = std::mem::take(&mut self.mismatches);
        if mismatches.is_empty() { Ok(()) } else { Err(checkpoint.mismatch(mismatches)) }
    }
}
