//! State saved by Keras and TensorFlow Addons.

mod layout;
mod names;

use std::path::{Path, PathBuf};

use layout::{Layout, Role};
use names::KerasNames;
use ndarray::ArrayD;
use opt_core::rule::{SlotInit, SlotSpec, Step};
use opt_core::state::StateKind;
use opt_core::{Optimizer, Parameters, UpdateRule, Variable};

use super::assemble::{Found, Import, Wanted, shape, wanted};
use super::foreign::{ArraySummary, Foreign, Named};
#[cfg(feature = "npz")]
use super::kind::{self, FileKind};
use super::options::{ImportOptions, Imported};
use super::source::{self, KERAS};
use crate::element::Element;
use crate::error::{Error, Mismatch};

/// Arrays that Keras or TensorFlow Addons have saved, in an `.npz` file of NumPy.
///
/// **With names**, as `interop/keras_to_npz.py` writes them with `numpy.savez(path, **arrays)`: the names are those of
/// [`Optimizer::weights`] for the state (`iterations`, `momentum_cache`, `dense/kernel/m`), or those of the variables.
/// Keras's own names, such as `SGD/m/dense/kernel:0` or `adam/dense_kernel_momentum`, are understood, too. Variables
/// may have any order.
///
/// **Without names**, as `numpy.savez(path, *weights)` writes them, where `weights` is
///
/// * `optimizer.get_weights()` of an optimizer of the legacy generation or of TensorFlow Addons,
/// * `[v.numpy() for v in optimizer.variables]` of Keras 2.11 to 2.15, or of Keras 3,
/// * `model.get_weights()` of a model.
///
/// Such a list is told by length and shapes. If it fits in two ways, it is refused until
/// [`from_keras_legacy`](Self::from_keras_legacy), [`from_keras2`](Self::from_keras2) or
/// [`from_keras3`](Self::from_keras3) says where it comes from. No check can find out that two variables of the same
/// shape, such as gamma and beta of a normalisation, have changed places: prefer names.
///
/// Keras 3's learning rate is not loaded, but [reported](Imported::learning_rate), and `u_product` is the
/// `momentum_cache` here. Keras 2.11 to 2.15 do not save that product; it is computed from the configuration. Their SGD
/// saves its last steps even if its momentum is 0; these are skipped if the list is known to be from there. NovoGrad's
/// `vhat` is an array of equal numbers there, and one number here.
///
/// # Examples
///
/// ```no_run
/// use opt_checkpoint::import::KerasWeights;
/// use opt_core::{Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let (mut kernel, mut bias) = (ndarray::Array2::<f32>::zeros((4, 3)), ndarray::Array1::zeros(3));
/// let mut opt = Optimizer::new(Sgd::new(0.125).momentum(0.875))?;
/// let mut variables = [Variable::new("kernel", &mut kernel), Variable::new("bias", &mut bias)];
/// KerasWeights::open("model.npz")?.load_variables(&mut variables)?;
/// KerasWeights::open("optimizer.npz")?.load(&mut opt, &mut variables)?;
/// # Ok::<(), opt_checkpoint::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KerasWeights {
    path: PathBuf,
    arrays: Vec<Named>,
    has_names: bool,
    version: Option<Version>,
    options: ImportOptions,
}

/// The three forms in which Keras lists the state of an optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Keras up to 2.10, `keras.optimizers.legacy`, TensorFlow Addons.
    Legacy,
    /// Keras 2.11 to 2.15.
    Keras2,
    Keras3,
}

