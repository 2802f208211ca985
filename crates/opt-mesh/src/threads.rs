//! Ranks as threads of one process.

mod hub;

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hub::{Hub, Seat};
use opt_core::collective::{Collective, CollectiveError};

use crate::error::MeshError;
use crate::mesh::{Engine, Mesh};

/// The default time for which a rank waits for the others.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

impl Mesh {
    /// Runs `rank` once for each rank of a mesh, each on a thread of its own, and returns the results in the order of
    /// the ranks. Ranks wait for each other for up to a minute.
    ///
    /// # Errors
    ///
    /// When two dimensions have the same name or one is empty. [`MeshError::RankPanicked`], after the other ranks
    /// have ended, too: their calls end with [`CollectiveError::RankLost`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ndarray::{Array1, array};
    /// use opt_core::{Optimizer, Variable};
    /// use opt_mesh::{Distributed, Mesh};
    /// use opt_sgd::Sgd;
    ///
    /// // Two ranks with the same variable, and gradients of different data.
    /// let values = Mesh::threads(&[("batch", 2)], |mesh| {
    ///     let distributed = Distributed::new(mesh).mean_gradients_over(["batch"]).build().unwrap();
    ///     let mut opt = Optimizer::builder(Sgd::new(0.5)).distributed(distributed).build().unwrap();
    ///     let (mut w, gradient) = (array![1.0], Array1::from_elem(1, mesh.rank() as f64));
    ///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&gradient)]).unwrap();
    ///     w[0]
    /// })?;
    /// assert_eq!(values, [0.75, 0.75]);
    /// # Ok::<(), opt_mesh::MeshError>(())
    /// ```
    pub fn threads<R: Send>(
        dimensions: &[(&str, usize)],
        rank: impl Fn(&Self) -> R + Sync,
    ) -> Result<Vec<R>, MeshError> {
        Self::threads_within(DEFAULT_LIMIT, dimensions, rank)
    }

    /// As [`threads`](Self::threads), with ranks that wait for each other for up to `limit`.
    ///
    /// # Errors
    ///
    /// As [`threads`](Self::threads).
    pub fn threads_within<R: Send>(
        limit: Duration,
        dimensions: &[(&str, usize)],
        rank: impl Fn(&Self) -> R + Sync,
    ) -> Result<Vec<R>, MeshError> {
        // A number of ranks that overflows is as wrong as none.
        let ranks = dimensions.iter().try_fold(1_usize, |ranks, (_, size)| ranks.checked_mul(*size)).unwrap_or(0);
        if ranks == 0 {
            return Err(MeshError::Sizes { sizes: dimensions.iter().map(|(_, size)| *size).collect(), ranks });
        }
        let team = Arc::new(Team::new(ranks, limit));
        let run = |own: usize| {
            let engine = Threads { team: Arc::clone(&team), rank: own };
            let result =
                catch_unwind(AssertUnwindSafe(|| Mesh::new(Arc::new(engine), dimensions).map(|mesh| rank(&mesh))));
            let reason = result
                .as_ref()
                .map_or_else(|panic| format!("panicked: {}", message(&**panic)), |_| "has ended".to_owned());
            team.leave(own, &reason);
            result
        };
        let results: Vec<thread::Result<_>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..ranks).map(|own| scope.spawn(move || run(own))).collect();
            threads.into_iter().map(|thread| thread.join().and_then(|result| result)).collect()
        });
        let results = (0..).zip(results).map(|(rank, result)| {
            result.unwrap_or_else(|panic| Err(MeshError::RankPanicked { rank, message: message(&*panic) }))
        });
        results.collect()
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

/// All ranks of a process.
#[derive(Debug)]
struct Team {
    limit: Duration,
    world: Arc<Hub>,
    /// The groups by their members.
    groups: Mutex<HashMap<Vec<usize>, Arc<Hub>>>,
}

impl Team {
    fn new(ranks: usize, limit: Duration) -> Self {
        let world = Arc::new(Hub::new((0..ranks).collect(), limit));
        Self { limit, world, groups: Mutex::default() }
    }

    fn group(&self, members: &[usize]) -> Arc<Hub> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry(members.to_vec()).or_insert_with(|| Arc::new(Hub::new(members.to_vec(), self.limit)));
        for (rank, reason) in self.world.gone() {
            group.leave(rank, &reason);
        }
        Arc::clone(group)
    }

    /// Tells ranks that wait for this one that it has ended.
    fn leave(&self, rank: usize, reason: &str) {
        self.world.leave(rank, reason);
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.values().for_each(|group| group.leave(rank, reason));
    }
}

/// One rank's connection to the others.
#[derive(Debug)]
struct Threads {
    team: Arc<Team>,
    rank: usize,
}

impl Engine for Threads {
    fn world(&self) -> Arc<dyn Collective> {
        Arc::new(Seat::new(Arc::clone(&self.team.world), self.rank))
    }

    fn group(&self, members: &[usize]) -> Result<Arc<dyn Collective>, CollectiveError> {
        let own = members.iter().position(|&rank| rank == self.rank).unwrap_or_default();
        Ok(Arc::new(Seat::new(self.team.group(members), own)))
    }
}
