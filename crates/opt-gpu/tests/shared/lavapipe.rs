//! The adapter whose results have the engine's bits: Mesa's lavapipe, which computes on the CPU.

use opt_gpu::WgpuDevice;
use pollster::block_on;
use wgpu::{Adapter, Backends, DeviceDescriptor, Instance, InstanceDescriptor};

/// The device, if this machine has it. Without it, tests say so and pass; they fail if the environment variable
/// `OPT_GPU_REQUIRED` is set. Drivers of GPUs may round in other ways: for them there is `cargo xtask gpu`.
pub(crate) fn lavapipe() -> Option<WgpuDevice> {
    let instance = Instance::new(InstanceDescriptor::new_without_display_handle());
    let is_lavapipe = |adapter: &Adapter| adapter.get_info().name.contains("llvmpipe");
    let Some(adapter) = block_on(instance.enumerate_adapters(Backends::VULKAN)).into_iter().find(is_lavapipe) else {
        let message = "not tested: lavapipe is not installed";
        assert!(std::env::var_os("OPT_GPU_REQUIRED").is_none(), "{message}");
        println!("{message}");
        return None;
    };
    let descriptor = DeviceDescriptor { required_limits: adapter.limits(), ..DeviceDescriptor::default() };
    let (device, queue) = block_on(adapter.request_device(&descriptor)).unwrap();
    Some(WgpuDevice::from_wgpu(device, queue))
}
