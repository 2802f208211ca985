//! The command line.

use std::path::PathBuf;

use clap::{Parser, value_parser};

use crate::training::BATCH;

/// Trains a small network on handwritten digits, data-parallel over several ranks, and compares the result with that
/// of one rank.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// How many threads work together; under mpirun this is the number of processes instead
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = ranks)]
    pub(crate) ranks: usize,

    /// How often each optimizer sees the training images
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    pub(crate) epochs: u32,

    /// Seed of the first weights and the order of the images
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Shards the optimizer's state over the ranks
    #[arg(long)]
    pub(crate) shard_state: bool,

    /// Reduces gradients in small buckets, each while the previous one is applied
    #[arg(long)]
    pub(crate) overlap: bool,

    /// Saves a checkpoint after each epoch, in a subfolder of this folder for each optimizer
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Resumes from existing checkpoints, whatever the number of ranks that wrote them
    #[arg(long, requires = "checkpoint")]
    pub(crate) resume: bool,
}

/// Each batch must divide evenly among the ranks.
fn ranks(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(ranks) if ranks > 0 && BATCH.is_multiple_of(ranks) => Ok(ranks),
        _ => Err(format!("expected a number that divides the {BATCH} images of a batch")),
    }
}
