//! Waiting for MPI with a time limit.

use std::cell::Cell;
use std::sync::mpsc::{Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use mpi::request::{Request, Scope};
use opt_core::collective::CollectiveError;

use super::{Worker, abort};
use crate::command::Command;

/// The channel for the answer of a call; only the first answer counts.
pub(super) struct Answer<R> {
    reply: Sender<Result<R, CollectiveError>>,
    given: Cell<bool>,
}

impl<R> Answer<R> {
    pub(super) fn new(reply: Sender<Result<R, CollectiveError>>) -> Self {
        Self { reply, given: Cell::new(false) }
    }

    pub(super) fn give(&self, result: Result<R, CollectiveError>) {
        if !self.given.replace(true) {
            // The caller may be gone.
            let _ = self.reply.send(result);
        }
    }
}

/// MPI moves long messages only while it is polled. A wait up to this long is for a message, a longer one for a rank.
const SOON: Duration = Duration::from_millis(50);
/// The interval at which a rank polls while it waits for another rank.
const PAUSE: Duration = Duration::from_micros(100);

impl Worker {
    /// Waits for a request. After the time limit the caller gets its error at once; but the request and its buffers
    /// belong to MPI until the request or the job ends.
    pub(super) fn wait<'a, D: ?Sized, S: Scope<'a>, R>(
        &mut self,
        mut request: Request<'a, D, S>,
        call: &'static str,
        answer: &Answer<R>,
    ) -> Result<(), CollectiveError> {
        let start = Instant::now();
        loop {
            request = match request.test() {
                Ok(_) => return self.broken.clone().map_or(Ok(()), Err),
                Err(request) => request,
            };
            let waited = start.elapsed();
            if self.broken.is_none() && waited > self.limit {
                let late = CollectiveError::Timeout { call, missing: Vec::new(), limit: self.limit };
                self.broken = Some(CollectiveError::Broken { reason: late.to_string() });
                answer.give(Err(late));
            }
            self.listen();
            if waited < SOON { thread::yield_now() } else { thread::sleep(PAUSE) }
        }
    }

    /// Receives commands during a call.
    fn listen(&mut self) {
        loop {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => Command::Finish,
            };
            match (command, &self.broken) {
                (Command::Abort(code), _) => abort(code),
                (Command::Finish, Some(_)) => return self.finish(),
                (Command::Call { reply, .. }, Some(broken)) => Answer::new(reply).give(Err(broken.clone())),
                (Command::Split { reply, .. }, Some(broken)) => Answer::new(reply).give(Err(broken.clone())),
                (command, None) => {
                    let last = matches!(command, Command::Finish);
                    self.waiting.push_back(command);
                    if last {
                        return;
                    }
                }
            }
        }
    }
}
