//! Loading checkpoints: first everything is compared, then everything is assigned, or nothing.

pub(crate) mod assign;
mod compare;
mod names;
mod select;
pub(crate) mod stage;

pub(crate) use names::Names;
use opt_core::collective::Distribution;
use opt_core::{Optimizer, Parameters, UpdateRule, Variable};
use select::{Selection, Tracked};
use serde_json::Value;
use stage::Staged;

use crate::checkpoint::Checkpoint;
use crate::element::Element;
use crate::error::Error;
use crate::format::Contents;
use crate::progress::Progress;
use crate::ranks;

/// The result of loading.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Loaded {
    /// The number of steps that the optimizer has now applied.
    pub iterations: u64,
    /// The entries of model and optimizer that were loaded.
    pub loaded: Vec<String>,
    /// The entries of model and optimizer that [`LoadOptions::only`] and [`LoadOptions::except`] left unchanged.
    pub kept: Vec<String>,
    /// Those of the kept slots that are copies of variables (averages, masters, Lookahead's slow weights) and that
    /// start anew from the variables' new values, which were loaded.
    pub restarted: Vec<String>,
    /// Whether the configurations were compared: both exist, and no option prevented it.
    pub configuration_compared: bool,
    /// Further data of the training.
    pub extra: Value,
}

/// Options of loading.
///
/// | option | default |
/// |---|---|
/// | [`only`](Self::only), [`except`](Self::except) | everything |
/// | [`rename`](Self::rename) | names as they are |
/// | [`any_configuration`](Self::any_configuration) | the configurations must agree |
/// | [`observer`](Self::observer) | none |
///
/// # Examples
///
/// A part of one model becomes a part of another:
///
/// ```
/// use opt_checkpoint::{Checkpoint, LoadOptions, SaveOptions};
/// use opt_core::{Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let (mut body, mut head) = ([1.0, 2.0], [3.0]);
/// let opt = Optimizer::<_, f64>::new(Sgd::new(0.1))?;
/// let mut file = std::io::Cursor::new(Vec::new());
/// let variables = [Variable::new("a/body", &mut body), Variable::new("a/head", &mut head)];
/// SaveOptions::new().write(&mut file, &opt, &variables)?;
///
/// let (mut body, mut head) = ([0.0; 2], [0.0; 5]);
/// let options = LoadOptions::new().rename("^a/", "b/")?.only("^b/body")?;
/// let mut variables = [Variable::new("b/body", &mut body), Variable::new("b/head", &mut head)];
/// let loaded = options.load_variables(&Checkpoint::from_bytes(file.into_inner())?, &mut variables)?;
/// assert_eq!((body, head), ([1.0, 2.0], [0.0; 5]));
/// assert_eq!((loaded.loaded, loaded.kept), (vec!["b/body".to_owned()], vec!["b/head".to_owned()]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct LoadOptions<'o> {
    names: Names,
    any_configuration: bool,
    observer: Option<Box<dyn FnMut(Progress) + 'o>>,
}

impl<'o> LoadOptions<'o> {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads only entries in whose names the pattern, a regular expression, is found: `variable`, `variable/slot`,
    /// the names of shared slots, `iterations`. The other entries of the model stay unchanged, and other entries of
    /// the file are only checked for damage. The configurations may then differ; but if slots of the rule are loaded,
    /// its class and dialect must be those of the file, unless [`any_configuration`](Self::any_configuration) is set.
    ///
    /// Slots that are copies of a variable (averages, masters, Lookahead's slow weights) start anew from its new value,
    /// if the variable is loaded and they are not: see [`Loaded::restarted`].
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
    /// the first group. Several replacements are applied one after the other.
    ///
    /// # Errors
    ///
    /// [`Error::Pattern`].
    pub fn rename(mut self, pattern: &str, replacement: &str) -> Result<Self, Error> {
        self.names.rename(pattern, replacement)?;
        Ok(self)
    }

    /// Lets the optimizer resume with another configuration than the file's, for example with another learning rate.
    /// The slots must be the same.
    #[must_use]
    pub fn any_configuration(mut self) -> Self {
        self.any_configuration = true;
        self
    }

    /// Called after each piece that was read.
    #[must_use]
    pub fn observer(mut self, observer: impl FnMut(Progress) + 'o) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Loads variables and all state. The optimizer need not have seen the variables. It forgets its previous state,
    /// unless only some entries are loaded.
    ///
    /// The numbers are read once, into separate memory, and moved in when all of them are verified.
    ///
    /// On several ranks all of them call it. Each loads its part of variables and slots, whichever mesh or process
    /// saved them. A rank reads only the shards that contain some of its data.
    ///
    /// # Errors
    ///
    /// [`Error::Contents`] when the file has no state; [`Error::Mismatch`] with everything that is missing,
    /// unexpected, of another shape, type or configuration, or damaged; [`Error::NothingSelected`]. Optimizer and
    /// variables are then unchanged.
    pub fn load<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        self,
        checkpoint: &Checkpoint,
        optimizer: &mut Optimizer<R, T>,
        model: &mut P,
    ) -> Result<Loaded, Error> {
        let mut variables = model.variables();
        let prepared = self.prepare(checkpoint, optimizer, &variables);
        let Prepared { tracked, mut values, partial, loaded } = match optimizer.distribution() {
            None => prepared?,
            Some(ranks) => ranks::same(ranks.world(), "the checkpoint", prepared, |_| checkpoint.identity())?,
        };
        let state = values.split_off(variables.len());
        if !partial {
            assign::all_state(optimizer, &mut variables, &tracked, state)?;
            assign::values(&mut variables, values)?;
            return Ok(Loaded { iterations: optimizer.iterations(), ..loaded });
        }
        let outdated = assign::outdated(optimizer, &variables, &tracked, &values, &state);
        assign::some_state(optimizer, &mut variables, &tracked, state)?;
        assign::values(&mut variables, values)?;
        let restarted = assign::restart_copies(optimizer, &mut variables, outdated)?;
        Ok(Loaded { iterations: optimizer.iterations(), restarted, ..loaded })
    }

