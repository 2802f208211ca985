//! What can go wrong between ranks.

use std::time::Duration;

/// Why ranks could not work together. Unless a variant says otherwise, nothing has changed on any of them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectiveError {
    /// A rank did not make the call in time.
    #[error("{call}: no answer from {} within {limit:?}", named(missing))]
    Timeout {
        /// What was called.
        call: &'static str,
        /// The ranks that did not answer; empty if that is not known.
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

    /// Two ranks do not say the same.
    #[error("ranks disagree about {what}: rank 0 has {expected}, rank {rank} has {found}")]
    Disagreement {
        /// What they disagree about.
        what: &'static str,
        /// What rank 0 has.
        expected: String,
        /// The first rank that has something else.
        rank: usize,
        /// What it has.
        found: String,
    },

    /// Another rank cannot go on.
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

    /// An array that is not the shard that the layout asks for.
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
        /// What is wrong.
        reason: String,
    },

    /// A call that names a rank that the group does not have.
    #[error("rank {rank} is not one of the {ranks} ranks")]
    NoRank {
        /// The rank.
        rank: usize,
        /// How many there are.
        ranks: usize,
    },

    /// A message that another version of this library would understand, if any.
    #[error("a message of rank {rank} cannot be read")]
    Message {
        /// The rank that sent it.
        rank: usize,
    },
}

/// Ranks in words.
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
