//! The command line.

use std::path::PathBuf;

use clap::{Parser, value_parser};

/// Trains a small network on handwritten digits with every optimizer, and compares them.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Train only with this optimizer: a name from the table, or a class name such as SGD for all of that class.
    /// May be repeated
    #[arg(long = "optimizer", value_name = "NAME", conflicts_with = "config")]
    pub(crate) optimizers: Vec<String>,

    /// Train only with the optimizer of this Keras configuration: {"class_name": ..., "config": {...}}
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How often each optimizer sees the training images
    #[arg(long, value_name = "N", default_value_t = 30, allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub(crate) epochs: u32,

    /// Seed of the first weights and the order of the images
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) seed: u64,

    /// Folder for the loss curves, losses.svg and losses.csv
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,

    /// Saves a checkpoint after each epoch, in a subfolder of this folder for each optimizer
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Resumes from existing checkpoints
    #[arg(long, requires = "checkpoint")]
    pub(crate) resume: bool,
}
