//! Errors, with the names they are about.

use candle_core::{DType, DeviceLocation};

/// The reason why a call was refused. Unless a variant says otherwise, variables and state are unchanged.
///
/// Functions that return `candle_core::Result` can use `?` on it: it is then [wrapped](candle_core::Error::wrap).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused the call.
    #[error(transparent)]
    Engine(#[from] opt_core::Error),

    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] opt_checkpoint::Error),

    /// An operation of candle failed. If it copied a variable to another device during a step, the step is half
    /// applied, and later ones are refused with [`opt_core::Error::Poisoned`].
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// The map of variables is empty.
    #[error("the map has no variables: make the model before its optimizer")]
    NoVariables,

    /// The map of variables has got a new one since the optimizer was made.
    #[error("variable {variable:?} came into the map after the optimizer, and is not trained: make the optimizer last")]
    NewVariable {
        /// The name of the variable.
        variable: String,
    },

    /// A checkpoint of an optimizer that was made by `candle_nn::Optimizer::new`: the order of `VarMap::all_vars` is
    /// another one in each process, so that variables would get the numbers of others.
    #[error("the variables have no names, so a checkpoint could mix them up: use CandleOptimizer::from_varmap")]
    Numbered,

    /// One variable has two names, or is listed twice.
    #[error("{first:?} and {second:?} are the same variable: list it once")]
    SameVariable {
        /// The name that comes first.
        first: String,
        /// The other name.
        second: String,
    },

    /// A variable has an element type that the optimizer cannot train.
    #[error("variable {variable:?} is in {found:?}: an optimizer in {engine:?} trains {trained:?}")]
    VariableType {
        /// The name of the variable.
        variable: String,
        /// Its element type.
        found: DType,
        /// The element type of the optimizer.
        engine: opt_core::state::DType,
        /// The element types of variables that it trains.
        trained: &'static [DType],
    },

    /// A variable is not on the CPU.
    #[error(
        "variable {variable:?} is on {device:?}, and the optimizer computes on the CPU: CandleBuilder::offload copies \
         gradients and variables at every step"
    )]
    VariableDevice {
        /// The name of the variable.
        variable: String,
        /// Its device.
        device: DeviceLocation,
    },

    /// The numbers of a variable have gaps or another order in memory. (No function of candle makes such a variable.)
    #[error("variable {variable:?} is not contiguous")]
    NotContiguous {
        /// The name of the variable.
        variable: String,
    },

    /// A gradient has an element type that the optimizer cannot use.
    #[error("variable {variable:?} has a gradient in {found:?}: an optimizer in {engine:?} takes {taken:?}")]
    GradientType {
        /// The name of the variable.
        variable: String,
        /// The element type of the gradient.
        found: DType,
        /// The element type of the optimizer.
        engine: opt_core::state::DType,
        /// The element types of gradients that it takes.
        taken: &'static [DType],
    },

    /// The gradient of a variable on the CPU is on another device.
    #[error("the gradient of variable {variable:?} is on {device:?}, the variable on the CPU")]
    GradientDevice {
        /// The name of the variable.
        variable: String,
        /// The device of the gradient.
        device: DeviceLocation,
    },
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => Self::wrap(other),
        }
    }
}
