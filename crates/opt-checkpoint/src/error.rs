//! Errors, with their numbers.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use opt_core::config::ConfigError;
use serde_json::Value;

use crate::checksum::Checksum;
use crate::format::Contents;

/// The reason why a checkpoint could not be saved or loaded. Optimizer and variables are unchanged; so is a file that
/// was to be replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// The operation.
        action: Action,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },

    /// The file is damaged, or not a checkpoint of this library.
    #[error("{path}: {damage}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        damage: Damage,
    },

    /// The file does not fit the model and optimizer, or its numbers are damaged. All differences are listed.
    #[error("{path}: {list}", path = path.display(), list = List(mismatches))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// All differences.
        mismatches: Vec<Mismatch>,
    },

    /// Files of a sharded checkpoint cannot be used. All of them are listed, with the reasons.
    #[error("{path}: {count} shards cannot be used: {list}", path = path.display(), count = rejected.len(), list = List(rejected))]
    Shards {
        /// The folder of the shards.
        path: PathBuf,
        /// The shards.
        rejected: Vec<Rejected>,
    },

    /// The variables are distributed over several ranks, which save into a folder together: there is no single file.
    #[error("the variables lie on several ranks: save into a folder")]
    OnRanks,

    /// The ranks together do not hold each element of a variable or slot exactly once.
    #[error("{problem}")]
    Placement {
        /// The tensor, and the problem.
        problem: String,
    },

    /// The file does not hold the requested contents.
    #[error("{path} holds {found} weights, not {expected} ones", path = path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// The contents of the file.
        found: Contents,
        /// The contents that are needed.
        expected: Contents,
    },

    /// On several ranks, a checkpoint cannot hold accumulated gradients, which differ from rank to rank.
    #[error(
        "{micro_step} micro-steps wait to be applied, and on several ranks a checkpoint cannot hold their gradients: save after \
         an applied step, or call flush or discard_accumulated"
    )]
    BetweenMicroSteps {
        /// The number of micro-steps that wait.
        micro_step: u64,
    },

    /// The file has no configuration, because a schedule held code when it was saved.
    #[error("{path} has no configuration: a schedule held code", path = path.display())]
    NoConfiguration {
        /// The file.
        path: PathBuf,
    },

    /// A variable that the optimizer has slots for was not given.
    #[error("the optimizer knows variables that were not given: {names:?}")]
    VariablesMissing {
        /// The names of the variables.
        names: Vec<String>,
    },

    /// A pattern is not a regular expression.
    #[error("pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The message of the parser.
        reason: String,
    },

    /// The options select no entry of the file: a pattern is probably wrong.
    #[error("{path}: the patterns select nothing that is to be loaded", path = path.display())]
    NothingSelected {
        /// The file.
        path: PathBuf,
    },

    /// There are checkpoints, but none of them is valid.
    #[error("{path}: none of {count} checkpoints is valid: {list}", path = path.display(), count = rejected.len(), list = List(rejected))]
    NoneValid {
        /// The folder.
        path: PathBuf,
        /// All checkpoints, the newest first.
        rejected: Vec<Rejected>,
    },

    /// Another process, or another value in this one, writes to the folder.
    #[error("{path} is in use by another writer", path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },

    /// A file of another system cannot be imported.
    #[error("{path}: {problem}", path = path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },

    /// The optimizer refused the state.
    #[error(transparent)]
    Optimizer(#[from] opt_core::Error),

    /// A configuration could not be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Error {
    /// Makes an error from one of the operating system.
    pub(crate) fn io(action: Action, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, damage: Damage) -> Self {
        Self::Damaged { path: path.to_owned(), damage }
    }

    /// Whether the file itself is damaged, independent of the model.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Shards { rejected, .. } => rejected.iter().any(|shard| shard.error.is_damage()),
            Self::Mismatch { mismatches, .. } => mismatches
                .iter()
                .any(|mismatch| matches!(mismatch, Mismatch::Checksum { .. } | Mismatch::ShardChecksum { .. })),
            _ => false,
        }
    }
}

/// An operation on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Making a file or folder.
    Create,
    /// Opening or reading.
    Read,
    /// Writing and flushing to the disk.
    Write,
    /// Renaming a complete file.
    Rename,
    /// Making a new name durable. The file exists and is complete.
    Sync,
    /// Locking a folder.
    Lock,
    /// Removing an old file.
    Remove,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Rename => "rename",
            Self::Sync => "sync the folder of",
            Self::Lock => "lock",
            Self::Remove => "remove",
        })
    }
}

