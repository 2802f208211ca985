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

    /// Decides the first weights and the order of the images
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Each rank keeps a part of the optimizer's state only
    #[arg(long)]
    pub(crate) shard_state: bool,

    /// Reduces gradients in small buckets, each while the one before it is applied
    #[arg(long)]
    pub(crate) overlap: bool,

    /// Saves a checkpoint after each epoch, in a folder here for each optimizer
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Goes on from the checkpoints that are there, on however many ranks they were written
    #[arg(long, requires = "checkpoint")]
    pub(crate) resume: bool,
}

/// Ranks share each batch evenly.
fn ranks(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(ranks) if ranks > 0 && BATCH.is_multiple_of(ranks) => Ok(ranks),
        _ => Err(format!("expected a number that divides the {BATCH} images of a batch")),
    }
}