impl KerasWeights {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read; [`Error::Import`] when it is of another kind, which is then named with what to do, or
    /// when it has contents other than arrays of numbers.
    #[cfg(feature = "npz")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        kind::check(path, FileKind::Npz)?;
        let arrays = super::npz::read(path)?;
        let has_names = arrays.first().is_some_and(|first| first.name != super::npz::positional(0));
        Ok(Self::new(path, arrays, has_names))
    }

    /// A list without names, from memory.
    pub fn from_arrays<T: Element>(arrays: impl IntoIterator<Item = ArrayD<T>>) -> Self {
        let named = |(number, array)| Named { name: format!("arr_{number}"), array: Foreign::of::<T>(&array) };
        Self::new(Path::new("(memory)"), arrays.into_iter().enumerate().map(named).collect(), false)
    }

    /// Arrays with names, from memory.
    pub fn from_named<T: Element>(arrays: impl IntoIterator<Item = (String, ArrayD<T>)>) -> Self {
        let named = |(name, array)| Named { name, array: Foreign::of::<T>(&array) };
        Self::new(Path::new("(memory)"), arrays.into_iter().map(named).collect(), true)
    }

    fn new(path: &Path, arrays: Vec<Named>, has_names: bool) -> Self {
        Self { path: path.to_owned(), arrays, has_names, version: None, options: ImportOptions::new() }
    }

    /// Sets the options.
    #[must_use]
    pub fn options(mut self, options: ImportOptions) -> Self {
        self.options = options;
        self
    }

    /// Says that a list without names comes from Keras up to 2.10, from `keras.optimizers.legacy`, or from TensorFlow
    /// Addons.
    #[must_use]
    pub fn from_keras_legacy(mut self) -> Self {
        self.version = Some(Version::Legacy);
        self
    }

    /// Says that a list without names comes from an optimizer of the new generation of Keras 2.11 to 2.15.
    #[must_use]
    pub fn from_keras2(mut self) -> Self {
        self.version = Some(Version::Keras2);
        self
    }

    /// Says that a list without names comes from Keras 3.
    #[must_use]
    pub fn from_keras3(mut self) -> Self {
        self.version = Some(Version::Keras3);
        self
    }

    /// Names, types and shapes of the arrays. Arrays without a name are called `arr_0`, `arr_1`, ...
    pub fn arrays(&self) -> impl Iterator<Item = ArraySummary> + '_ {
        self.arrays.iter().map(Named::summary)
    }

    /// Whether the arrays have names.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.has_names
    }

    /// The number of arrays.
    #[must_use]
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// Whether there are no arrays.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// Replaces the state of an optimizer, all of it unless the [options](Self::options) say otherwise. `model` has the
    /// variables for which the optimizer had slots there: without names, in the order in which it made them. Their
    /// values stay unchanged; load them [first](Self::load_variables), because some new slots are copies of them.
    ///
    /// # Errors
    ///
    /// [`Error::Import`] for a list of another length or another origin; [`Error::Mismatch`] with all entries that are
    /// missing, unexpected, or of another type or shape. The optimizer is then unchanged.
    pub fn load<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        model: &mut P,
    ) -> Result<Imported, Error> {
        source::check(&self.path, optimizer, &KERAS)?;
        let mut variables = model.variables();
        let entries = wanted(optimizer, &variables)?;
        if self.has_names {
            self.by_name(optimizer, &mut variables, entries)
        } else {
            self.by_place(optimizer, &mut variables, entries)
        }
    }

    fn by_name<R: UpdateRule<T>, T: Element>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        variables: &mut [Variable<'_, T>],
        entries: Vec<Wanted>,
    ) -> Result<Imported, Error> {
        let import = self.import();
        let names = KerasNames::new(&self.arrays, &self.options.names).map_err(|twice| import.problem(twice))?;
        if names.has_product_of_keras3() && !source::is_new_generation(optimizer) {
            return Err(import.problem("the state is from Keras 3, whose dialect is not the optimizer's"));
        }
        let found: Vec<Option<&Named>> = entries
            .iter()
            .map(|wanted| names.find(wanted, wanted.variable.map(|variable| variables[variable].name())))
            .collect();
        let mut places: Vec<&str> = found.iter().flatten().map(|named| named.name.as_str()).collect();
        places.sort_unstable();
        if let Some(twice) = places.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(import.problem(format!("{:?} could belong to two variables", twice[0])));
        }
        let has_state = |variable: usize| {
            entries.iter().zip(&found).any(|(wanted, found)| wanted.variable == Some(variable) && found.is_some())
        };
        let lacks_shared = |wanted: &Wanted| wanted.variable.is_none() && wanted.kind == StateKind::Scalar;
        let shared = match entries.iter().zip(&found).find(|(wanted, _)| wanted.kind == StateKind::Iterations) {
            Some((wanted, Some(counter))) => {
                let iterations = counter.array.count(&wanted.name).map_err(|mismatch| self.mismatch(mismatch))?;
                after(optimizer.rule(), iterations)
            }
            _ => Vec::new(),
        };
        let sources = entries.iter().zip(&found).map(|(wanted, found)| match (found, wanted.variable) {
            (Some(named), _) => Found::Array(named),
            (None, Some(variable)) if wanted.is_master() || self.may_be_new(has_state(variable)) => Found::New,
            (None, None) if lacks_shared(wanted) => computed(&shared, &wanted.name),
            (None, _) => Found::Missing,
        });
        let sources: Vec<Found<'_>> = sources.collect();
        let found: Vec<(Wanted, Found<'_>)> = entries.into_iter().zip(sources).collect();
        let learning_rate = names.learning_rate();
        let used: Vec<&Named> = learning_rate.into_iter().collect();
        let imported = import.state(optimizer, variables, &found, &used)?;
        let learning_rate = learning_rate.and_then(|named| named.array.number(&named.name).ok());
        Ok(Imported { learning_rate, ..imported })
    }

    /// Whether a variable starts with new slots.
    fn may_be_new(&self, has_state: bool) -> bool {
        self.options.allow_missing && !has_state
    }

    fn by_place<R: UpdateRule<T>, T: Element>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        variables: &mut [Variable<'_, T>],
        entries: Vec<Wanted>,
    ) -> Result<Imported, Error> {
        let import = self.import();
        let shapes: Vec<Vec<usize>> = variables.iter().map(shape).collect::<Result<_, _>>()?;
        let version = self.version.or_else(|| is_of_keras3(optimizer).then_some(Version::Keras3));
        let is_new = source::is_new_generation(optimizer);
        let layouts = Layout::all(optimizer.rule().class_name(), is_new, &entries, shapes.len());
        let layout = layout::choose(&self.arrays, &entries, &shapes, layouts, version);
        let layout = layout.map_err(|problem| import.problem(problem))?;
        let mut found = vec![Found::Missing; entries.len()];
        let mut used = Vec::new();
        let mut learning_rate = None;
        for (role, named) in layout.roles.iter().zip(&self.arrays) {
            match role {
                Role::Entry(entry) => found[*entry] = Found::Array(named),
                Role::LearningRate => learning_rate = named.array.number(&named.name).ok(),
                Role::LastStep(_) => {}
            }
            used.push(named);
        }
        let iterations = self.arrays.first().ok_or_else(|| import.problem("there are no arrays"))?;
        let iterations = iterations.array.count(&entries[0].name).map_err(|mismatch| self.mismatch(mismatch))?;
        let shared = after(optimizer.rule(), iterations);
        for (wanted, found) in entries.iter().zip(&mut found) {
            match found {
                Found::Missing if wanted.is_master() => *found = Found::New,
                Found::Missing => *found = computed(&shared, &wanted.name),
                _ => {}
            }
        }
        let found: Vec<(Wanted, Found<'_>)> = entries.into_iter().zip(found).collect();
        let imported = import.state(optimizer, variables, &found, &used)?;
        Ok(Imported { learning_rate, ..imported })
    }

    /// Replaces the values of variables by the arrays: by name, or in this order if they have no names.
    ///
    /// An optimizer that has slots of these variables already does not know of the new values: averages, masters and
    /// Lookahead's slow weights are still copies of the old ones. [`Optimizer::reset`] starts them anew.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). The variables are then unchanged.
    pub fn load_variables<T: Element, P: Parameters<T> + ?Sized>(&self, model: &mut P) -> Result<Imported, Error> {
        let mut variables = model.variables();
        let import = self.import();
        if self.has_names {
            let names = KerasNames::new(&self.arrays, &self.options.names).map_err(|twice| import.problem(twice))?;
            return import.variables(&mut variables, |_, name| names.variable(name), |_| false);
        }
        if variables.len() != self.len() {
            return Err(import.problem(format!("{} arrays for {} variables", self.len(), variables.len())));
        }
        import.variables(&mut variables, |place, _| Some(place), |_| false)
    }

    fn import(&self) -> Import<'_> {
        Import { path: &self.path, arrays: &self.arrays, options: &self.options }
    }

    fn mismatch(&self, mismatch: Mismatch) -> Error {
        Error::Mismatch { path: self.path.clone(), mismatches: vec![mismatch] }
    }
}

