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
    /// The device failed. If it failed during an update, later calls are refused with
    /// [`Poisoned`](opt_core::Error::Poisoned).
    #[error(transparent)]
    Device(#[from] DeviceError),
}
