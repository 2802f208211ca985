//! Errors, and errors that give a module back.

use std::fmt::{self, Display, Formatter};

use burn_core::tensor::DType;

/// The reason why the adapter refused a call. Unless a variant says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused the call.
    #[error(transparent)]
    Engine(#[from] opt_core::Error),

    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] opt_checkpoint::Error),

    /// A parameter or its gradient is not on burn's CPU backend.
    #[error(
        "parameter {parameter:?} is on {device}, but the optimizer updates tensors on the CPU: \
         `BurnOptimizer::offload` lets it copy them there and back in each step"
    )]
    Device {
        /// The path of the parameter.
        parameter: String,
        /// The device, as burn prints it.
        device: String,
    },

    /// A parameter or its gradient has an element type that is not trained.
    #[error("parameter {parameter:?} has the element type {dtype:?}; F32, BF16 and F16 are trained")]
    ElementType {
        /// The path of the parameter.
        parameter: String,
        /// The element type.
        dtype: DType,
    },

    /// One parameter is in the module twice. burn has one gradient for both places, so that an update would make them
    /// different. Keep the parameter in one place, and use it twice in `forward`.
    #[error("{first:?} and {second:?} are the same parameter: keep it in one place, and use it twice in `forward`")]
    SharedParameter {
        /// Its first path.
        first: String,
        /// Its second path.
        second: String,
    },

    /// A parameter has the path of another one of earlier steps, whose state it would get.
    #[error(
        "parameter {parameter:?} is not the one of earlier steps: give each module an optimizer of its own, or call \
         `BurnOptimizer::follow` if it takes the place of the earlier one"
    )]
    AnotherParameter {
        /// The path.
        parameter: String,
    },

    /// A scheduler of burn gives this parameter a learning rate of its own. Groups of the optimizer do that here:
    /// [`Group::learning_rate`](opt_core::Group::learning_rate).
    #[error(
        "the scheduler gives parameter {parameter:?} the learning rate {rate:e} instead of {base:e}: \
         make a group with a rate of its own in the optimizer, or use the rule inside burn's `ModuleOptimizer`"
    )]
    GroupRate {
        /// The path of the parameter.
        parameter: String,
        /// Its learning rate.
        rate: f64,
        /// The learning rate of parameters without a group.
        base: f64,
    },

    /// The numbers of a tensor could not be read from its device.
    #[error("parameter {parameter:?} could not be read: {reason}")]
    Unreadable {
        /// The path of the parameter.
        parameter: String,
        /// The backend's reason.
        reason: String,
    },
}

/// An error, and the module that the refused call was given.
///
/// The module is unchanged, unless [`error`](Self::error) says that the step was interrupted.
pub struct Refused<M> {
    /// The module.
    pub module: M,
    /// The reason.
    pub error: Error,
}

impl<M> Refused<M> {
    pub(crate) fn new(module: M, error: impl Into<Error>) -> Self {
        Self { module, error: error.into() }
    }
}

/// Without the module, which would be pages of text.
impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<M> Display for Refused<M> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<M> std::error::Error for Refused<M> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Drops the module.
impl<M> From<Refused<M>> for Error {
    fn from(refused: Refused<M>) -> Self {
        refused.error
    }
}
