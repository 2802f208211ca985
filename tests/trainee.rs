//! A training with all features at once, to be stopped and resumed: clip, Lookahead around RectifiedAdam, averages that
//! overwrite, a schedule, a sparse gradient, a step that is skipped.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, ArrayD, IxDyn};
use opt_conformance::problem::{Rng, Variables};
use optimizers::checkpoint::{Checkpoint, Loaded, SaveOptions};
use optimizers::mesh::{Distributed, Layout, Mesh};
use optimizers::schedules::CosineDecay;
use optimizers::{Ema, Error, Lookahead, MomentStorage, NonFinite, Optimizer, RectifiedAdam, Variable};
use serde_json::json;

/// The rule of the training.
pub type Rule = Lookahead<RectifiedAdam>;

/// A gradient of this step is infinite, so the step is skipped and not counted.
pub const SKIPPED: u64 = 11;

/// The largest variable.
const KERNEL: &str = "kernel";

/// The only dimension of the mesh.
const RANKS: &str = "ranks";

const ROWS: usize = 40;
const WIDTH: usize = 8;

/// A training, and its progress.
#[derive(Debug, Clone)]
pub struct Trainee {
    /// The number of elements of the largest variable.
    size: usize,
    /// The ranks, if there are several.
    mesh: Option<Mesh>,
    /// The number of gradients that have been given; more than `iterations` after the skipped step.
    pub position: u64,
    /// The optimizer.
    pub optimizer: Optimizer<Rule, f32>,
    /// The model.
    pub variables: Variables<f32>,
}

impl Trainee {
    /// A training before its first step. `size` is the number of elements of the largest variable.
    ///
    /// # Errors
    ///
    /// No error is known: the options are in range.
    pub fn new(size: usize, threads: usize, moments: MomentStorage) -> Result<Self, Error> {
        Self::on(None, size, threads, moments)
    }

    /// One rank of a training on a mesh. The largest variable is sharded over all ranks, and so is the state of the
    /// others.
    ///
    /// # Errors
    ///
    /// No error is known: the options are in range.
    pub fn on(mesh: Option<&Mesh>, size: usize, threads: usize, moments: MomentStorage) -> Result<Self, Error> {
        let rule = RectifiedAdam::new(CosineDecay::new(0.0, 40).warmup(0.125, 5)).weight_decay(0.0625);
        let builder = Optimizer::builder(Lookahead::new(rule).sync_period(4))
            .global_clipnorm(2.0)
            .ema(Ema::new(0.875).overwrite_every(7))
            .non_finite(NonFinite::SkipStep)
            .moments(moments)
            .threads(threads);
        let optimizer = match mesh {
            None => builder.build()?,
            Some(mesh) => builder.distributed(distributed(mesh, size)).build()?,
        };
        let mut rng = Rng(1);
        let mut variable = |name: &str, shape: &[usize]| (name.to_owned(), numbers(&mut rng, shape));
        let mut variables =
            vec![variable(KERNEL, &[size]), variable("embedding", &[ROWS, WIDTH]), variable("bias", &[3])];
        variables[0].1 = own(mesh, &variables[0].1);
        Ok(Self { size, mesh: mesh.cloned(), position: 0, optimizer, variables: Variables(variables) })
    }

    /// Takes steps up to this position. The gradients of a step depend only on its number.
    ///
    /// # Errors
    ///
    /// No error is known: the gradients fit.
    pub fn run_to(&mut self, end: u64) -> Result<(), Error> {
        for number in self.position..end {
            self.step(number)?;
            self.position = number + 1;
        }
        Ok(())
    }

    fn step(&mut self, number: u64) -> Result<(), Error> {
        let mut rng = Rng(number.wrapping_mul(0x9e37_79b9) ^ 77);
        let mut kernel = numbers(&mut rng, &[self.size]);
        let bias = numbers(&mut rng, &[3]);
        if number == SKIPPED {
            kernel[[0]] = f32::INFINITY;
        }
        let kernel = own(self.mesh.as_ref(), &kernel);
        let rows: Vec<usize> = (0..rng.below(6)).map(|_| rng.below(ROWS)).collect();
        let values = Array2::from_shape_simple_fn((rows.len(), WIDTH), || rng.number() as f32);
        let variables = self.variables.0.iter_mut().map(|(name, value)| {
            let variable = Variable::new(name.as_str(), value);
            match name.as_str() {
                KERNEL => variable.gradient(&kernel),
                "embedding" => variable.sparse_gradient(&rows, &values),
                _ if number % 3 == 2 => variable,
                _ => variable.gradient(&bias),
            }
        });
        self.optimizer.apply_gradients(variables).map(|_| ())
    }

    /// The options for saving, with the position, which the optimizer does not know.
    #[must_use]
    pub fn options(&self) -> SaveOptions<'static> {
        SaveOptions::new().extra(json!({ "position": self.position }))
    }

    /// The complete training, as the bytes of a checkpoint.
    ///
    /// # Errors
    ///
    /// No error is known: there is enough memory.
    pub fn to_bytes(&mut self) -> Result<Vec<u8>, optimizers::checkpoint::Error> {
        let mut file = std::io::Cursor::new(Vec::new());
        self.options().write(&mut file, &self.optimizer, &self.variables)?;
        Ok(file.into_inner())
    }

    /// Goes to the position of a checkpoint.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load`].
    pub fn load(&mut self, checkpoint: &Checkpoint) -> Result<Loaded, optimizers::checkpoint::Error> {
        let loaded = checkpoint.load(&mut self.optimizer, &mut self.variables)?;
        self.position = loaded.extra["position"].as_u64().unwrap_or_default();
        Ok(loaded)
    }
}

/// The dimensions of a mesh of this number of ranks.
#[must_use]
pub fn dimensions(ranks: usize) -> [(&'static str, usize); 1] {
    [(RANKS, ranks)]
}

fn layout() -> Layout {
    Layout::new([Some(RANKS)])
}

fn distributed(mesh: &Mesh, size: usize) -> Arc<Distributed> {
    let builder = Distributed::new(mesh).layout(KERNEL, &[size], layout()).shard_state_over(RANKS);
    // All ranks compute the same gradients.
    let builder = builder.same_gradients_over([RANKS]);
    Arc::new(builder.build().expect("the mesh has this dimension"))
}

/// This rank's shard of the largest variable.
fn own(mesh: Option<&Mesh>, kernel: &ArrayD<f32>) -> ArrayD<f32> {
    mesh.map_or_else(
        || kernel.clone(),
        |mesh| mesh.scatter(&layout(), &kernel.view()).expect("the mesh has this dimension"),
    )
}

fn numbers(rng: &mut Rng, shape: &[usize]) -> ArrayD<f32> {
    ArrayD::from_shape_simple_fn(IxDyn(shape), || rng.number() as f32)
}

/// Every position of a training of this number of steps.
#[must_use]
pub fn positions(last: u64) -> Range<u64> {
    0..last + 1
}
