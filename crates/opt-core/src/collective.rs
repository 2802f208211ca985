//! Ranks that work on one model: the interface between the engine and whatever connects the ranks.
//!
//! A [`Collective`] is a group of ranks that sum, gather and broadcast together. A [`Distribution`] describes how
//! variables are distributed over ranks. `opt-mesh` implements both; the engine uses nothing else of it.

mod error;
mod numbers;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

pub use error::CollectiveError;
pub use numbers::Numbers;
pub(crate) use numbers::{append_bytes, from_bytes, read_bytes, to_bytes, width};

/// A group of ranks that communicate. Every rank of the group makes the same calls in the same order.
///
/// A call ends in the same way on all ranks: with the result, or with an error within a time limit. After a call has
/// ended with an error, the group may refuse all later ones.
pub trait Collective: Debug + Send + Sync {
    /// The number of ranks, at least 1.
    fn ranks(&self) -> usize;

    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Starts to sum the numbers of all ranks, element by element. All ranks give the same number of elements of the
    /// same type, and get the same bits.
    ///
    /// # Errors
    ///
    /// When the call cannot be started. Other errors are returned by [`Pending::wait`].
    fn start_sum(&self, numbers: Numbers) -> Result<Box<dyn Pending + '_>, CollectiveError>;

    /// The sum, element by element, of the numbers of all ranks.
    ///
    /// # Errors
    ///
    /// When a rank is lost or late, or the ranks do not make the same call.
    fn sum(&self, numbers: Numbers) -> Result<Numbers, CollectiveError> {
        self.start_sum(numbers)?.wait()
    }

    /// The bytes of each rank, in the order of the ranks. Ranks may give different numbers of bytes.
    ///
    /// # Errors
    ///
    /// When a rank is lost or late, or the ranks do not make the same call.
    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError>;

    /// The bytes of the rank `root`; the bytes of the other ranks are ignored.
    ///
    /// # Errors
    ///
    /// When a rank is lost or late, or the ranks do not make the same call.
    fn broadcast(&self, root: usize, bytes: Vec<u8>) -> Result<Vec<u8>, CollectiveError>;
}

/// A sum that has been started.
pub trait Pending {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// When a rank is lost or late, or the ranks do not make the same call.
    fn wait(self: Box<Self>) -> Result<Numbers, CollectiveError>;
}

/// The distribution of variables over ranks.
pub trait Distribution: Debug + Send + Sync {
    /// All ranks.
    fn world(&self) -> &dyn Collective;

    /// The placement of a variable; `shape` is the shape of this rank's array. A pure function.
    ///
    /// # Errors
    ///
    /// When the array is not this rank's shard.
    fn placement(&self, variable: &str, shape: &[usize]) -> Result<Arc<Placement>, CollectiveError>;

    /// Whether ranks keep slots for a part of their arrays only (sharded state), so that reading slots into variables
    /// takes all ranks.
    fn shards_state(&self) -> bool {
        false
    }

    /// The size in bytes, roughly, of the buckets in which gradients are reduced.
    fn bucket_bytes(&self) -> usize {
        25 << 20
    }

    /// Whether a bucket may be reduced while the bucket before it is being applied, where a step allows it. If a rank
    /// is lost in that time, the step is half applied.
    fn overlaps(&self) -> bool {
        false
    }
}

#[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
impl<D: Distribution + ?Sized> Distribution for Arc<D> {
    fn world(&self) -> &dyn Collective {
        (**self).world()
    }
    fn placement(&self, variable: &str, shape: &[usize]) -> Result<Arc<Placement>, CollectiveError> {
        (**self).placement(variable, shape)
    }
    fn shards_state(&self) -> bool {
        (**self).shards_state()
    }
    fn bucket_bytes(&self) -> usize {
        (**self).bucket_bytes()
    }
    fn overlaps(&self) -> bool {
        (**self).overlaps()
    }
}

/// The placement of one variable on the ranks.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The shape of the whole variable.
    pub shape: Vec<usize>,
    /// The layout in words; the text is the same on all ranks.
    pub layout: String,
    /// The index in the whole variable of the first element of this rank's array.
    pub offset: Vec<usize>,
    /// Whether the elements of this rank's array (or of its [part](Self::part)) count in sums and are written to
    /// checkpoints. Among equal arrays, exactly one does.
    pub counts: bool,
    /// The ranks over whose replicas the gradient is reduced, before any other stage; `None` if it is not reduced.
    pub replicas: Option<Replicas>,
    /// The part of this rank's array that this rank updates and keeps slots for; `None` for the whole array.
    pub part: Option<Part>,
}

/// Ranks that hold the same array, and compute gradients from different data.
#[derive(Debug, Clone)]
pub struct Replicas {
    /// The ranks.
    pub group: Arc<dyn Collective>,
    /// How their gradients are combined.
    pub reduction: Reduction,
}

/// How the gradients of replicas are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their sum, divided by the number of replicas.
    Mean,
}

/// One of the parts into which ranks that hold the same array divide it.
#[derive(Debug, Clone)]
pub struct Part {
    /// The ranks, in the order of their parts.
    pub group: Arc<dyn Collective>,
    /// The axis along which the array is cut.
    pub axis: usize,
    /// The range of each rank along the axis.
    pub ranges: Vec<Range<usize>>,
}

impl Part {
    /// The range of this rank along the axis.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.ranges[self.group.rank()].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A distribution that overrides none of the default methods, or all of them.
    #[derive(Debug)]
    struct Says<const SOMETHING: bool>;

    impl Distribution for Says<false> {
        fn world(&self) -> &dyn Collective {
            unreachable!("nobody asks")
        }
        fn placement(&self, _variable: &str, _shape: &[usize]) -> Result<Arc<Placement>, CollectiveError> {
            unreachable!("nobody asks")
        }
    }

    impl Distribution for Says<true> {
        fn world(&self) -> &dyn Collective {
            unreachable!("nobody asks")
        }
        fn placement(&self, _variable: &str, _shape: &[usize]) -> Result<Arc<Placement>, CollectiveError> {
            unreachable!("nobody asks")
        }
        fn shards_state(&self) -> bool {
            true
        }
        fn bucket_bytes(&self) -> usize {
            7
        }
        fn overlaps(&self) -> bool {
            true
        }
    }

    #[test]
    fn shared_distributions_say_the_same() {
        let options = |ranks: &dyn Distribution| (ranks.shards_state(), ranks.bucket_bytes(), ranks.overlaps());
        assert_eq!(options(&Says::<false>), (false, 25 << 20, false));
        assert_eq!(options(&Arc::new(Says::<false>)), (false, 25 << 20, false));
        assert_eq!(options(&Arc::new(Says::<true>)), (true, 7, true));
    }
}
