//! What can go wrong, with the numbers.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use opt_core::ConfigError;
use serde_json::Value;

use crate::checksum::Checksum;
use crate::format::Contents;

/// Why a checkpoint could not be saved or loaded. Optimizer and variables are as they were; so is a file that was to be
/// replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: Action,
        /// With which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The file is damaged, or no checkpoint of this library.
    #[error("{path}: {damage}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },

    /// The file does not fit what it is loaded into, or its numbers are damaged: everything that was found.
    #[error("{path}: {list}", path = path.display(), list = List(mismatches))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// All of it.
        mismatches: Vec<Mismatch>,
    },

    /// Files of a sharded checkpoint cannot be used: all of them, and why.
    #[error("{path}: {count} shards cannot be used: {list}", path = path.display(), count = rejected.len(), list = List(rejected))]
    Shards {
        /// The folder of the shards.
        path: PathBuf,
        /// The shards.
        rejected: Vec<Rejected>,
    },

    /// The variables lie on several ranks, which save into a folder together: there is no one file.
    #[error("the variables lie on several ranks: save into a folder")]
    OnRanks,

    /// Ranks do not hold what makes up the whole of a variable or a slot, each element once.
    #[error("{problem}")]
    Placement {
        /// What is wrong with which tensor.
        problem: String,
    },

    /// The file does not hold what was asked for.
    #[error("{path} holds {found} weights, not {expected} ones", path = path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: Contents,
        /// What is needed.
        expected: Contents,
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
        /// Their names.
        names: Vec<String>,
    },

    /// Two things would have the same name in the file, or a name that the format keeps for itself.
    #[error("the name {name:?} is taken in the file: rename the variable")]
    NameTaken {
        /// The name.
        name: String,
    },

    /// A pattern that is no regular expression.
    #[error("pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Checkpoints are there, but none of them is whole.
    #[error("{path}: none of {count} checkpoints is valid: {list}", path = path.display(), count = rejected.len(), list = List(rejected))]
    NoneValid {
        /// The folder.
        path: PathBuf,
        /// All of them, the newest first.
        rejected: Vec<Rejected>,
    },

    /// Another process, or another value in this one, writes to the folder.
    #[error("{path} is in use by another writer", path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },

    /// A file of another system that cannot be imported.
    #[error("{path}: {problem}", path = path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },

    /// The optimizer refused.
    #[error(transparent)]
    Optimizer(#[from] opt_core::Error),

    /// A configuration could not be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Error {
    /// Makes an error of one of the operating system.
    pub(crate) fn io(action: Action, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, damage: Damage) -> Self {
        Self::Damaged { path: path.to_owned(), damage }
    }

    /// Whether the file itself is broken, whatever it is loaded into.
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

/// What was tried with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Making a file or folder.
    Create,
    /// Opening or reading.
    Read,
    /// Writing, up to the disk itself.
    Write,
    /// Giving a complete file its name.
    Rename,
    /// Making a new name durable: the file is there and whole.
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

/// What is wrong with a file as a whole, before any number is looked at.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file does not begin as our checkpoints do.
    #[error("not a checkpoint of this library, or its first bytes are damaged")]
    NotACheckpoint,

    /// The header would be longer than the file, or than headers may be.
    #[error("the header has {header} bytes, the file {file}: cut short, or damaged at the start")]
    HeaderLength {
        /// What the file says.
        header: u64,
        /// What there is.
        file: u64,
    },

    /// The header has changed since it was written.
    #[error("the header is damaged: checksum {found}, written was {expected}")]
    HeaderChecksum {
        /// What the file says.
        expected: Checksum,
        /// What its bytes give.
        found: Checksum,
    },

    /// The header contradicts itself, though it is as it was written.
    #[error("the header is invalid: {problem}")]
    Header {
        /// What is wrong.
        problem: String,
    },

    /// The file has another length than its header says: usually it was cut short.
    #[error("the file has {found} bytes instead of {expected}")]
    Length {
        /// What the header says.
        expected: u64,
        /// What there is.
        found: u64,
    },

    /// A later version of the format.
    #[error("format {found}, this version reads up to {supported}")]
    Version {
        /// The format of the file.
        found: u64,
        /// The latest that can be read.
        supported: u64,
    },

    /// The file is one part of a sharded checkpoint.
    #[error("tensors are sharded, such as {name:?}: load the checkpoint as a whole")]
    Sharded {
        /// One of them.
        name: String,
    },

    /// A shard that the manifest names is not there.
    #[error("the shard is missing")]
    ShardMissing,

    /// A shard is whole, but not the one that the manifest names.
    #[error("a shard of another checkpoint: its header has checksum {found}, the manifest names {expected}")]
    ForeignShard {
        /// What the manifest says.
        expected: Checksum,
        /// That of the shard's header.
        found: Checksum,
    },
}

/// Where a file and what it is loaded into differ.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The model or the optimizer has it, the file does not.
    #[error("{name:?} is missing")]
    Missing {
        /// The variable, or the entry of the state.
        name: String,
    },

    /// The file has it, the model and the optimizer do not.
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

    /// The numbers have changed since they were written.
    #[error("{name:?} is damaged: checksum {found}, written was {expected}")]
    Checksum {
        /// The name in the file.
        name: String,
        /// What the file says.
        expected: Checksum,
        /// What its bytes give.
        found: Checksum,
    },

    /// The numbers of one shard have changed since they were written.
    #[error("{name:?} is damaged in {path}: checksum {found}, written was {expected}", path = path.display())]
    ShardChecksum {
        /// The name in the file.
        name: String,
        /// The shard.
        path: PathBuf,
        /// What the file says.
        expected: Checksum,
        /// What its bytes give.
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
    /// Why.
    pub error: Error,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Several findings in one line.
struct List<'l, T>(&'l [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, finding) in self.0.iter().enumerate() {
            write!(f, "{}{finding}", if place > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}
