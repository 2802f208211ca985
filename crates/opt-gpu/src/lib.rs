//! Optimizers whose variables and state are in the memory of a GPU.
//!
//! A step is one fused kernel: the update that [`opt_core::Optimizer::record`] records, with everything around the
//! rule, printed in the language of the device. There is no second copy of a formula, and a rule of your own needs no
//! line for it.
//!
//! | feature | device | computes in |
//! |---|---|---|
//! | `cuda` | GPUs of NVIDIA; the driver and NVRTC are loaded at run time | `f32`, `f64` |
//! | `wgpu` | Vulkan, Metal, DirectX 12 | `f32` |
//!
//! Moments, variables and gradients may be stored in 16 bits beside arithmetic in `f32`.
//!
//! Without these features, the crate has only the trait [`Device`], for a device of your own.
//!
//! # Examples
//!
//! ```
//! # #[cfg(feature = "wgpu")] {
//! use opt_gpu::{BuildOn, Device, DeviceError, GpuVariable, WgpuDevice};
//! use optimizers::{Nadam, Optimizer};
//!
//! let device = match WgpuDevice::new() {
//!     Err(missing @ DeviceError::Missing { .. }) => return Ok(println!("{missing}")),
//!     device => device?,
//! };
//! let mut opt = Optimizer::builder(Nadam::new(0.002)).weight_decay(0.01).build_on(&device)?;
//! let w = device.upload(&[1.0_f32; 6])?;
//! let g = device.upload(&[0.5_f32; 6])?; // usually the result of a kernel of yours
//! let report = opt.apply_gradients([GpuVariable::new("w", &w).shape([2, 3].as_slice()).gradient(&g)])?;
//! assert!(report.is_applied());
//! assert!(device.download::<f32>(&w, 0)?[0] < 1.0);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arrays;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
mod error;
mod numbers;
mod optimizer;
mod variable;
#[cfg(feature = "wgpu")]
pub mod wgpu;

#[cfg(feature = "cuda")]
pub use cuda::CudaDevice;
pub use device::{Device, DeviceError};
pub use error::Error;
pub use optimizer::{BuildOn, GpuOptimizer};
pub use variable::GpuVariable;
#[cfg(feature = "wgpu")]
pub use wgpu::WgpuDevice;
