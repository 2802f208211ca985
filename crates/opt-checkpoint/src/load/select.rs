//! Which tensors of the file go where.

use std::collections::{HashMap, HashSet};

use opt_core::{Optimizer, StateKind, UpdateRule, Variable};
use safetensors::Dtype;

use super::names::Names;
use crate::checkpoint::Checkpoint;
use crate::element::Element;
use crate::error::{Error, Mismatch, shape_of};

/// What the model or the optimizer has under a name.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) kind: StateKind,
}

/// Where the numbers of a tensor go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) kind: StateKind,
}

/// A variable with slots, and its shape.
pub(super) type Tracked = (String, Vec<usize>);

/// The tensors of a file under their names in the model, and all that does not fit.
pub(super) struct Selection<'n> {
    names: &'n Names,
    /// Places in the file's list, by the name in the model; only what may be loaded.
    tensors: HashMap<String, usize>,
    /// For each tensor of the file, where it goes.
    pub(super) targets: Vec<Option<Target>>,
    /// What the model has and is not asked for.
    pub(super) kept: Vec<String>,
    pub(super) mismatches: Vec<Mismatch>,
    /// Types and shapes of the file's tensors.
    found: Vec<(Dtype, Vec<usize>)>,
    /// The file's variables with slots.
    tracked: Vec<String>,
}

impl<'n> Selection<'n> {
    pub(super) fn new(checkpoint: &Checkpoint, names: &'n Names) -> Self {
        let header = &checkpoint.header;
        let found = header.tensors.iter().map(|tensor| (tensor.dtype, tensor.shape.clone())).collect();
        let mut selection = Self {
            names,
            tensors: HashMap::new(),
            targets: vec![None; header.tensors.len()],
            kept: Vec::new(),
            mismatches: Vec::new(),
            found,
            tracked: header.manifest.tracked.iter().map(|name| names.renamed(name)).collect(),
        };
        for (place, tensor) in header.tensors.iter().enumerate() {
            let name = names.renamed(&tensor.name);
            if names.select(&name) && selection.tensors.insert(name.clone(), place).is_some() {
                selection.mismatches.push(Mismatch::Twice { name });
            }
        }
        selection
    }

    /// Leaves everything but the variables out.
    pub(super) fn variables_only(&mut self, checkpoint: &Checkpoint) {
        let variables = &checkpoint.header.manifest.variables;
        let names: HashSet<String> = variables.iter().map(|name| self.names.renamed(name)).collect();
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
        let known = optimizer.variables().filter(|_| partial);
        let mut tracked: Vec<Tracked> = known.map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
        let mut known: HashSet<String> = tracked.iter().map(|(name, _)| name.clone()).collect();
        let given: HashMap<&str, &Variable<'_, T>> =
            variables.iter().map(|variable| (variable.name(), variable)).collect();
        for name in &self.tracked {
            if let Some(variable) = given.get(name.as_str()).filter(|_| known.insert(name.clone())) {
                tracked.push((name.clone(), variable.view()?.shape().to_vec()));
            }
        }
        Ok(tracked)
    }

    /// Compares names, types and shapes, and gives each tensor its target.
    pub(super) fn compare(&mut self, wanted: impl IntoIterator<Item = Wanted>) {
        for Wanted { name, dtype, kind } in wanted {
            if !self.names.select(&name) {
                self.kept.push(name);
                continue;
            }
            let Some(place) = self.tensors.remove(&name) else {
                self.mismatches.push(Mismatch::Missing { name });
                continue;
            };
            let (found_dtype, found) = &self.found[place];
            if *found_dtype != dtype {
                let (expected, found) = (dtype.to_string(), found_dtype.to_string());
                self.mismatches.push(Mismatch::DType { name: name.clone(), expected, found });
            }
            if found != shape_of(&kind) {
                let (expected, found) = (shape_of(&kind).to_vec(), found.clone());
                self.mismatches.push(Mismatch::Shape { name: name.clone(), expected, found });
            }
            self.targets[place] = Some(Target { name, kind });
        }
        let mut unexpected: Vec<String> = self.tensors.drain().map(|(name, _)| name).collect();
        unexpected.sort();
        self.mismatches.extend(unexpected.into_iter().map(|name| Mismatch::Unexpected { name }));
    }

    /// Whether everything that can be seen without the numbers fits.
    pub(super) fn fits(&self) -> bool {
        self.mismatches.is_empty()
    }

    /// The names that will be loaded, in the order of the file.
    pub(super) fn loaded(&self) -> Vec<String> {
        self.targets.iter().flatten().map(|target| target.name.clone()).collect()
    }

    /// All that was found.
    pub(super) fn finish(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let mismatches = std::mem::take(&mut self.mismatches);
        if mismatches.is_empty() { Ok(()) } else { Err(checkpoint.mismatch(mismatches)) }
    }
}
