//! The file: safetensors with a manifest in its metadata.
//!
//! ```text
//! 8 bytes     length of the header, little-endian
//! header      JSON: {"__metadata__": {"opt-checkpoint": MANIFEST}, NAME: {dtype, shape, data_offsets}, ...}, blanks
//! data        the tensors one after the other, those with the widest elements first, then by name
//! ```
//!
//! MANIFEST is JSON as a string. Its first field is the checksum of everything before the data, including the length,
//! with these sixteen digits as zeros. It is at the same position in every file, so that it can be checked before
//! anything is parsed. The manifest has a checksum of each tensor. So every byte of the file has a checksum.

mod header;
mod manifest;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

pub(crate) use header::{Header, Layout, STARTS_LIKE_OURS};
pub(crate) use manifest::{Lies, Manifest, Shard, Sharded, Whole};
#[cfg(doc)]
use opt_core::Variable;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;

/// The version of the format that is written. Earlier versions can be read.
pub const FORMAT: u64 = 1;

/// The file that commits a folder of shards.
pub(crate) const MANIFEST: &str = "manifest.safetensors";

/// The kind of weights that a checkpoint holds under the names of the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Contents {
    /// The variables themselves, with all state: a training can resume from here.
    #[default]
    Raw,
    /// The exponential moving averages, without state: for evaluation. In the element type of the optimizer: those of
    /// [variables in 16 bits](Variable::half) are loaded into variables of 32.
    Averaged,
    /// Lookahead's slow weights, without state: for evaluation. In the element type of the optimizer, too.
    Slow,
}

impl Contents {
    /// The slot with these weights.
    pub(crate) fn slot(self) -> Option<&'static str> {
        match self {
            Self::Raw => None,
            Self::Averaged => Some(opt_core::Ema::SLOT),
            Self::Slow => Some("slow"),
        }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Averaged => "averaged",
            Self::Slow => "slow",
        })
    }
}

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// The position in the file.
    pub(crate) bytes: Range<u64>,
    pub(crate) checksum: Checksum,
}

/// The entry of a tensor in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorSummary {
    /// The variable, or the entry of the state.
    pub name: String,
    /// The element type, as safetensors calls it: `F32`.
    pub dtype: String,
    /// The shape; empty for a number.
    pub shape: Vec<usize>,
    /// Its parts: one, unless it is sharded.
    pub pieces: Vec<PieceSummary>,
}

/// The position of a part of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PieceSummary {
    /// The file.
    pub path: PathBuf,
    /// The position of its numbers in the file.
    pub bytes: Range<u64>,
    /// The checksum of these bytes.
    pub checksum: Checksum,
    /// Its position in the tensor.
    pub offset: Vec<usize>,
    /// Its shape.
    pub shape: Vec<usize>,
}
