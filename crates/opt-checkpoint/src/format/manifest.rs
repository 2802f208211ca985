//! The manifest: everything in a checkpoint besides its numbers.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Contents, FORMAT};
use crate::atomic::TEMPORARY;
use crate::checksum::Checksum;
use crate::error::Damage;
use crate::region::Region;

/// The JSON in the metadata. The fields are in alphabetical order, and the first one must stay the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The checksum of everything before the data.
    pub(crate) checksum: Checksum,
    /// Keras's JSON; none if a schedule holds code.
    pub(crate) config: Option<Value>,
    pub(crate) contents: Contents,
    /// Further data of the training.
    pub(crate) extra: Value,
    pub(crate) format: u64,
    /// In a shard: the position of each of its tensors in the whole tensor.
    pub(crate) layouts: BTreeMap<String, Lies>,
    /// In the file that commits a sharded checkpoint: its shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sharded: Option<Sharded>,
    /// By name.
    pub(crate) tensors: BTreeMap<String, Checksum>,
    /// The variables that have slots, in the order in which the optimizer first saw them.
    pub(crate) tracked: Vec<String>,
    /// All variables, in the order in which they were given.
    pub(crate) variables: Vec<String>,
}

/// The position of a tensor of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lies {
    pub(crate) offset: Vec<usize>,
    /// The shape of the whole tensor.
    pub(crate) whole: Vec<usize>,
}

/// The tensors of a sharded checkpoint, and the files with their parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sharded {
    /// The number of ranks that saved.
    pub(crate) ranks: usize,
    /// The shards of the ranks that own data.
    pub(crate) shards: Vec<Shard>,
    /// The whole tensors. A tensor without elements is in no shard.
    pub(crate) tensors: BTreeMap<String, Whole>,
}

/// The file of one rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shard {
    /// Its length.
    pub(crate) bytes: u64,
    /// The checksum of everything before its data, including the checksums of its tensors.
    pub(crate) checksum: Checksum,
    /// The parts in it.
    pub(crate) parts: BTreeMap<String, Region>,
    pub(crate) rank: usize,
}

/// A tensor whose parts are in shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whole {
    pub(crate) dtype: Dtype,
    /// Its layout over the ranks, in words.
    pub(crate) layout: String,
    pub(crate) shape: Vec<usize>,
}

impl Shard {
    const PREFIX: &str = "shard-";
    const SUFFIX: &str = ".safetensors";

    /// The name of its file. Other bytes give another name, so that a checkpoint can be replaced in the same place.
    pub(crate) fn file_name(&self) -> String {
        format!("{}{:05}-{}{}", Self::PREFIX, self.rank, self.checksum, Self::SUFFIX)
    }

    /// Whether a name is one that this function gives, or that of a temporary file for it.
    pub(crate) fn is_file_name(name: &str) -> bool {
        let whole = name.strip_prefix(Self::PREFIX).and_then(|rest| rest.strip_suffix(Self::SUFFIX));
        let half = name.strip_prefix('.').filter(|rest| rest.starts_with(Self::PREFIX) && rest.ends_with(TEMPORARY));
        whole.is_some() || half.is_some()
    }
}

impl Manifest {
    pub(crate) fn parse(text: &str) -> Result<Self, Damage> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let invalid = |error: serde_json::Error| Damage::Header { problem: format!("manifest: {error}") };
        // The manifest of a later version need not look like one of this version.
        let parsed: Result<Self, _> = serde_json::from_str(text);
        let format = match &parsed {
            Ok(manifest) => manifest.format,
            Err(_) => serde_json::from_str::<Version>(text).map_err(invalid)?.format,
        };
        if format > FORMAT {
            return Err(Damage::Version { found: format, supported: FORMAT });
        }
        parsed.map_err(invalid)
    }
}
