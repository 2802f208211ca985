//! Counts of the traffic over a mesh.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opt_core::collective::{Collective, CollectiveError, Numbers, Pending};

/// The data that one rank has contributed to collective calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// The number of sums.
    pub sums: u64,
    /// Bytes that this rank contributed to sums.
    pub sum_bytes: u64,
    /// The number of gathers and broadcasts.
    pub gathers: u64,
    /// Bytes that this rank contributed to gathers and broadcasts.
    pub gather_bytes: u64,
    /// Time spent in these calls, including waiting.
    pub time: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    sums: AtomicU64,
    sum_bytes: AtomicU64,
    gathers: AtomicU64,
    gather_bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            sums: read(&self.sums),
            sum_bytes: read(&self.sum_bytes),
            gathers: read(&self.gathers),
            gather_bytes: read(&self.gather_bytes),
            time: Duration::from_nanos(read(&self.nanoseconds)),
        }
    }

    fn timed<R>(&self, call: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = call();
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        result
    }

    fn gathers(&self, bytes: usize) {
        self.gathers.fetch_add(1, Ordering::Relaxed);
        self.gather_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A group of ranks whose calls are counted.
#[derive(Debug)]
pub(crate) struct Counted {
    inner: Arc<dyn Collective>,
    counters: Arc<Counters>,
}

impl Counted {
    pub(crate) fn new(inner: Arc<dyn Collective>, counters: Arc<Counters>) -> Self {
        Self { inner, counters }
    }
}

impl Collective for Counted {
    fn ranks(&self) -> usize {
        self.inner.ranks()
    }

    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn start_sum(&self, numbers: Numbers) -> Result<Box<dyn Pending + '_>, CollectiveError> {
        self.counters.sums.fetch_add(1, Ordering::Relaxed);
        self.counters.sum_bytes.fetch_add(numbers.bytes() as u64, Ordering::Relaxed);
        let pending = self.counters.timed(|| self.inner.start_sum(numbers))?;
        Ok(Box::new(CountedSum { pending, counters: &self.counters }))
    }

    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.counters.gathers(bytes.len());
        self.counters.timed(|| self.inner.gather(bytes))
    }

    fn broadcast(&self, root: usize, bytes: Vec<u8>) -> Result<Vec<u8>, CollectiveError> {
        self.counters.gathers(bytes.len());
        self.counters.timed(|| self.inner.broadcast(root, bytes))
    }
}

struct CountedSum<'c> {
    pending: Box<dyn Pending + 'c>,
    counters: &'c Counters,
}

impl Pending for CountedSum<'_> {
    fn wait(self: Box<Self>) -> Result<Numbers, CollectiveError> {
        let Self { pending, counters } = *self;
        counters.timed(|| pending.wait())
    }
}
