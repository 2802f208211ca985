//! Lists of weights saved by Keras.

use std::path::{Path, PathBuf};

use opt_core::rule::{SlotInit, Step};
use opt_core::state::{StateKind, StateValue};
use opt_core::{Optimizer, Parameters, UpdateRule, Variable};

use super::foreign::{Foreign, Weights, expected};
use super::npz;
use crate::element::Element;
use crate::error::{Error, Mismatch};

/// A list of arrays, written by `numpy.savez(path, *weights)` or `savez_compressed`, where `weights` is
///
/// * `optimizer.get_weights()` of an optimizer of the legacy generation or of TensorFlow Addons,
/// * `[v.numpy() for v in optimizer.variables]` of one of the new generation (Keras 2.11 to 2.15),
/// * `model.get_weights()` of a model.
///
/// The new SGD saves its last steps even if its momentum is 0; they are skipped. The new Nadam does not save the
/// product of its momenta; it is computed from the configuration. NovoGrad's `vhat` is an array of equal numbers
/// there, and one number here.
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
    arrays: Vec<Foreign>,
}

impl KerasWeights {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is not an archive, or has contents other than arrays of numbers `arr_0`, `arr_1`, ...
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Ok(Self { path: path.to_owned(), arrays: npz::read(path)? })
    }

    /// The number of arrays.
    #[must_use]
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// Replaces all state of an optimizer. `variables` are those for which the optimizer had slots there, in the
    /// order in which it made them. Their values stay unchanged.
    ///
    /// # Errors
    ///
    /// [`Error::Import`] for a list of another length, [`Error::Mismatch`] with all entries of another type or shape.
    /// The optimizer is then unchanged.
    pub fn load<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        model: &mut P,
    ) -> Result<(), Error> {
        let mut variables = model.variables();
        let entries = expected(optimizer, &variables)?;
        let shared = self.unsaved(optimizer, &entries, &variables)?;
        let (mut arrays, mut weights) = (self.arrays.iter(), Weights::new());
        for (name, kind) in &entries {
            let missing = || Mismatch::Missing { name: name.clone() };
            weights.push(match shared.iter().find(|(unsaved, _)| unsaved == name) {
                Some((_, number)) => Ok(StateValue::Scalar(*number)),
                None => arrays.next().ok_or_else(missing).and_then(|array| array.weight(name, kind)),
            });
        }
        Ok(optimizer.restore(&mut variables, weights.finish(&self.path)?)?)
    }

    /// Replaces the values of variables by the arrays, in this order.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). The variables are then unchanged.
    pub fn load_variables<T: Element, P: Parameters<T> + ?Sized>(&self, model: &mut P) -> Result<(), Error> {
        let mut variables = model.variables();
        if variables.len() != self.len() {
            return Err(self.problem(format!("{} arrays for {} variables", self.len(), variables.len())));
        }
        let mut weights = Weights::new();
        for (variable, array) in variables.iter().zip(&self.arrays) {
            let kind = StateKind::Array(variable.view()?.shape().to_vec());
            weights.push(array.weight(variable.name(), &kind));
        }
        for (variable, value) in variables.iter_mut().zip(weights.finish(&self.path)?) {
            if let StateValue::Array(value) = value {
                variable.view_mut()?.assign(&value);
            }
        }
        Ok(())
    }

    /// The shared slots that are not in the list, with their values at this step.
    fn unsaved<R: UpdateRule<T>, T: Element>(
        &self,
        optimizer: &Optimizer<R, T>,
        entries: &[(String, StateKind)],
        variables: &[Variable<'_, T>],
    ) -> Result<Vec<(String, f64)>, Error> {
        let shared: Vec<(String, f64)> = optimizer.rule().slots().iter().filter_map(initial).collect();
        match (self.len(), entries.len()) {
            (found, expected) if found == expected => Ok(Vec::new()),
            (found, expected) if found > expected && self.has_idle_momentum(optimizer, expected, variables) => {
                Ok(Vec::new())
            }
            (found, expected) if found > 0 && found + shared.len() == expected => {
                let iterations = self.arrays[0].count(&entries[0].0);
                let fits = |mismatch| Error::Mismatch { path: self.path.clone(), mismatches: vec![mismatch] };
                Ok(advanced(optimizer.rule(), shared, iterations.map_err(fits)?))
            }
            (found, _) => {
                let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
                Err(self.problem(format!("{found} arrays, the optimizer has {}: {}", names.len(), names.join(", "))))
            }
        }
    }

    /// Whether the arrays from here on are the momentum of an SGD without momentum: its last steps, which the next
    /// step multiplies by 0.
    fn has_idle_momentum<R: UpdateRule<T>, T: Element>(
        &self,
        optimizer: &Optimizer<R, T>,
        from: usize,
        variables: &[Variable<'_, T>],
    ) -> bool {
        let idle = &self.arrays[from..];
        let is_idle = |(array, variable): (&Foreign, &Variable<'_, T>)| {
            array.dtype == T::FILE_DTYPE && variable.view().is_ok_and(|view| view.shape() == array.shape)
        };
        optimizer.rule().class_name() == "SGD"
            && idle.len() == variables.len()
            && idle.iter().zip(variables).all(is_idle)
    }

    fn problem(&self, problem: String) -> Error {
        Error::Import { path: self.path.clone(), problem }
    }
}

fn initial(slot: &opt_core::rule::SlotSpec) -> Option<(String, f64)> {
    match slot.init() {
        SlotInit::Shared(initial) => Some((slot.name().to_owned(), initial)),
        _ => None,
    }
}

/// Shared slots after some steps, as the rule computes them. A product that has become 0 stays 0.
fn advanced<R: UpdateRule<T>, T: Element>(rule: &R, shared: Vec<(String, f64)>, steps: u64) -> Vec<(String, f64)> {
    let (names, mut numbers): (Vec<String>, Vec<f64>) = shared.into_iter().unzip();
    for step in 0..steps {
        let before = numbers.clone();
        drop(rule.begin_step(&Step::new(step, rule.learning_rate_at(step)), &mut numbers));
        if numbers == before {
            break;
        }
    }
    names.into_iter().zip(numbers).collect()
}
