//! One fork and one join of threads over all variables at once.
//!
//! Why not one of rayon's parallel iterators:
//!
//! * A step is short: microseconds for a small model. A fork and join for each variable, or waking a thread for little
//!   work, would take longer than the work. So there is one fork. The calling thread works as well, and before it
//!   sleeps, it checks for a while whether the helpers are done.
//! * Helpers are called while the calling thread still checks its inputs, so that they are awake when there is work.
//! * Threads take shares from one queue, and shares get smaller towards the end, so that no thread waits long for
//!   another.
//! * The division of work between threads changes no bit: each item is computed on its own, and sums have fixed chunks.

use std::hint;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{Scope, ThreadPool, ThreadPoolBuilder};

use crate::error::Error;
use crate::loops::BLOCK;

/// The number of elements in a chunk, a multiple of [`BLOCK`](crate::loops::BLOCK). Sums are made of chunks, and less
/// than a chunk is not worth a thread. Chunks are smaller under Miri, which is slow, so that its runs use threads at
/// all.
pub(crate) const CHUNK: usize = if cfg!(miri) { BLOCK } else { 65_536 };

/// Below this many elements in all, waking another thread takes longer than the work.
const WORTH_WAKING: usize = 4 * CHUNK;

/// A thread takes 1 / `SHARES` of its fair share of the elements that are left. So shares get smaller towards the end,
/// and no thread waits long for another.
const SHARES: usize = 4;

/// No slice is smaller than 1 / `SLICES` of a thread's fair share of all elements.
const SLICES: usize = 32;

/// Spins of the calling thread before it sleeps, until the helpers are done: some microseconds.
const LOOKS: usize = 4096;

/// Spins of a helper that was called early, until there is work: about a tenth of a millisecond.
const LOOKS_FOR_WORK: usize = 8192;

/// The threads on which a step runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads {
    pool: Pool,
    /// The number of times that there has been work.
    runs: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Default)]
enum Pool {
    /// Rayon's pool: the current one, else the global one.
    #[default]
    Shared,
    /// The calling thread alone.
    Serial,
    /// The calling thread, and a pool of the optimizer's own.
    Own(Arc<ThreadPool>),
}

impl Threads {
    pub(crate) fn new(count: Option<usize>) -> Result<Self, Error> {
        let on = |pool| Self { pool, ..Self::default() };
        let threads = match count {
            None => return Ok(on(Pool::Shared)),
            Some(1) => return Ok(on(Pool::Serial)),
            Some(threads) => threads,
        };
        let pool = match threads {
            0 => Err("a step needs at least 1".to_owned()),
            _ => ThreadPoolBuilder::new().num_threads(threads - 1).build().map_err(|error| error.to_string()),
        };
        pool.map(|pool| on(Pool::Own(Arc::new(pool)))).map_err(|reason| Error::Threads { threads, reason })
    }

    /// The number of threads.
    fn count(&self) -> usize {
        match &self.pool {
            Pool::Shared => rayon::current_num_threads(),
            Pool::Serial => 1,
            Pool::Own(pool) => pool.current_num_threads() + 1,
        }
    }

    /// Wakes the helpers if there will be work on `total` elements, while the calling thread prepares the work. Helpers
    /// wait for it, but not for long.
    pub(crate) fn call(&self, total: usize) {
        if !is_worth_waking(total) {
            return;
        }
        for _ in 1..self.count() {
            let runs = Arc::clone(&self.runs);
            let before = runs.load(Ordering::Relaxed);
            let waiting = move || {
                (0..LOOKS_FOR_WORK)
                    .take_while(|_| runs.load(Ordering::Relaxed) == before)
                    .for_each(|_| hint::spin_loop());
            };
            match &self.pool {
                Pool::Own(pool) => pool.spawn(waiting),
                _ => rayon::spawn(waiting),
            }
        }
    }

    /// The shares into which a total of elements is divided.
    pub(crate) fn shares(&self, total: usize) -> Shares {
        let threads = self.count();
        let least = match threads {
            1 => usize::MAX,
            _ => total.div_ceil(SLICES * threads).next_multiple_of(CHUNK).max(CHUNK),
        };
        Shares { threads, least }
    }

    /// Runs `work` over all items, on several threads if there is enough work. The result does not depend on which
    /// thread takes which items: `work` computes each item on its own.
    pub(crate) fn run<I: Send>(
        &self,
        items: &mut [I],
        size: impl Fn(&I) -> usize + Sync,
        work: impl Fn(&mut [I]) + Sync,
    ) {
        let total = items.iter().map(&size).sum();
        let helpers = if is_worth_waking(total) { self.count() - 1 } else { 0 };
        if helpers == 0 {
            return work(items);
        }
        let queue = Queue { rest: Mutex::new((items, total)), shares: self.shares(total), size: &size };
        let busy = AtomicUsize::new(helpers);
        let work_off = || {
            while let Some(items) = queue.next() {
                work(items);
            }
        };
        self.runs.fetch_add(1, Ordering::Relaxed);
        match &self.pool {
            Pool::Own(pool) => pool.in_place_scope(|scope| fork(scope, helpers, &work_off, &busy)),
            _ => rayon::in_place_scope(|scope| fork(scope, helpers, &work_off, &busy)),
        }
    }
}

