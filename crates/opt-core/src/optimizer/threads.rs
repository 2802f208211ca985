//! One fork and one join over all variables at once.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Error;

/// Elements that one thread works on at a time; a multiple of [`BLOCK`](crate::rule::BLOCK).
pub(crate) const CHUNK: usize = 64 * 1024;

/// Below this many elements in all, waking another thread takes longer than the work.
const WORTH_WAKING: usize = 4 * CHUNK;

/// Where a step runs.
#[derive(Debug, Clone, Default)]
pub(crate) enum Threads {
    /// On rayon's pool: the current one, else the global one.
    #[default]
    Shared,
    /// On the calling thread.
    Serial,
    /// On a pool of its own.
    Own(Arc<ThreadPool>),
}

impl Threads {
    pub(crate) fn new(count: Option<usize>) -> Result<Self, Error> {
        let threads = match count {
            None => return Ok(Self::Shared),
            Some(1) => return Ok(Self::Serial),
            Some(threads) => threads,
        };
        let pool = match threads {
            0 => Err("a step needs at least 1".to_owned()),
            _ => ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| error.to_string()),
        };
        pool.map(|pool| Self::Own(Arc::new(pool))).map_err(|reason| Error::Threads { threads, reason })
    }

    /// Runs `work` over all items, on several threads if it is worth it. Which thread gets which items does not
    /// matter to the result: `work` treats each of them by itself.
    pub(crate) fn run<I: Send>(
        &self,
        items: &mut [I],
        size: impl Fn(&I) -> usize + Sync,
        work: impl Fn(&mut [I]) + Sync,
    ) {
        let total = items.iter().map(&size).sum();
        match self {
            Self::Own(pool) if total >= WORTH_WAKING => pool.install(|| fork(items, total, &size, &work)),
            Self::Shared if total >= WORTH_WAKING || rayon::current_thread_index().is_some() => {
                fork(items, total, &size, &work);
            }
            _ => work(items),
        }
    }
}

/// Halves the items by size until they are small enough for one thread.
fn fork<I: Send>(
    items: &mut [I],
    total: usize,
    size: &(impl Fn(&I) -> usize + Sync),
    work: &(impl Fn(&mut [I]) + Sync),
) {
    if total <= CHUNK || items.len() < 2 {
        return work(items);
    }
    let (mut left, mut count) = (0, 0);
    for item in &*items {
        let size = size(item);
        if count > 0 && left + size > total.div_ceil(2) {
            break;
        }
        left += size;
        count += 1;
    }
    let (first, second) = items.split_at_mut(count.min(items.len() - 1).max(1));
    let first_total = first.iter().map(size).sum();
    rayon::join(|| fork(first, first_total, size, work), || fork(second, total - first_total, size, work));
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

    #[test]
    fn a_step_needs_a_thread() {
        assert!(matches!(Threads::new(Some(0)), Err(Error::Threads { threads: 0, .. })));
    }
}
