//! Trainings on a device go as on the CPU: the same bits, reports, errors and state. The device is one in the memory of
//! this process, which evaluates the recorded updates, and with the feature `wgpu` lavapipe, too.

mod golden;
mod halves;
#[cfg(feature = "wgpu")]
#[path = "../shared/lavapipe.rs"]
mod lavapipe;
#[path = "../../../../tests/third_party/lion.rs"]
mod lion;
mod pair;
mod promises;
mod reference;
mod steps;

/// Runs tests with each of some types on the reference, and with each of others on lavapipe.
macro_rules! on_devices {
    (with $on_reference:tt, on lavapipe $on_lavapipe:tt: $($name:ident),+ $(,)?) => {
        mod reference {
            $(#[test]
            fn $name() {
                let device = crate::reference::Reference::default();
                crate::on_devices!(@each $name, device, $on_reference);
            })+
        }

        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test]
            fn $name() {
                if let Some(device) = crate::lavapipe::lavapipe() {
                    crate::on_devices!(@each $name, device, $on_lavapipe);
                }
            })+
        }
    };
    (@each $name:ident, $device:ident, [$($of:ty),+]) => {
        $(super::$name::<_, $of>(&$device);)+
    };
}
use on_devices;
