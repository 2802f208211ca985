//! The training loop of one rank.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use optimizers::checkpoint;
use optimizers::mesh::{Distributed, Mesh, MeshError};
use optimizers::{
    DynOptimizer, Ema, Error, Lookahead, Nadam, NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd, UpdateRule,
};

use crate::args::Args;
use crate::checkpoints::{Checkpoints, Position};
use crate::digits::Digits;
use crate::model::Mlp;
use crate::random::Random;

/// The number of images in a step, over all ranks. The rest at the end of an epoch is left out.
pub(crate) const BATCH: usize = 32;

type Builder = OptimizerBuilder<Box<dyn UpdateRule<f32>>, f32>;

/// The optimizers, and their constructors.
pub(crate) fn contestants() -> [(&'static str, Builder); 4] {
    [
        ("sgd-momentum", Optimizer::builder(Sgd::new(0.1).momentum(0.9)).boxed()),
        ("nadam-clipped", Optimizer::builder(Nadam::new(0.002)).boxed().global_clipnorm(1.0)),
        ("novograd", Optimizer::builder(NovoGrad::new(0.02)).boxed()),
        ("ranger-ema", Optimizer::builder(Lookahead::new(RectifiedAdam::new(0.01))).boxed().ema(Ema::new(0.99))),
    ]
}

/// The result of one optimizer.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) model: Mlp,
    /// The time since it was started.
    pub(crate) steps: u32,
    /// The time without the gradients of the network.
    pub(crate) step_time: Duration,
    /// The part of it that is spent in calls between ranks, including waiting.
    pub(crate) communication: f64,
    /// The state that this rank keeps.
    pub(crate) state_bytes: usize,
}

/// The reason why a training ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Optimizer(#[from] Error),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error("{path} has checkpoints: use --resume, or choose another folder", path = path.display())]
    NotResumed { path: PathBuf },
    #[error("{path} is of another training", path = path.display())]
    OtherTraining { path: PathBuf },
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Trains with every optimizer, over all ranks of the mesh.
pub(crate) fn train_all(mesh: &Mesh, args: &Args, digits: &Digits) -> Result<Vec<Run>, Failure> {
    let progress = progress(mesh, args);
    let runs = contestants().into_iter().map(|(name, builder)| {
        progress.set_prefix(name);
        let mut distributed = Distributed::new(mesh).mean_gradients_over(["batch"]).overlap(args.overlap);
        if args.shard_state {
            distributed = distributed.shard_state_over("batch");
        }
        if args.overlap {
            distributed = distributed.bucket_bytes(2048);
        }
        let optimizer = builder.distributed(distributed.build()?).build()?;
        let place = (mesh.rank(), mesh.ranks());
        let open = |folder: &PathBuf| Checkpoints::open(mesh, &folder.join(name), args.resume);
        let mut checkpoints = args.checkpoint.as_ref().map(open).transpose()?;
        let before = mesh.traffic().time;
        let on_epoch = |resumed: Option<&str>| match resumed {
            None => progress.inc(1),
            Some(from) if mesh.rank() == 0 => progress.suspend(|| {
                // A closed standard error is no reason to stop.
                let _ = writeln!(io::stderr(), "{name}: resumed from {from}");
            }),
            Some(_) => {}
        };
        let mut run = train(name, optimizer, place, args, digits, checkpoints.as_mut(), on_epoch)?;
        let saving = checkpoints.map_or(Duration::ZERO, |checkpoints| checkpoints.spent);
        let spent = (mesh.traffic().time - before).saturating_sub(saving);
        let steps = f64::from(run.steps.max(1));
        run.communication = spent.as_secs_f64() / (run.step_time.as_secs_f64() * steps).max(f64::MIN_POSITIVE);
        Ok(run)
    });
    let runs = runs.collect();
    progress.finish_and_clear();
    runs
}

/// Trains a new model, or one from a checkpoint, as one of `place.1` ranks, which share each batch. `on_epoch` gets
/// the point from which the training resumes, and then each epoch.
pub(crate) fn train(
    name: &'static str,
    mut optimizer: DynOptimizer<f32>,
    (rank, ranks): (usize, usize),
    args: &Args,
    digits: &Digits,
    mut checkpoints: Option<&mut Checkpoints<'_>>,
    on_epoch: impl Fn(Option<&str>),
) -> Result<Run, Failure> {
    let mut random = Random::new(args.seed);
    let mut model = Mlp::new(&mut random);
    let order = (0..digits.training.len()).collect();
    let mut at = Position { epochs: 0, seed: args.seed, random, order };
    if let Some(checkpoints) = &mut checkpoints
        && let Some(from) = checkpoints.resume(&mut optimizer, &mut model, &mut at)?
    {
        on_epoch(Some(&from));
        (0..at.epochs).for_each(|_| on_epoch(None));
    }
    let (mut time, mut steps) = (Duration::ZERO, 0);
    while at.epochs < args.epochs {
        // The same on all ranks.
        at.random.shuffle(&mut at.order);
        for batch in at.order.chunks_exact(BATCH) {
            let own = &batch[BATCH / ranks * rank..][..BATCH / ranks];
            let gradients = model.gradients(&digits.training.pick(own), optimizer.loss_scale());
            let start = Instant::now();
            optimizer.step(&mut model, &gradients)?;
            time += start.elapsed();
            steps += 1;
        }
        at.epochs += 1;
        if let Some(checkpoints) = &mut checkpoints {
            checkpoints.save(&optimizer, &model, &at)?;
        }
        on_epoch(None);
    }
    if optimizer.slot_names().contains(&Ema::SLOT) {
        optimizer.finalize_variable_values(&mut model)?;
    }
    let step_time = time / steps.max(1);
    Ok(Run { name, model, steps, step_time, communication: 0.0, state_bytes: optimizer.state_bytes() })
}

/// A bar on rank 0, no output on the other ranks.
fn progress(mesh: &Mesh, args: &Args) -> ProgressBar {
    if mesh.rank() != 0 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:16} [{wide_bar}] {pos}/{len} epochs, {eta} left");
    let style = style.expect("the template is valid").progress_chars("=> ");
    let bar = ProgressBar::new(contestants().len() as u64 * u64::from(args.epochs)).with_style(style);
    if bar.is_hidden() {
        // A closed standard error is no reason to stop.
        let _ = writeln!(io::stderr(), "training on {} ranks", mesh.ranks());
    }
    bar
}