/// Damage that is found before any number is read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file does not begin like a checkpoint of this library.
    #[error("not a checkpoint of this library, or its first bytes are damaged")]
    NotACheckpoint,

    /// The header would be longer than the file, or than the limit of the format.
    #[error("the header has {header} bytes, the file {file}: cut short, or damaged at the start")]
    HeaderLength {
        /// The length in the file.
        header: u64,
        /// The length of the file.
        file: u64,
    },

    /// The header has changed since it was written.
    #[error("the header is damaged: checksum {found}, written was {expected}")]
    HeaderChecksum {
        /// The checksum in the file.
        expected: Checksum,
        /// The checksum of the bytes.
        found: Checksum,
    },

    /// The header contradicts itself, although its checksum is right.
    #[error("the header is invalid: {problem}")]
    Header {
        /// The contradiction.
        problem: String,
    },

    /// The length of the file is not the one in its header: usually it was truncated.
    #[error("the file has {found} bytes instead of {expected}")]
    Length {
        /// The length by the header.
        expected: u64,
        /// The length of the file.
        found: u64,
    },

    /// A later version of the format.
    #[error("format {found}, this version reads up to {supported}")]
    Version {
        /// The format of the file.
        found: u64,
        /// The latest format that can be read.
        supported: u64,
    },

    /// The file is one part of a sharded checkpoint.
    #[error("tensors are sharded, such as {name:?}: load the checkpoint as a whole")]
    Sharded {
        /// One of the sharded tensors.
        name: String,
    },

    /// A shard that the manifest names is missing.
    #[error("the shard is missing")]
    ShardMissing,

    /// A shard is intact, but is not the one that the manifest names.
    #[error("a shard of another checkpoint: its header has checksum {found}, the manifest names {expected}")]
    ForeignShard {
        /// The checksum in the manifest.
        expected: Checksum,
        /// The checksum of the shard's header.
        found: Checksum,
    },
}

/// A difference between a file and the model or optimizer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The model or the optimizer has the entry, the file does not.
    #[error("{name:?} is missing")]
    Missing {
        /// The variable, or the entry of the state.
        name: String,
    },

    /// The file has the entry, the model and the optimizer do not.
    #[error("{name:?} is unexpected")]
    Unexpected {
        /// The variable, or the entry of the state.
        name: String,
    },

    /// Another shape.
    #[error("{name:?} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The variable, or the entry of the state.
        name: String,
        /// The shape of the model.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },

    /// Another element type.
    #[error("{name:?} has type {found}, expected {expected}")]
    DType {
        /// The variable, or the entry of the state.
        name: String,
        /// The type of the model, as safetensors calls it.
        expected: String,
        /// The type in the file.
        found: String,
    },

    /// A number is too large for the type to which it is converted.
    #[error("{name:?} has a number that is too large for {dtype}: {number:e}")]
    Overflow {
        /// The variable, or the entry of the state.
        name: String,
        /// The number.
        number: f64,
        /// The type of the model, as safetensors calls it.
        dtype: String,
    },

    /// The numbers have changed since they were written.
    #[error("{name:?} is damaged: checksum {found}, written was {expected}")]
    Checksum {
        /// The name in the file.
        name: String,
        /// The checksum in the file.
        expected: Checksum,
        /// The checksum of the bytes.
        found: Checksum,
    },

    /// The numbers of one shard have changed since they were written.
    #[error("{name:?} is damaged in {path}: checksum {found}, written was {expected}", path = path.display())]
    ShardChecksum {
        /// The name in the file.
        name: String,
        /// The shard.
        path: PathBuf,
        /// The checksum in the file.
        expected: Checksum,
        /// The checksum of the bytes.
        found: Checksum,
    },

    /// After renaming, two entries of the file have the same name.
    #[error("{name:?} is there twice after renaming")]
    Twice {
        /// The name.
        name: String,
    },

    /// A field of the configuration differs.
    #[error("configuration field {field:?} is {found}, the optimizer has {expected}")]
    Configuration {
        /// The field, or `class_name`.
        field: String,
        /// The optimizer's value.
        expected: Value,
        /// The file's value.
        found: Value,
    },
}

/// A checkpoint that cannot be used.
#[derive(Debug)]
pub struct Rejected {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub error: Error,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Several differences on one line.
struct List<'l, T>(&'l [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, finding) in self.0.iter().enumerate() {
            write!(f, "{}{finding}", if place > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}
