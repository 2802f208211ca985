//! Imports of state that other systems have saved.
//!
//! * [`KerasWeights`]: the lists of `get_weights()` of Keras and TensorFlow Addons, as `numpy.savez` writes them.
//! * [`TorchState`]: `state_dict`s of PyTorch and timm, as safetensors.
//!
//! Both are loaded into an optimizer of the same rule and dialect, and are checked as a whole before anything is
//! assigned. Runs recorded from those systems resume here with the same numbers, within the tolerance of the recorded
//! runs.

mod foreign;
#[cfg(feature = "npz")]
mod keras;
#[cfg(feature = "npz")]
mod npz;
mod torch;

#[cfg(feature = "npz")]
pub use keras::KerasWeights;
pub use torch::TorchState;
