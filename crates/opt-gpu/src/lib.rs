//! Optimizers whose variables and state are in the memory of a GPU.
//!
//! A step is one fused kernel: the update that [`opt_core::Optimizer::record`] records, with everything around the
//! rule, printed in the language of the device. There is no second copy of a formula, and a rule of your own needs no
//! line for it.
//!
//! | feature | device | element types |
//! |---|---|---|
//! | `cuda` | GPUs of NVIDIA; the driver and NVRTC are loaded at run time | `f32`, `f64` |
//! | `wgpu` | Vulkan, Metal, DirectX 12 | `f32` |
//!
//! Without these features, the crate has only the trait [`Device`], for a device of your own.

mod arrays;
pub mod device;
mod error;
mod optimizer;
mod variable;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub use device::{Device, DeviceError};
pub use error::Error;
pub use optimizer::{BuildOn, GpuOptimizer};
pub use variable::GpuVariable;
#[cfg(feature = "wgpu")]
pub use wgpu::WgpuDevice;
