//! The errors of the engine, with the numbers that they are about.

use crate::collective::CollectiveError;
use crate::config::{ConfigError, HyperparameterError};
use crate::real::DType;
use crate::trace::Untraceable;

/// The reason why the engine refused a call. Unless a variant says otherwise, variables, slots and `iterations` are
/// unchanged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A hyperparameter is out of range.
    #[error(transparent)]
    Hyperparameter(#[from] HyperparameterError),

    /// A configuration could not be read or written.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The ranks that work on the variables could not complete the call together. All of them get an error.
    ///
    /// If the error came while ranks exchanged updated values, the step is half applied, and later steps are refused
    /// with [`Error::Poisoned`].
    #[error(transparent)]
    Collective(#[from] CollectiveError),

    /// Two options exclude each other.
    #[error("{first} and {second} exclude each other: set one of them")]
    Conflict {
        /// The first option.
        first: &'static str,
        /// The second option.
        second: &'static str,
    },

    /// Variables are excluded from a weight decay that the optimizer does not have.
    #[error(
        "variables are excluded from weight decay, but the optimizer has no weight_decay (that of a rule has no exclusions)"
    )]
    NothingToExcludeFrom,

    /// A variable is excluded from weight decay by its name, but there is no variable of that name at the first step.
    #[error(
        "variable {name:?} is excluded from weight decay, but the first step has no such variable: correct the name, or announce later variables by add_variables"
    )]
    UnknownExclusion {
        /// The name.
        name: String,
    },

    /// An option of a group is wrong.
    #[error("group {group:?}: {error}")]
    Group {
        /// The name of the group.
        group: String,
        /// The error of the option.
        error: Box<Self>,
    },

    /// A group says nothing that the default group does not say.
    #[error("group {group:?} changes nothing: give it a learning rate, a weight decay or another option")]
    GroupWithoutEffect {
        /// The name of the group.
        group: String,
    },

    /// Two groups have the same name; `default` is the group of all other variables.
    #[error("there are two groups called {group:?}: rename one by named(...)")]
    DuplicateGroup {
        /// The name.
        group: String,
    },

    /// A group has no variable at the first step.
    #[error(
        "group {group:?} has no variable at the first step: it matches none, or earlier groups have those that it \
         matches; correct it, or announce later variables by add_variables"
    )]
    EmptyGroup {
        /// The name of the group.
        group: String,
    },

    /// There is no group of that name.
    #[error("unknown group {group:?}, there are {known:?}")]
    UnknownGroup {
        /// The name asked for.
        group: String,
        /// The groups that exist.
        known: Vec<String>,
    },

    /// A checkpoint could not hold a variable of this name.
    #[error("the name {name:?} is taken in checkpoints by {owner}: rename the variable")]
    NameTaken {
        /// The name of a variable.
        name: String,
        /// The entry of the state that has the same name.
        owner: String,
    },

    /// The engine cannot hold the slots of a rule.
    #[error("rule {rule}: {problem}")]
    Slots {
        /// The class name of the rule.
        rule: String,
        /// The problem with its slots.
        problem: String,
    },

    /// Every variable was given without a gradient.
    #[error("no gradients provided for any of {variables} variables")]
    NoGradients {
        /// The number of variables.
        variables: usize,
    },

    /// All variables of one call belong to frozen groups.
    #[error("all of the {variables} variables are frozen by their groups")]
    AllFrozen {
        /// The number of variables.
        variables: usize,
    },

    /// A variable has accumulated gradients, and the call that applies them does not have it.
    #[error(
        "variable {variable:?} has accumulated gradients, but the call that applies them does not have it: add it to the list, \
         or call discard_accumulated"
    )]
    AccumulatedVariable {
        /// The name of the variable.
        variable: String,
    },

    /// Two variables of one call have the same name.
    #[error("variable {name:?} is given twice")]
    DuplicateVariable {
        /// The name.
        name: String,
    },

    /// A model gives a sparse gradient where its variables are read.
    #[error("variable {name:?} is a sparse gradient, not an array")]
    SparseVariable {
        /// The name.
        name: String,
    },

    /// The data of a variable does not fill its shape.
    #[error("variable {variable:?}: {elements} elements do not fill shape {shape:?}")]
    VariableData {
        /// The name of the variable.
        variable: String,
        /// The number of elements.
        elements: usize,
        /// The shape that was given with the data.
        shape: Vec<usize>,
    },

    /// A known variable was given with another shape.
    #[error("variable {variable:?} has shape {found:?}, its slots were made for {expected:?}")]
    VariableShape {
        /// The name of the variable.
        variable: String,
        /// The shape it had when its slots were made.
        expected: Vec<usize>,
        /// The shape it has now.
        found: Vec<usize>,
    },

    /// A known variable was given in another element type.
    #[error("variable {variable:?} is in {found:?}, its slots were made for {expected:?}")]
    VariableType {
        /// The name of the variable.
        variable: String,
        /// The element type it had when its slots were made.
        expected: DType,
        /// The element type it has now.
        found: DType,
    },

    /// A gradient has another shape than its variable.
    #[error("variable {variable:?}: gradient has shape {gradient:?}, variable has {shape:?}")]
    GradientShape {
        /// The name of the variable.
        variable: String,
        /// The shape of the gradient.
        gradient: Vec<usize>,
        /// The shape of the variable.
        shape: Vec<usize>,
    },

    /// The data of a gradient does not fill its shape.
    #[error("variable {variable:?}: {elements} gradient elements do not fill shape {shape:?}")]
    GradientData {
        /// The name of the variable.
        variable: String,
        /// The number of elements.
        elements: usize,
        /// The shape that was given with the data.
        shape: Vec<usize>,
    },

    /// The values of a sparse gradient do not match its indices or its variable.
    #[error(
        "variable {variable:?}: sparse gradient has {indices} indices and values of shape {values:?}, expected {expected:?}"
    )]
    SparseShape {
        /// The name of the variable.
        variable: String,
        /// The number of indices.
        indices: usize,
        /// The shape of the values.
        values: Vec<usize>,
        /// The shape that the values should have.
        expected: Vec<usize>,
    },

    /// A variable without axes was given a sparse gradient.
    #[error("variable {variable:?}: a 0-dimensional variable has no rows for a sparse gradient")]
    SparseScalar {
        /// The name of the variable.
        variable: String,
    },

    /// A row index is outside the variable.
    #[error("variable {variable:?}: index {index} at position {position} is outside 0..{rows}")]
    IndexOutOfRange {
        /// The name of the variable.
        variable: String,
        /// The position in the list of indices.
        position: usize,
        /// The index.
        index: i128,
        /// The number of rows of the variable.
        rows: usize,
    },

    /// A gradient belongs to no variable of the model.
    #[error("gradient {name:?} belongs to no variable of the model")]
    UnknownGradient {
        /// The name of the gradient.
        name: String,
    },

    /// Two gradients of one call have the same name.
    #[error("gradient {name:?} is given twice")]
    DuplicateGradient {
        /// The name.
        name: String,
    },

    /// A gradient is NaN or infinite under [`NonFinite::Error`](crate::NonFinite::Error).
    #[error("variable {variable:?}: gradient is {value} at index {index:?}")]
    NonFiniteGradient {
        /// The name of the variable.
        variable: String,
        /// The index in the gradient; for a sparse gradient, the index in its values.
        index: Vec<usize>,
        /// The value at this index.
        value: f64,
    },

    /// A gradient is finite, but its square is too large for the second moment of the rule, under
    /// [`NonFinite::Error`](crate::NonFinite::Error).
    #[error("variable {variable:?}: gradient is {value} at index {index:?}, too large to be squared")]
    GradientOverflow {
        /// The name of the variable.
        variable: String,
        /// The index in the gradient; for a sparse gradient, the index in its values.
        index: Vec<usize>,
        /// The value at this index.
        value: f64,
    },

    /// All gradients are finite, but their norm is too large for 64 bits, under
    /// [`NonFinite::Error`](crate::NonFinite::Error).
    #[error("the norm of the gradients is not finite, though each of them is")]
    NormOverflow,

    /// The optimizer does not know this variable.
    #[error("unknown variable {name:?}")]
    UnknownVariable {
        /// The name asked for.
        name: String,
    },

    /// Moments can be stored in fewer bits only if the variables have 32 bits.
    #[error("moments in 16 or 8 bits need variables of 32 bits, not {dtype:?}")]
    MomentStorage {
        /// The element type of the variables.
        dtype: DType,
    },

    /// Only optimizers in 32 bits have variables in 16 bits, whose masters can be stored in fewer bits.
    #[error(
        "masters in 24 or 16 bits are those of variables in 16 bits, which an optimizer in {dtype:?} does not have"
    )]
    Master {
        /// The element type of the optimizer.
        dtype: DType,
    },

    /// There is no slot of that name.
    #[error("unknown slot {slot:?}, there are {known:?}")]
    UnknownSlot {
        /// The name asked for.
        slot: String,
        /// The slots that exist.
        known: Vec<String>,
    },

    /// A schedule was set after the first step, and does not say where it starts.
    #[error(
        "{schedule} counts steps from the start of the run, of which {iterations} are over: \
         say StartingAt::new(schedule, {iterations}) for now, or with 0"
    )]
    ScheduleStart {
        /// The class name of the schedule.
        schedule: String,
        /// The number of steps that have been applied.
        iterations: u64,
    },

    /// A number was assigned to a learning rate that follows a schedule.
    #[error("the learning rate follows the schedule {schedule}: assign another schedule, not a number")]
    LearningRateScheduled {
        /// The class name of the schedule.
        schedule: String,
    },

    /// An option can no longer be changed.
    #[error("{option} can only be changed before the first step")]
    AlreadyStepped {
        /// The option.
        option: &'static str,
    },

    /// A list of weights has the wrong length.
    #[error("expected {expected} weights, got {found}")]
    WeightCount {
        /// The number of weights that the optimizer has.
        expected: usize,
        /// The number of weights that were given.
        found: usize,
    },

    /// A weight has the wrong kind or shape.
    #[error("weight {index} ({name}): expected {expected}, got {found}")]
    WeightMismatch {
        /// Its index in the list.
        index: usize,
        /// Its name.
        name: String,
        /// The kind and shape of the optimizer's weight.
        expected: String,
        /// The kind and shape that were given.
        found: String,
    },

    /// A weight has a number that cannot be state of its slot.
    #[error("weight {index} ({name}): expected {expected}, got {found}")]
    WeightRange {
        /// Its index in the list.
        index: usize,
        /// Its name.
        name: String,
        /// The numbers that the slot may have.
        expected: String,
        /// The first number that it cannot have.
        found: f64,
    },

    /// Averages were asked for, but the optimizer keeps none.
    #[error("the optimizer keeps no averages: build it with .ema(...)")]
    NoAverages,

    /// A step, while the variables hold a slot instead of their values.
    #[error("slot {slot:?} is swapped into the variables: swap back before going on")]
    SwappedIn {
        /// The slot.
        slot: String,
    },

    /// A slot is swapped into some variables, and others were given to swap back.
    #[error("slot {slot:?} is swapped into other variables than these: swap back with the same list")]
    OtherSwapped {
        /// The slot.
        slot: String,
    },

    /// A step in phases on several ranks, which exchange whole variables.
    #[error("a step in phases runs on one rank: on several ranks, use apply_gradients")]
    PhasesOnRanks,

    /// A step in phases was finished before all variables were lent.
    #[error("variable {variable:?} was not lent to the step: update it before finish")]
    NotLent {
        /// The name of the variable.
        variable: String,
    },

    /// A variable was lent to a step in phases that was not described.
    #[error("position {position} is not in the list of {variables} variables with which the step began")]
    NotDescribed {
        /// The position.
        position: usize,
        /// The number of variables in the list.
        variables: usize,
    },

    /// An earlier step was interrupted halfway: a rule panicked, a step in phases was dropped, or a rank was lost.
    /// Restore the last checkpoint.
    ///
    /// Variables and slots are partly updated.
    #[error("an earlier step broke off half applied: restore a checkpoint")]
    Poisoned,

    /// The step of a variable cannot be recorded: see [`trace`](crate::trace).
    #[error("variable {variable:?}: the step of rule {rule:?} cannot be recorded: {reason}")]
    Untraceable {
        /// The name of the variable.
        variable: String,
        /// The class name of the rule.
        rule: String,
        /// The reason.
        reason: Untraceable,
    },

    /// Something is possible only where the arrays are in the memory of this process.
    #[error("variable {variable:?}: {what} is not possible on a device")]
    OnDevice {
        /// The name of the variable.
        variable: String,
        /// What is not possible.
        what: String,
    },

    /// Threads could not be started.
    #[error("could not start {threads} threads: {reason}")]
    Threads {
        /// The number of threads that were asked for.
        threads: usize,
        /// The message of the operating system.
        reason: String,
    },
}

impl Error {
    /// The error of an option of a group.
    pub(crate) fn in_group(group: &str, error: Self) -> Self {
        Self::Group { group: group.to_owned(), error: Box::new(error) }
    }
}
