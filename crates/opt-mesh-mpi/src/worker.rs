//! The one thread that talks to MPI.

mod calls;
mod patience;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use mpi::Threading;
use mpi::topology::{Color, SimpleCommunicator};
use mpi::traits::Communicator;
use opt_core::collective::CollectiveError;

use crate::MpiError;
use crate::command::{Command, Work};
use crate::header::Header;
use patience::Answer;

/// The exit code of a job whose ranks are out of step.
const BROKEN: i32 = 102;
/// How long a job that is about to abort waits, so that other ranks can report their errors, too.
const GRACE: Duration = Duration::from_secs(1);

/// Aborts the job; only for the thread of MPI.
pub(crate) fn abort(code: i32) -> ! {
    SimpleCommunicator::world().abort(code)
}

/// The state of the thread.
pub(crate) struct Worker {
    /// The communicators: the world, then other groups.
    groups: Vec<Rc<SimpleCommunicator>>,
    commands: Receiver<Command>,
    /// Commands that arrived during a call.
    waiting: VecDeque<Command>,
    limit: Duration,
    piece_bytes: usize,
    /// The reason why the ranks are out of step, once they are.
    broken: Option<CollectiveError>,
}

impl Worker {
    /// Runs from the start of MPI to its end. Reports first which rank this is.
    pub(crate) fn run(
        commands: Receiver<Command>,
        started: &Sender<Result<(usize, usize), MpiError>>,
        limit: Duration,
        piece_bytes: usize,
    ) {
        let universe = match mpi::initialize_with_threading(Threading::Funneled) {
            Some((universe, threading)) if threading != Threading::Single => universe,
            other => {
                let error = if other.is_some() { MpiError::NoThreads } else { MpiError::StartedBefore };
                // Sending fails only if the thread that started this one is gone.
                let _ = started.send(Err(error));
                return;
            }
        };
        // A duplicate communicator, so that our messages never mix with those of other code.
        let world = universe.world().duplicate();
        let (rank, ranks) = (world.rank().unsigned_abs() as usize, world.size().unsigned_abs() as usize);
        let piece_bytes = piece_bytes.clamp(8, (1 << 30) / ranks.max(1)) / 8 * 8;
        let waiting = VecDeque::new();
        let _ = started.send(Ok((rank, ranks)));
        Self { groups: vec![Rc::new(world)], commands, waiting, limit, piece_bytes, broken: None }.serve();
    }

    fn serve(mut self) {
        loop {
            let next = self.waiting.pop_front().or_else(|| self.commands.recv().ok());
            match next {
                Some(Command::Abort(code)) => abort(code),
                Some(Command::Call { group, work, reply }) => {
                    let answer = Answer::new(reply);
                    let result = self.call(group, work, &answer);
                    answer.give(result);
                }
                Some(Command::Split { members, reply }) => {
                    let answer = Answer::new(reply);
                    let result = self.split(&members, &answer);
                    answer.give(result);
                }
                Some(Command::Finish) | None => return self.finish(),
            }
        }
    }

    /// Aborts the job if the ranks are out of step, because other ranks may be waiting forever.
    fn finish(&self) {
        if self.broken.is_some() {
            thread::sleep(GRACE);
            abort(BROKEN);
        }
    }

    fn call(&mut self, group: usize, work: Work, answer: &Answer<Work>) -> Result<Work, CollectiveError> {
        match work {
            Work::Sum(numbers) => self.sum(group, numbers, answer).map(Work::Sum),
            Work::Gather(bytes) => self.gather(group, &bytes, answer).map(Work::Gathered),
            Work::Broadcast(root, bytes) => self.broadcast(group, root, bytes, answer),
            Work::Gathered(answers) => Ok(Work::Gathered(answers)),
        }
    }

    /// Splitting a communicator blocks, so all ranks first announce that they have arrived.
    fn split(&mut self, members: &[usize], answer: &Answer<usize>) -> Result<usize, CollectiveError> {
        self.announce(0, Header::split(), &[], answer)?;
        let world = &self.groups[0];
        let number = |rank: usize| i32::try_from(rank).unwrap_or_default();
        let color = Color::with_value(number(members.first().copied().unwrap_or_default()));
        // Ranks of a group keep their order.
        let group = world.split_by_color_with_key(color, world.rank());
        let group = group.filter(|group| usize::try_from(group.size()) == Ok(members.len()));
        let reason = format!("MPI made no group of the ranks {members:?}");
        self.groups.push(Rc::new(group.ok_or(CollectiveError::Setup { reason })?));
        Ok(self.groups.len() - 1)
    }
}
