//! Imports of state that other systems have saved.
//!
//! * [`KerasWeights`]: arrays of Keras and TensorFlow Addons, by name or as the lists of `get_weights()`, as
//!   `numpy.savez` writes them.
//! * [`TorchState`]: `state_dict`s of PyTorch and timm, as safetensors.
//! * [`FileKind`]: what a file is, and how its contents come here.
//!
//! Both are loaded into an optimizer of the same rule and dialect, and are checked as a whole before anything is
//! assigned: what is missing, what nobody asked for, and what has another shape or type are errors, unless
//! [`ImportOptions`] allow them. Runs recorded from those systems resume here with the same numbers, within the
//! tolerance of the recorded runs.

mod assemble;
mod foreign;
mod keras;
mod kind;
#[cfg(feature = "npz")]
mod npz;
mod options;
mod source;
mod torch;

pub use foreign::ArraySummary;
pub use keras::KerasWeights;
pub use kind::FileKind;
pub use options::{ImportOptions, Imported};
pub use torch::TorchState;
