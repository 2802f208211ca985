//! Ranks of a device mesh as processes of MPI.
//!
//! Start a program under `mpirun`, one process a rank, and make the mesh of it:
//!
//! ```no_run
//! use opt_mesh::Mesh;
//! use opt_mesh_mpi::Mpi;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mesh = Mesh::new(Mpi::start()?, &[("batch", 4)])?;
//!     println!("rank {} of {}", mesh.rank(), mesh.ranks());
//!     Ok(())
//! }
//! ```
//!
//! Everything else is as with threads. Without `mpirun` a program is a world of one rank.
//!
//! # What MPI leaves to its users, and this crate does
//!
//! * **One thread talks to MPI**, its own, from initialisation to the end (`MPI_THREAD_FUNNELED`). Any thread may call;
//!   sums go on while the caller computes.
//! * **Nothing waits forever.** Calls that block do so by asking, and end with an error after a time limit (one minute,
//!   or [`Options::limit`]). After such an error the group is out of step: later calls fail at once, and the job is
//!   aborted when the last handle goes.
//! * **A panic ends the job.** A rank that unwinds while the others wait would hang them: so a panic hook aborts the
//!   job, after the message.
//! * **No call with different lengths.** MPI would write outside of buffers. Each call starts with a small message that
//!   says what it is; ranks that do not make the same call get an error.
//! * **The same bits on all ranks.** Sums are all-reductions, never reduce-scatters, whose last bits differ from them for
//!   three or more ranks. Short sums are made in the order of the ranks, as threads make them.
//! * **Counts fit.** Long messages go in pieces of 1 MiB, far below what a C `int` counts.
//!
//! A process that calls [`std::process::exit`], or is killed, ends the job: `mpirun` sees to that.

#![forbid(unsafe_code)]

mod header;
mod link;
mod worker;

pub use link::{Mpi, Options};

/// Why MPI could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MpiError {
    /// MPI can be started once in a process, by one caller.
    #[error("MPI has been started before in this process")]
    StartedBefore,

    /// An MPI library that was built for programs of one thread.
    #[error("this MPI library does not allow threads besides the one that calls it")]
    NoThreads,

    /// The thread that talks to MPI could not be started.
    #[error("cannot start the thread of MPI: {reason}")]
    Thread {
        /// What the operating system said.
        reason: String,
    },
}
