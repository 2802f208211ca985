//! What a checkpoint says besides its numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Contents, FORMAT};
use crate::checksum::Checksum;
use crate::error::Damage;

/// The JSON in the metadata. The fields are in the order of the alphabet, and the first one has to stay the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Of everything before the data.
    pub(crate) checksum: Checksum,
    /// Keras's JSON; none if a schedule holds code.
    pub(crate) config: Option<Value>,
    pub(crate) contents: Contents,
    /// Whatever the training wants to keep.
    pub(crate) extra: Value,
    pub(crate) format: u64,
    /// For each sharded tensor, and each of its axes, the dimension of the mesh that shards it. A tensor that is not
    /// here is whole.
    pub(crate) layouts: BTreeMap<String, Vec<Option<String>>>,
    /// By name.
    pub(crate) tensors: BTreeMap<String, Checksum>,
    /// The variables that have slots, in the order in which the optimizer got to know them.
    pub(crate) tracked: Vec<String>,
    /// All variables, in the order in which they were given.
    pub(crate) variables: Vec<String>,
}

impl Manifest {
    pub(crate) fn parse(text: &str) -> Result<Self, Damage> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let invalid = |error: serde_json::Error| Damage::Header { problem: format!("manifest: {error}") };
        let Version { format } = serde_json::from_str(text).map_err(invalid)?;
        if format > FORMAT {
            return Err(Damage::Version { found: format, supported: FORMAT });
        }
        serde_json::from_str(text).map_err(invalid)
    }
}
