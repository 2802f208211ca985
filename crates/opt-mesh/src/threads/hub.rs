//! Rounds of threads: each rank brings a contribution to the round, and takes the outcome.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opt_core::collective::{Collective, CollectiveError, Numbers, Pending};

/// The contribution of a rank to a round.
#[derive(Debug, Clone, PartialEq)]
enum Deposit {
    Sum(Numbers),
    Gather(Vec<u8>),
    /// The root, and the bytes of this rank if it is the root.
    Broadcast(usize, Vec<u8>),
}

impl Deposit {
    /// The parts of a contribution that must be the same on all ranks.
    fn call(&self) -> String {
        match self {
            Self::Sum(Numbers::F32(numbers)) => format!("the sum of {} numbers of 32 bits", numbers.len()),
            Self::Sum(numbers) => format!("the sum of {} numbers of 64 bits", numbers.len()),
            Self::Gather(_) => "a gather".to_owned(),
            Self::Broadcast(root, _) => format!("a broadcast of rank {root}"),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Sum(_) => "sum",
            Self::Gather(_) => "gather",
            Self::Broadcast(..) => "broadcast",
        }
    }
}

/// The outcome of a round.
#[derive(Debug, Clone)]
enum Outcome {
    Sum(Numbers),
    Gather(Vec<Vec<u8>>),
    Broadcast(Vec<u8>),
}

#[derive(Debug)]
struct Round {
    deposits: Vec<Option<Deposit>>,
    /// Set once, for all ranks: if a round fails for one rank, it fails for all.
    outcome: Option<Result<Arc<Outcome>, CollectiveError>>,
    /// The number of ranks that have taken the outcome.
    taken: usize,
}

#[derive(Debug)]
struct State {
    /// The next round of each rank.
    next: Vec<u64>,
    rounds: HashMap<u64, Round>,
    /// The ranks of the world that have ended, and how.
    gone: BTreeMap<usize, String>,
}

