//! Trainings on a device go as on the CPU: the same bits, reports, errors and state. The device is one in the memory of
//! this process, which evaluates the recorded updates, and with the feature `wgpu` lavapipe, too.

mod golden;
#[cfg(feature = "wgpu")]
#[path = "../shared/lavapipe.rs"]
mod lavapipe;
#[path = "../../../../tests/third_party/lion.rs"]
mod lion;
mod pair;
mod promises;
mod reference;
mod steps;

/// Runs tests on the reference, in both element types, and on lavapipe.
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
                if let Some(device) = crate::lavapipe::lavapipe() {
                    super::$name::<_, f32>(&device);
                }
            })+
        }
    };
}
use on_devices;
