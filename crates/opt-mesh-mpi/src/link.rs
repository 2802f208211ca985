//! The connection from any thread to the one that talks to MPI.

use std::panic;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use opt_core::collective::{Collective, CollectiveError, Numbers, Pending};
use opt_mesh::{DEFAULT_LIMIT, Engine};

use crate::MpiError;
use crate::command::{Command, Work};
use crate::worker::{self, Worker};

/// The exit code of a job that a panic has aborted.
pub(crate) const PANICKED: i32 = 101;

/// Options of [`Mpi`].
///
/// | option | default |
/// |---|---|
/// | [`limit`](Self::limit) | one minute |
/// | [`piece_bytes`](Self::piece_bytes) | 1 MiB |
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Options {
    limit: Duration,
    piece_bytes: usize,
}

impl Options {
    /// How long ranks wait for each other.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The size of the pieces of long messages: at least 8 bytes, at most 1 GiB divided by the number of ranks. All
    /// ranks must use the same size.
    pub fn piece_bytes(mut self, bytes: usize) -> Self {
        self.piece_bytes = bytes;
        self
    }

    /// Starts MPI. The panic hook is replaced by one that aborts the job after the old one has run.
    ///
    /// # Errors
    ///
    /// When MPI has been started before in this process, or its library does not allow threads.
    pub fn start(self) -> Result<Arc<Mpi>, MpiError> {
        let (commands, received) = channel();
        let (started, start) = channel();
        let worker = thread::Builder::new().name("mpi".to_owned());
        let run = move || Worker::run(received, &started, self.limit, self.piece_bytes);
        let worker = worker.spawn(run).map_err(|error| MpiError::Thread { reason: error.to_string() })?;
        let started = start.recv().unwrap_or(Err(MpiError::NoThreads));
        let (rank, ranks) = started?;
        abort_on_panic(commands.clone(), worker.thread().id());
        let link = Link { commands, worker: Some(worker) };
        Ok(Arc::new(Mpi { link: Arc::new(link), rank, ranks }))
    }
}

/// A rank that unwinds would finalize MPI, or exit, while the others wait for it.
fn abort_on_panic(commands: Sender<Command>, worker: thread::ThreadId) {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        previous(info);
        if thread::current().id() == worker {
            worker::abort(PANICKED);
        }
        // If MPI is finished, no rank can be waiting.
        if commands.send(Command::Abort(PANICKED)).is_ok() {
            thread::sleep(Duration::from_secs(30));
            process::abort();
        }
    }));
}

/// The thread of MPI; it runs as long as a handle exists.
#[derive(Debug)]
struct Link {
    commands: Sender<Command>,
    worker: Option<JoinHandle<()>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // If the thread is gone, there is nothing to finish.
        let _ = self.commands.send(Command::Finish);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

fn gone<E>(_: E) -> CollectiveError {
    CollectiveError::Broken { reason: "MPI has ended".to_owned() }
}

/// All processes of an MPI job, one rank each.
///
/// MPI ends when the last handle is dropped: those of the mesh, its groups, and this value.
#[derive(Debug)]
pub struct Mpi {
    link: Arc<Link>,
    rank: usize,
    ranks: usize,
}

impl Mpi {
    /// Starts MPI with default options. The panic hook is replaced by one that aborts the job after the old one has
    /// run.
    ///
    /// # Errors
    ///
    /// When MPI has been started before in this process, or its library does not allow threads.
    pub fn start() -> Result<Arc<Self>, MpiError> {
        Self::options().start()
    }

    /// Options that differ from the default.
    pub fn options() -> Options {
        Options { limit: DEFAULT_LIMIT, piece_bytes: 1 << 20 }
    }
}

impl Engine for Mpi {
    fn world(&self) -> Arc<dyn Collective> {
        Arc::new(Group { link: Arc::clone(&self.link), group: 0, rank: self.rank, ranks: self.ranks })
    }

    fn group(&self, members: &[usize]) -> Result<Arc<dyn Collective>, CollectiveError> {
        let (reply, answer) = channel();
        let members = members.to_vec();
        let (ranks, rank) = (members.len(), members.iter().position(|&member| member == self.rank));
        let rank = rank.ok_or(CollectiveError::NoRank { rank: self.rank, ranks })?;
        self.link.commands.send(Command::Split { members, reply }).map_err(gone)?;
        let group = answer.recv().map_err(gone)??;
        Ok(Arc::new(Group { link: Arc::clone(&self.link), group, rank, ranks }))
    }
}

/// A group of some processes.
#[derive(Debug)]
struct Group {
    link: Arc<Link>,
    group: usize,
    rank: usize,
    ranks: usize,
}

impl Group {
    fn call(&self, work: Work) -> Result<Reply, CollectiveError> {
        let (reply, answer) = channel();
        self.link.commands.send(Command::Call { group: self.group, work, reply }).map_err(gone)?;
        Ok(Reply(answer))
    }
}

/// A call in progress. (The thread of MPI watches the time limit.)
struct Reply(Receiver<Result<Work, CollectiveError>>);

impl Reply {
    fn wait(self) -> Result<Work, CollectiveError> {
        self.0.recv().map_err(gone)?
    }
}

impl Pending for Reply {
    fn wait(self: Box<Self>) -> Result<Numbers, CollectiveError> {
        match (*self).wait()? {
            Work::Sum(numbers) => Ok(numbers),
            _ => Err(gone(())),
        }
    }
}

impl Collective for Group {
    fn ranks(&self) -> usize {
        self.ranks
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn start_sum(&self, numbers: Numbers) -> Result<Box<dyn Pending + '_>, CollectiveError> {
        Ok(Box::new(self.call(Work::Sum(numbers))?))
    }

    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        match self.call(Work::Gather(bytes))?.wait()? {
            Work::Gathered(answers) => Ok(answers),
            _ => Err(gone(())),
        }
    }

    fn broadcast(&self, root: usize, bytes: Vec<u8>) -> Result<Vec<u8>, CollectiveError> {
        match self.call(Work::Broadcast(root, bytes))?.wait()? {
            Work::Broadcast(_, bytes) => Ok(bytes),
            _ => Err(gone(())),
        }
    }
}