/// A meeting place of some ranks.
#[derive(Debug)]
pub(super) struct Hub {
    /// Ranks of the world.
    members: Vec<usize>,
    limit: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

impl Hub {
    pub(super) fn new(members: Vec<usize>, limit: Duration) -> Self {
        let state = State { next: vec![0; members.len()], rounds: HashMap::new(), gone: BTreeMap::new() };
        Self { members, limit, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gone(&self) -> Vec<(usize, String)> {
        self.lock().gone.iter().map(|(&rank, reason)| (rank, reason.clone())).collect()
    }

    /// Records that a rank of the world has ended.
    pub(super) fn leave(&self, rank: usize, reason: &str) {
        if self.members.contains(&rank) {
            self.lock().gone.entry(rank).or_insert_with(|| reason.to_owned());
            self.changed.notify_all();
        }
    }

    /// Adds a contribution to this rank's next round. The last rank to arrive computes the outcome.
    fn bring(&self, seat: usize, deposit: Deposit) -> u64 {
        let mut state = self.lock();
        let number = state.next[seat];
        state.next[seat] += 1;
        let size = self.members.len();
        let round = state.rounds.entry(number).or_insert_with(|| Round {
            deposits: (0..size).map(|_| None).collect(),
            outcome: None,
            taken: 0,
        });
        round.deposits[seat] = Some(deposit);
        if round.outcome.is_none() && round.deposits.iter().all(Option::is_some) {
            let deposits = mem::take(&mut round.deposits).into_iter().flatten().collect();
            drop(state);
            let outcome = combine(deposits).map(Arc::new);
            if let Some(round) = self.lock().rounds.get_mut(&number) {
                round.outcome.get_or_insert(outcome);
            }
            self.changed.notify_all();
        }
        number
    }

    /// Waits for the outcome of a round.
    fn take(&self, number: u64, call: &'static str) -> Result<Arc<Outcome>, CollectiveError> {
        let deadline = Instant::now() + self.limit;
        let mut state = self.lock();
        loop {
            let State { rounds, gone, .. } = &mut *state;
            let Some(round) = rounds.get_mut(&number) else {
                return Err(CollectiveError::Broken { reason: format!("round {number} is over") });
            };
            let now = Instant::now();
            if let Some(error) = self.failure(round, gone, now >= deadline, call) {
                round.outcome.get_or_insert(Err(error));
                self.changed.notify_all();
            }
            if let Some(outcome) = &round.outcome {
                let outcome = outcome.clone();
                round.taken += 1;
                if round.taken == self.members.len() {
                    rounds.remove(&number);
                }
                return outcome;
            }
            let wait = deadline.saturating_duration_since(now);
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The reason why a round without an outcome will never have one.
    fn failure(
        &self,
        round: &Round,
        gone: &BTreeMap<usize, String>,
        late: bool,
        call: &'static str,
    ) -> Option<CollectiveError> {
        let missing = || round.deposits.iter().zip(&self.members).filter(|(deposit, _)| deposit.is_none());
        let lost = missing().find_map(|(_, rank)| gone.get_key_value(rank));
        match lost {
            _ if round.outcome.is_some() => None,
            Some((&rank, reason)) => Some(CollectiveError::RankLost { rank, reason: reason.clone() }),
            None if late => {
                let missing = missing().map(|(_, rank)| *rank).collect();
                Some(CollectiveError::Timeout { call, missing, limit: self.limit })
            }
            None => None,
        }
    }
}

/// The outcome from the contributions of all ranks, in the order of the ranks.
fn combine(deposits: Vec<Deposit>) -> Result<Outcome, CollectiveError> {
    let expected = deposits[0].call();
    if let Some(rank) = deposits.iter().position(|deposit| deposit.call() != expected) {
        let found = deposits[rank].call();
        return Err(CollectiveError::Disagreement { what: "the call", expected, rank, found });
    }
    let ranks = deposits.len();
    let root = match deposits[0] {
        Deposit::Broadcast(rank, _) if rank >= ranks => return Err(CollectiveError::NoRank { rank, ranks }),
        Deposit::Broadcast(root, _) => Some(root),
        _ => None,
    };
    let mut gathered = Vec::with_capacity(deposits.len());
    let mut sum: Option<Numbers> = None;
    for deposit in deposits {
        match deposit {
            Deposit::Sum(numbers) => match &mut sum {
                None => sum = Some(numbers),
                Some(sum) => add(sum, &numbers),
            },
            Deposit::Gather(bytes) | Deposit::Broadcast(_, bytes) => gathered.push(bytes),
        }
    }
    Ok(match (sum, root) {
        (Some(sum), _) => Outcome::Sum(sum),
        (None, Some(root)) => Outcome::Broadcast(gathered.swap_remove(root)),
        (None, None) => Outcome::Gather(gathered),
    })
}

fn add(sum: &mut Numbers, numbers: &Numbers) {
    match (sum, numbers) {
        (Numbers::F32(sum), Numbers::F32(numbers)) => sum.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x),
        (Numbers::F64(sum), Numbers::F64(numbers)) => sum.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x),
        _ => unreachable!("all ranks make the same call"),
    }
}

/// One rank at a hub.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Arc<Hub>,
    seat: usize,
}

impl Seat {
    pub(super) fn new(hub: Arc<Hub>, seat: usize) -> Self {
        Self { hub, seat }
    }

    fn round(&self, deposit: Deposit) -> Result<Arc<Outcome>, CollectiveError> {
        let name = deposit.name();
        self.hub.take(self.hub.bring(self.seat, deposit), name)
    }
}

impl Collective for Seat {
    fn ranks(&self) -> usize {
        self.hub.members.len()
    }

    fn rank(&self) -> usize {
        self.seat
    }

    fn start_sum(&self, numbers: Numbers) -> Result<Box<dyn Pending + '_>, CollectiveError> {
        let deposit = Deposit::Sum(numbers);
        Ok(Box::new(Sum { hub: &self.hub, round: self.hub.bring(self.seat, deposit) }))
    }

    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        match Arc::unwrap_or_clone(self.round(Deposit::Gather(bytes))?) {
            Outcome::Gather(answers) => Ok(answers),
            _ => unreachable!("all ranks make the same call"),
        }
    }

    fn broadcast(&self, root: usize, bytes: Vec<u8>) -> Result<Vec<u8>, CollectiveError> {
        match Arc::unwrap_or_clone(self.round(Deposit::Broadcast(root, bytes))?) {
            Outcome::Broadcast(bytes) => Ok(bytes),
            _ => unreachable!("all ranks make the same call"),
        }
    }
}

struct Sum<'h> {
    hub: &'h Hub,
    round: u64,
}

impl Pending for Sum<'_> {
    fn wait(self: Box<Self>) -> Result<Numbers, CollectiveError> {
        match Arc::unwrap_or_clone(self.hub.take(self.round, "sum")?) {
            Outcome::Sum(numbers) => Ok(numbers),
            _ => unreachable!("all ranks make the same call"),
        }
    }
}
