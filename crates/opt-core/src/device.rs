//! Optimizers whose arrays are on a device: for authors of runtimes, such as the crate `opt-gpu`.
//!
//! [`HostSide`] is an optimizer without arrays. It does everything that does not look at elements: it checks, counts,
//! evaluates schedules, decides about clips and about gradients that are not finite, and records the update of each
//! variable. A [`Backend`] keeps the arrays and does what it is told: measure these gradients, run these updates. So
//! there is no second copy of the order of a step.

pub use crate::optimizer::device::{
    Backend, DeviceGradient, DeviceUpdate, Elements, HostSide, Initial, Measurement, NewArray, NewState, Question,
    Source, Stored, Total,
};
