//! Options and results of imports.

use crate::error::Error;
use crate::load::Names;

/// Options of imports: for [`KerasWeights::options`](super::KerasWeights::options) and
/// [`TorchState::options`](super::TorchState::options). The names of the first three are those of
/// [`LoadOptions`](crate::LoadOptions).
///
/// | option | default |
/// |---|---|
/// | [`only`](Self::only), [`except`](Self::except) | everything |
/// | [`rename`](Self::rename), [`strip_prefix`](Self::strip_prefix) | names as they are |
/// | [`allow_missing`](Self::allow_missing) | state of every variable must be there |
/// | [`allow_unexpected`](Self::allow_unexpected) | every array of the file must be loaded |
/// | [`convert_types`](Self::convert_types) | element types must agree |
///
/// Lists without names know only `convert_types`.
///
/// # Examples
///
/// ```
/// use ndarray::arr1;
/// use opt_checkpoint::import::{ImportOptions, TorchState};
/// use opt_core::Variable;
///
/// // Saved from a model inside DistributedDataParallel.
/// let saved = [("module.weight".to_owned(), arr1(&[0.5_f32, 2.0]).into_dyn())];
/// let options = ImportOptions::new().strip_prefix("module.").convert_types();
/// let mut w = [0.0_f64; 2];
/// let mut model = [Variable::new("weight", &mut w)];
/// TorchState::from_tensors(saved).options(options).load_variables(&mut model)?;
/// assert_eq!(w, [0.5, 2.0]);
/// # Ok::<(), opt_checkpoint::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ImportOptions {
    pub(super) names: Names,
    pub(super) allow_missing: bool,
    pub(super) allow_unexpected: bool,
    pub(super) convert_types: bool,
}

impl ImportOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads only entries in whose names here the pattern, a regular expression, is found: `variable`,
    /// `variable/slot`, the names of shared slots, `iterations`. The other entries stay unchanged, and other arrays of
    /// the file are skipped.
    ///
    /// # Errors
    ///
    /// [`Error::Pattern`].
    pub fn only(mut self, pattern: &str) -> Result<Self, Error> {
        self.names.only(pattern)?;
        Ok(self)
    }

    /// Skips entries in whose names the pattern is found: the opposite of [`only`](Self::only).
    ///
    /// # Errors
    ///
    /// [`Error::Pattern`].
    pub fn except(mut self, pattern: &str) -> Result<Self, Error> {
        self.names.except(pattern)?;
        Ok(self)
    }

    /// Replaces all matches of a pattern in the names of the file, before any other option applies; `$1` stands for
    /// the first group. Several replacements are applied one after the other. In a `state_dict` of an optimizer, the
    /// names are those of the parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Pattern`].
    pub fn rename(mut self, pattern: &str, replacement: &str) -> Result<Self, Error> {
        self.names.rename(pattern, replacement)?;
        Ok(self)
    }

    /// Removes the beginning of names, such as `module.` of DistributedDataParallel or `_orig_mod.` of
    /// `torch.compile`; names without it stay as they are.
    pub fn strip_prefix(mut self, prefix: &str) -> Self {
        self.names.strip_prefix(prefix);
        self
    }

    /// Lets variables start with new slots of which the file has no entry, because they never had a gradient there.
    /// A variable with some of its entries is refused in any case.
    pub fn allow_missing(mut self) -> Self {
        self.allow_missing = true;
        self
    }

    /// Skips arrays that are not needed here. [`Imported::skipped`] lists them.
    pub fn allow_unexpected(mut self) -> Self {
        self.allow_unexpected = true;
        self
    }

    /// Converts arrays in `f16`, `bf16`, `f32` and `f64` to the type of the optimizer or variable. Wider numbers are
    /// rounded to nearest, ties to even; [`Imported::rounded`] lists the entries in which a number changed. A number
    /// that would become infinite is an error.
    pub fn convert_types(mut self) -> Self {
        self.convert_types = true;
        self
    }
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// The entries of the state, or variables, that were loaded.
    pub loaded: Vec<String>,
    /// The entries that [`ImportOptions::only`] and [`ImportOptions::except`] left unchanged.
    pub kept: Vec<String>,
    /// The entries of which the file has nothing. Those of the state start anew, variables stay unchanged.
    pub missing: Vec<String>,
    /// The arrays of the file that were not needed, by their names there.
    pub skipped: Vec<String>,
    /// The loaded entries in which a number was rounded.
    pub rounded: Vec<String>,
    /// The learning rate in the file, if there is one. It is not set: see
    /// [`Optimizer::set_learning_rate`](opt_core::Optimizer::set_learning_rate).
    pub learning_rate: Option<f64>,
}
