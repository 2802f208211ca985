//! Errors of wgpu as errors of devices.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::wgpu::{ErrorFilter, PollType};
use pollster::block_on;

use super::WgpuDevice;
use crate::device::DeviceError;

/// An error with the message of another one.
pub(super) fn failed(action: &'static str, message: impl Display) -> DeviceError {
    DeviceError::Failed { action, message: message.to_string() }
}

impl WgpuDevice {
    /// Does something, and fails if wgpu reports an error meanwhile. Without the scopes it would panic.
    pub(super) fn guarded<V>(&self, action: &'static str, work: impl FnOnce() -> V) -> Result<V, DeviceError> {
        let filters = [ErrorFilter::OutOfMemory, ErrorFilter::Validation, ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device().push_error_scope(filter));
        let result = work();
        let error = scopes.into_iter().rev().fold(None, |error, scope| {
            let next = block_on(scope.pop());
            error.or(next)
        });
        match (error, self.handles.lost.get()) {
            (None, None) => Ok(result),
            (Some(error), _) => Err(failed(action, error)),
            (None, Some(reason)) => Err(failed(action, format_args!("it was lost: {reason}"))),
        }
    }

    /// Waits until everything that was submitted is done.
    pub(super) fn wait(&self, action: &'static str) -> Result<(), DeviceError> {
        // wgpu panics if the driver says that the device was lost.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device().poll(PollType::wait_indefinitely())));
        match polled {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(action, error)),
            Err(_) => Err(failed(action, "it was lost")),
        }
    }
}
