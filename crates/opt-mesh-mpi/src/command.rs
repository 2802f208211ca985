//! The commands that a rank sends to the thread of MPI.

use std::sync::mpsc::Sender;

use opt_core::collective::{CollectiveError, Numbers};

/// A command to the thread of MPI.
#[derive(Debug)]
pub(crate) enum Command {
    Call {
        /// The communicator; 0 is the world.
        group: usize,
        work: Work,
        reply: Sender<Result<Work, CollectiveError>>,
    },
    /// The members of this rank's new group.
    Split {
        members: Vec<usize>,
        reply: Sender<Result<usize, CollectiveError>>,
    },
    /// Aborts the whole job.
    Abort(i32),
    Finish,
}

/// The input and the output of a call.
#[derive(Debug)]
pub(crate) enum Work {
    Sum(Numbers),
    Gather(Vec<u8>),
    Gathered(Vec<Vec<u8>>),
    Broadcast(usize, Vec<u8>),
}