/// Whether the optimizer was built from a configuration of Keras 3, which has keys of its own.
fn is_of_keras3<R: UpdateRule<T>, T: Element>(optimizer: &Optimizer<R, T>) -> bool {
    let config = optimizer.to_config().unwrap_or_default();
    let fields = config.pointer("/config/inner_optimizer/config").unwrap_or(&config["config"]);
    ["loss_scale_factor", "gradient_accumulation_steps"].iter().any(|key| fields.get(key).is_some())
}

/// A shared slot that was not saved.
fn computed<'f>(shared: &[(String, f64)], name: &str) -> Found<'f> {
    shared.iter().find(|(slot, _)| slot == name).map_or(Found::Missing, |(_, number)| Found::Number(*number))
}

/// Shared slots after some steps, as the rule computes them. A product that has become 0 stays 0.
fn after<R: UpdateRule<T>, T: Element>(rule: &R, steps: u64) -> Vec<(String, f64)> {
    let shared = |slot: &SlotSpec| match slot.init() {
        SlotInit::Shared(initial) => Some((slot.name().to_owned(), initial)),
        _ => None,
    };
    let (names, mut numbers): (Vec<String>, Vec<f64>) = rule.slots().iter().filter_map(shared).unzip();
    for step in 0..steps {
        let before = numbers.clone();
        drop(rule.begin_step(&Step::new(step, rule.learning_rate_at(step)), &mut numbers));
        if numbers == before {
            break;
        }
    }
    names.into_iter().zip(numbers).collect()
}
