//! The device of wgpu. On Mesa's lavapipe, kernels have the engine's bits. Without an adapter these tests say so and
//! pass; they fail if the environment variable `OPT_GPU_REQUIRED` is set.
#![cfg(feature = "wgpu")]

mod chunks;
mod measure;
mod memory;
mod recorded;
mod trial;

use opt_gpu::WgpuDevice;

/// The device, if this machine has one.
fn device() -> Option<WgpuDevice> {
    match WgpuDevice::new() {
        Ok(device) => Some(device),
        Err(error) if std::env::var_os("OPT_GPU_REQUIRED").is_some() => panic!("{error}"),
        Err(error) => {
            println!("not tested: {error}");
            None
        }
    }
}
