//! The device of wgpu: on lavapipe, kernels have the engine's bits.
#![cfg(feature = "wgpu")]

mod chunks;
#[path = "../shared/lavapipe.rs"]
mod lavapipe;
mod measure;
mod memory;
mod recorded;
mod trial;

use lavapipe::lavapipe as device;
