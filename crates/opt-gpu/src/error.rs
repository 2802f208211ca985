//! The errors of optimizers on devices.

use crate::device::DeviceError;

/// The reason why a call failed. Unless the device failed during an update, variables, state and step counter are
/// unchanged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused the call.
    #[error(transparent)]
    Optimizer(#[from] opt_core::Error),
    /// The memory of a variable is also that of another variable, or of a gradient.
    #[error("the buffer of variable {variable:?} is also that of {other}")]
    SharedBuffer {
        /// The name of the variable.
        variable: String,
        /// What else it is: another variable, or a gradient.
        other: String,
    },
    /// The device failed. If it failed during an update, later calls are refused with
    /// [`Poisoned`](opt_core::Error::Poisoned).
    #[error(transparent)]
    Device(#[from] DeviceError),
}
