//! One line of the table: one layout of the same model.

use std::time::{Duration, Instant};

use ndarray::{Array2, ArrayD};
use opt_core::{Optimizer, OptimizerBuilder, Variable};
use opt_mesh::{Distributed, DistributedBuilder, Layout, Mesh, MeshError};
use opt_sgd::Sgd;

/// Eight variables with a million elements together.
const VARIABLES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const SHAPE: [usize; 2] = [512, 256];
const WARMUP: usize = 5;
const STEPS: usize = 40;

/// The layout of the model over the ranks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// Every rank has the whole model, and gradients of its own data.
    Replicated,
    /// The same, in buckets that are reduced while others are applied.
    Overlapped,
    /// The same, with sharded state.
    ShardedState,
    /// Every rank has some rows of each variable; the global norm is clipped.
    Sharded,
}

pub(crate) const WAYS: [Way; 4] = [Way::Replicated, Way::Overlapped, Way::ShardedState, Way::Sharded];

pub(crate) const TITLES: &str =
    "ranks  layout         ms/step  communication %  sums/step  MB summed  gathers/step  MB gathered";

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Overlapped => "overlapped",
            Self::ShardedState => "sharded state",
            Self::Sharded => "sharded",
        }
    }

    fn layout(self) -> Layout {
        if matches!(self, Self::Sharded) { Layout::new([Some("x"), None]) } else { Layout::replicated() }
    }

    fn distributed(self, builder: DistributedBuilder) -> DistributedBuilder {
        match self {
            Self::Replicated => builder.mean_gradients_over(["x"]),
            Self::Overlapped => builder.mean_gradients_over(["x"]).bucket_bytes(1 << 20).overlap(true),
            Self::ShardedState => builder.mean_gradients_over(["x"]).shard_state_over("x"),
            Self::Sharded => builder,
        }
    }

    fn options(self, builder: OptimizerBuilder<Sgd, f32>) -> OptimizerBuilder<Sgd, f32> {
        if matches!(self, Self::Sharded) { builder.global_clipnorm(1.0) } else { builder }
    }
}

/// Measures on this rank; all ranks call this. Returns the median time of a step, and the traffic of one step.
pub(crate) fn row(mesh: &Mesh, way: Way) -> Result<String, MeshError> {
    let mut builder = Distributed::new(mesh);
    for name in VARIABLES {
        builder = builder.layout(name, &SHAPE, way.layout());
    }
    let distributed = way.distributed(builder).build()?;
    // One thread a rank, as on a machine with as many cores as ranks.
    let builder = way.options(Optimizer::builder(Sgd::new(0.1).momentum(0.9))).threads(1);
    let mut opt = builder.distributed(distributed).build().expect("the options are valid");
    let shard = |value: f32| mesh.scatter(&way.layout(), &Array2::from_elem(SHAPE, value).into_dyn().view());
    let gradient: ArrayD<f32> = shard(1e-3)?;
    let mut values = VARIABLES.map(|_| gradient.clone());
    let mut times = Vec::with_capacity(STEPS);
    let mut before = mesh.traffic();
    for step in 0..WARMUP + STEPS {
        if step == WARMUP {
            before = mesh.traffic();
        }
        let start = Instant::now();
        let variables = VARIABLES.into_iter().zip(&mut values);
        let variables = variables.map(|(name, value)| Variable::new(name, value).gradient(&gradient));
        opt.apply_gradients(variables).expect("all ranks make the same step");
        if step >= WARMUP {
            times.push(start.elapsed());
        }
    }
    let after = mesh.traffic();
    let each = |count: u64| count as f64 / STEPS as f64;
    let share = (after.time - before.time).div_duration_f64(times.iter().sum::<Duration>());
    times.sort_unstable();
    Ok(format!(
        "{:>5}  {:13}  {:>7.3}  {:>15.0}  {:>9.0}  {:>9.3}  {:>12.0}  {:>11.3}",
        mesh.ranks(),
        way.name(),
        times[STEPS / 2].as_secs_f64() * 1e3,
        100.0 * share,
        each(after.sums - before.sums),
        each(after.sum_bytes - before.sum_bytes) / 1e6,
        each(after.gathers - before.gathers),
        each(after.gather_bytes - before.gather_bytes) / 1e6,
    ))
}