/// Whether there is enough work for another thread. Threads of a pool are awake already.
fn is_worth_waking(total: usize) -> bool {
    total >= WORTH_WAKING || (total > CHUNK && rayon::current_thread_index().is_some())
}

/// The division of elements into shares for threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    threads: usize,
    /// The fewest elements that a thread takes: whole chunks; all elements if there is only one thread. It grows with
    /// the total, so that the number of slices does not.
    pub(crate) least: usize,
}

impl Shares {
    /// The number of elements that a thread takes next, when `left` elements are left.
    pub(crate) fn of(&self, left: usize) -> usize {
        if left <= self.least {
            return self.least;
        }
        left.div_ceil(SHARES * self.threads).next_multiple_of(CHUNK).max(self.least)
    }
}

/// Starts the helpers, and works on the calling thread at once, without waiting until the helpers are awake.
fn fork<'s>(scope: &Scope<'s>, helpers: usize, work_off: &'s (impl Fn() + Sync), busy: &'s AtomicUsize) {
    for _ in 0..helpers {
        scope.spawn(|_| {
            work_off();
            busy.fetch_sub(1, Ordering::Relaxed);
        });
    }
    work_off();
    (0..LOOKS).take_while(|_| busy.load(Ordering::Relaxed) > 0).for_each(|_| hint::spin_loop());
}

/// The items that no thread has taken yet.
struct Queue<'q, 'i, I, S> {
    /// The items, and their total size.
    rest: Mutex<(&'i mut [I], usize)>,
    shares: Shares,
    size: &'q S,
}

impl<'i, I, S: Fn(&I) -> usize> Queue<'_, 'i, I, S> {
    /// Takes the next share of items.
    fn next(&self) -> Option<&'i mut [I]> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let (items, total) = mem::take(&mut *rest);
        let (count, size) = self.count(items, self.shares.of(total));
        let (taken, left) = items.split_at_mut(count);
        *rest = (left, total - size);
        (!taken.is_empty()).then_some(taken)
    }

    /// The number of first items that make a share, and their size; at least one item, if there are any.
    fn count(&self, items: &[I], share: usize) -> (usize, usize) {
        let (mut total, mut count) = (0, 0);
        for item in items {
            let size = (self.size)(item);
            if count > 0 && total + size > share {
                break;
            }
            (total, count) = (total + size, count + 1);
        }
        (count, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        for sizes in [vec![], vec![1], vec![10 * CHUNK, 1, 1], vec![1; 9], vec![CHUNK; 33], vec![0, 0, 8 * CHUNK, 0]] {
            for threads in [Some(1), Some(2), Some(7), None] {
                let mut items: Vec<(usize, u32)> = sizes.iter().map(|&size| (size, 0)).collect();
                let threads = Threads::new(threads).unwrap();
                threads.run(&mut items, |item| item.0, |items| items.iter_mut().for_each(|item| item.1 += 1));
                assert!(items.iter().all(|item| item.1 == 1), "{items:?}");
            }
        }
    }

    /// The number of elements taken each time, of items of one chunk.
    fn taken(threads: usize, chunks: usize) -> Vec<usize> {
        let mut items = vec![CHUNK; chunks];
        let shares = Threads::new(Some(threads)).unwrap().shares(chunks * CHUNK);
        let queue = Queue { rest: Mutex::new((&mut items, chunks * CHUNK)), shares, size: &|&item: &usize| item };
        std::iter::from_fn(|| queue.next()).map(|items| items.len()).collect()
    }

    #[test]
    fn shares_get_smaller_to_the_end() {
        assert_eq!(taken(2, 20), [3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(taken(4, 3), [1, 1, 1]);
        // Never less than one part in 64 of everything.
        let many = taken(2, 192);
        assert_eq!((&many[..3], many.iter().sum()), (&[24, 21, 19][..], 192));
        assert_eq!(many[..many.len() - 1].iter().min(), Some(&3));
        assert_eq!(Threads::new(Some(1)).unwrap().shares(CHUNK).least, usize::MAX);
    }

    #[test]
    fn items_are_taken_until_they_are_a_share() {
        let shares = Threads::new(Some(2)).unwrap().shares(1);
        let queue = Queue { rest: Mutex::new((&mut [][..], 0)), shares, size: &|&item: &usize| item };
        let count = |share| queue.count(&[3, 2, 2, 4], share);
        // At least one item.
        assert_eq!([0, 3, 4, 5, 7, 10, 11].map(count), [(1, 3), (1, 3), (1, 3), (2, 5), (3, 7), (3, 7), (4, 11)]);
    }

    #[test]
    fn threads_of_a_pool_are_awake() {
        assert_eq!([CHUNK + 1, 4 * CHUNK - 1, 4 * CHUNK].map(is_worth_waking), [false, false, true]);
        let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| [CHUNK, CHUNK + 1].map(is_worth_waking)), [false, true]);
    }

    #[test]
    fn a_step_needs_a_thread() {
        assert!(matches!(Threads::new(Some(0)), Err(Error::Threads { threads: 0, .. })));
    }
}
