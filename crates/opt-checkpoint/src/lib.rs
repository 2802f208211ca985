#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod atomic;
mod checkpoint;
mod checksum;
mod directory;
mod element;
mod error;
mod format;
pub mod import;
mod load;
mod progress;
mod ranks;
mod region;
mod save;
mod source;
mod tensors;

pub use checkpoint::Checkpoint;
pub use checksum::{Checksum, NotAChecksum};
pub use directory::{CheckpointDir, Latest, Resumed, Stored};
pub use element::Element;
pub use error::{Action, Damage, Error, Mismatch, Rejected};
pub use format::{Contents, FORMAT, PieceSummary, TensorSummary};
pub use load::{LoadOptions, Loaded};
pub use progress::Progress;
pub use save::{SaveOptions, Saved, save};
