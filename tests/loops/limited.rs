//! One instruction set at a time, on all processors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use opt_core::simd::{self, Level};

/// The lock of the limit, which applies to the whole process.
pub(crate) struct Limited(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Limited {
    pub(crate) fn begin() -> Self {
        static LIMIT: Mutex<()> = Mutex::new(());
        Self(LIMIT.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `work` in this instruction set and no other.
    pub(crate) fn run<R>(&self, level: Level, work: impl FnOnce() -> R) -> R {
        simd::limit(level);
        simd::take_ran();
        let result = work();
        assert_eq!(simd::take_ran(), [level], "loops ran elsewhere");
        simd::limit(Level::Avx512);
        result
    }
}

/// Does numbered pieces of work side by side; returns their results in order.
pub(crate) fn side_by_side<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        numbers.take_while(|&number| number < count).map(|number| (number, work(number))).collect::<Vec<_>>()
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let helpers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        helpers.into_iter().flat_map(|helper| helper.join().unwrap()).collect()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}
