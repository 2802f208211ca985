//! Ranks of a device mesh as processes of MPI.
//!
//! Start a program under `mpirun`, one process a rank, and make a mesh of the processes:
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
//! Everything else is the same as with threads. Without `mpirun` a program is a world of one rank.
//!
//! # Hazards of MPI that this crate handles
//!
//! * **One thread talks to MPI**, from initialisation to the end (`MPI_THREAD_FUNNELED`). Any thread may call it;
//!   sums continue while the caller computes.
//! * **Nothing waits forever.** Blocking calls poll, and end with an error after a time limit (one minute, or
//!   [`Options::limit`]). After such an error the ranks are out of step: later calls fail at once, and the job is
//!   aborted when the last handle is dropped.
//! * **A panic ends the job.** A rank that unwinds while the others wait would hang them. So a panic hook aborts the
//!   job, after the message.
//! * **No call with different lengths.** MPI would write outside of buffers. Each call starts with a small message
//!   that describes it; ranks that do not make the same call get an error.
//! * **The same bits on all ranks.** Sums are all-reductions, never reduce-scatters, whose last bits differ for three
//!   or more ranks. Short sums are added in the order of the ranks, as threads do.
//! * **Counts fit.** Long messages are sent in pieces of 1 MiB, far below the limit of a C `int`.
//!
//! If a process calls [`std::process::exit`] or is killed, `mpirun` ends the job.

#![forbid(unsafe_code)]

mod command;
mod header;
mod link;
mod worker;

pub use link::{Mpi, Options};

/// The reason why MPI could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MpiError {
    /// MPI was started before: a process can start it only once.
    #[error("MPI has been started before in this process")]
    StartedBefore,

    /// The MPI library does not support threads.
    #[error("this MPI library does not allow threads besides the one that calls it")]
    NoThreads,

    /// The thread that talks to MPI could not be started.
    #[error("cannot start the thread of MPI: {reason}")]
    Thread {
        /// The error of the operating system.
        reason: String,
    },
}
