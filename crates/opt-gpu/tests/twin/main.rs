//! Trainings on a device go as on the CPU: the same bits, reports, errors and state. The device is one in the memory of
//! this process, which evaluates the recorded updates, and with the feature `wgpu` a graphics processor, too.

mod golden;
#[path = "../../../../tests/third_party/lion.rs"]
mod lion;
mod pair;
mod promises;
mod reference;
mod steps;

/// Runs tests on the reference, in both element types, and on wgpu.
macro_rules! on_devices {
    ($($name:ident),+ $(,)?) => {
        mod reference {
            $(#[test]
            fn $name() {
                let device = crate::reference::Reference::default();
                super::$name::<_, f32>(&device);
                super::$name::<_, f64>(&device);
            })+
        }

        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test]
            fn $name() {
                if let Some(device) = crate::wgpu() {
                    super::$name::<_, f32>(&device);
                }
            })+
        }
    };
}
use on_devices;

/// The graphics processor of this machine, if it has one. It must have one if `OPT_GPU_REQUIRED` is set.
#[cfg(feature = "wgpu")]
fn wgpu() -> Option<opt_gpu::WgpuDevice> {
    match opt_gpu::WgpuDevice::new() {
        Ok(device) => Some(device),
        Err(error) if std::env::var_os("OPT_GPU_REQUIRED").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("not tested: {error}");
            None
        }
    }
}