    /// All errors occur here; nothing is written.
    fn prepare<R: UpdateRule<T>, T: Element>(
        self,
        checkpoint: &Checkpoint,
        optimizer: &Optimizer<R, T>,
        variables: &[Variable<'_, T>],
    ) -> Result<Prepared<T>, Error> {
        if checkpoint.contents() != Contents::Raw {
            let (found, expected) = (checkpoint.contents(), Contents::Raw);
            return Err(Error::Contents { path: checkpoint.path().to_owned(), found, expected });
        }
        let (ranks, partial) = (optimizer.distribution(), self.names.are_partial());
        let compares = !self.any_configuration && !partial;
        let mut selection = Selection::new(checkpoint, &self.names);
        let tracked = selection.tracked(optimizer, variables, partial)?;
        let micro_step = match optimizer.accumulation() {
            None => 0,
            Some(_) if partial => optimizer.micro_step(),
            Some(_) => checkpoint.micro_step()?,
        };
        if ranks.is_some() && micro_step > 0 && !partial {
            return Err(Error::BetweenMicroSteps { micro_step });
        }
        let state = compare::state(optimizer, &tracked, micro_step > 0);
        selection.compare(compare::values(variables, ranks)?.into_iter().chain(state));
        let configuration_compared =
            compares && compare::configurations(checkpoint, optimizer, &mut selection.mismatches)?;
        if partial && !self.any_configuration && selection.loads_slots_of_rule(variables.len()) {
            compare::meanings(checkpoint, optimizer, &mut selection.mismatches)?;
        }
        let values = stage::read(checkpoint, &mut selection, ranks, self.observer)?;
        selection.finish(checkpoint)?;
        let extra = checkpoint.extra().clone();
        let (loaded, kept) = selection.into_names();
        if loaded.is_empty() && self.names.are_partial() {
            return Err(Error::NothingSelected { path: checkpoint.path().to_owned() });
        }
        let loaded = Loaded { iterations: 0, loaded, kept, restarted: Vec::new(), configuration_compared, extra };
        Ok(Prepared { tracked, values, partial, loaded })
    }

    /// Loads only variables, of any [`Contents`].
    ///
    /// An optimizer that has slots of these variables already does not know of the new values: averages, masters and
    /// Lookahead's slow weights are still copies of the old ones. [`Optimizer::reset`] starts them anew.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_variables<T: Element, P: Parameters<T> + ?Sized>(
        self,
        checkpoint: &Checkpoint,
        model: &mut P,
    ) -> Result<Loaded, Error> {
        let mut variables = model.variables();
        let (values, loaded) = self.prepare_variables(checkpoint, None, &variables)?;
        assign::values(&mut variables, values)?;
        Ok(loaded)
    }

    /// As [`load_variables`](Self::load_variables), for variables on several ranks. All ranks call it.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load): on all ranks.
    pub fn load_variables_on<T: Element, P: Parameters<T> + ?Sized>(
        self,
        ranks: &dyn Distribution,
        checkpoint: &Checkpoint,
        model: &mut P,
    ) -> Result<Loaded, Error> {
        let mut variables = model.variables();
        let prepared = self.prepare_variables(checkpoint, Some(ranks), &variables);
        let identity = |_: &(Staged<T>, Loaded)| checkpoint.identity();
        let (values, loaded) = ranks::same(ranks.world(), "the checkpoint", prepared, identity)?;
        assign::values(&mut variables, values)?;
        Ok(loaded)
    }

    fn prepare_variables<T: Element>(
        self,
        checkpoint: &Checkpoint,
        ranks: Option<&dyn Distribution>,
        variables: &[Variable<'_, T>],
    ) -> Result<(Staged<T>, Loaded), Error> {
        let mut selection = Selection::new(checkpoint, &self.names);
        selection.variables_only(checkpoint);
        selection.compare(compare::values(variables, ranks)?);
        let staged = stage::read(checkpoint, &mut selection, ranks, self.observer)?;
        selection.finish(checkpoint)?;
        let (iterations, extra) = (checkpoint.iterations()?, checkpoint.extra().clone());
        let (loaded, kept) = selection.into_names();
        if loaded.is_empty() && self.names.are_partial() {
            return Err(Error::NothingSelected { path: checkpoint.path().to_owned() });
        }
        Ok((staged, Loaded { iterations, loaded, kept, restarted: Vec::new(), configuration_compared: false, extra }))
    }
}

/// The numbers to assign.
struct Prepared<T> {
    tracked: Vec<Tracked>,
    /// The variables, and the state behind them.
    values: Staged<T>,
    partial: bool,
    /// Without the number of steps.
    loaded: Loaded,
}

impl Checkpoint {
    /// Loads variables and all state, with the default options: see [`LoadOptions::load`].
    ///
    /// # Errors
    ///
    /// As [`LoadOptions::load`].
    pub fn load<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        model: &mut P,
    ) -> Result<Loaded, Error> {
        LoadOptions::new().load(self, optimizer, model)
    }

    /// Loads only variables, of any [`Contents`]: see [`LoadOptions::load_variables`].
    ///
    /// # Errors
    ///
    /// As [`LoadOptions::load_variables`].
    pub fn load_variables<T: Element, P: Parameters<T> + ?Sized>(&self, model: &mut P) -> Result<Loaded, Error> {
        LoadOptions::new().load_variables(self, model)
    }
}
