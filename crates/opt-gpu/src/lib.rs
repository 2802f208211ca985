//! Optimizers whose variables and state are in the memory of a GPU.
//!
//! A step is one fused kernel: the update that [`opt_core::Optimizer::record`] records, with everything around the
//! rule, printed in the language of the device. There is no second copy of a formula.

pub mod device;

pub use device::{Device, DeviceError};
