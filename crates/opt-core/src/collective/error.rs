//! The errors of ranks that work together.

use std::time::Duration;

/// The reason why ranks could not work together. Unless a variant says otherwise, nothing has changed on any of them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectiveError {
    /// A rank did not make the call in time.
    #[error("{call}: no answer from {} within {limit:?}", named(missing))]
    Timeout {
        /// The call.
        call: &'static str,
        /// The ranks that did not answer; empty if they are not known.
        missing: Vec<usize>,
        /// The time limit.
        limit: Duration,
    },

    /// A rank has ended.
    #[error("rank {rank} is lost: {reason}")]
    RankLost {
        /// The rank.
        rank: usize,
        /// How it ended.
        reason: String,
    },

    /// The group can no longer be used, after an earlier error.
    #[error("the ranks are out of step since an earlier error: {reason}")]
    Broken {
        /// The earlier error.
        reason: String,
    },

    /// Two ranks have different values.
    #[error("ranks disagree about {what}: rank 0 has {expected}, rank {rank} has {found}")]
    Disagreement {
        /// The name of the value.
        what: &'static str,
        /// The value of rank 0.
        expected: String,
        /// The first rank with another value.
        rank: usize,
        /// The value of that rank.
        found: String,
    },

    /// Another rank cannot make the step.
    #[error("rank {rank} refuses: {reason}")]
    Refused {
        /// The rank.
        rank: usize,
        /// Its error.
        reason: String,
    },

    /// Ranks exchange numbers of the optimizer's element type only.
    #[error("variable {variable:?}: numbers in 16 bits are not supported on several ranks")]
    HalfPrecision {
        /// The variable.
        variable: String,
    },

    /// An array is not the shard that the layout asks for.
    #[error("variable {variable:?}: rank {rank} holds shape {found:?}, its shard has {expected:?}")]
    Shard {
        /// The variable.
        variable: String,
        /// The rank.
        rank: usize,
        /// The shape of the rank's shard.
        expected: Vec<usize>,
        /// The shape of its array.
        found: Vec<usize>,
    },

    /// A group of ranks could not be set up.
    #[error("cannot connect the ranks: {reason}")]
    Setup {
        /// The reason.
        reason: String,
    },

    /// A call names a rank that the group does not have.
    #[error("rank {rank} is not one of the {ranks} ranks")]
    NoRank {
        /// The rank.
        rank: usize,
        /// The number of ranks of the group.
        ranks: usize,
    },

    /// A message cannot be read; it may come from another version of this library.
    #[error("a message of rank {rank} cannot be read")]
    Message {
        /// The rank that sent it.
        rank: usize,
    },
}

/// A list of ranks in words.
fn named(ranks: &[usize]) -> String {
    match ranks {
        [] => "some rank".to_owned(),
        [rank] => format!("rank {rank}"),
        ranks => format!("ranks {ranks:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_named() {
        assert_eq!(["some rank", "rank 3", "ranks [0, 2]"], [&[][..], &[3], &[0, 2]].map(named));
    }
}
