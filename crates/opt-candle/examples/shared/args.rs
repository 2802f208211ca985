//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum, value_parser};

/// The optimizer that trains the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// AdamW of this library, with clipping, averages and checkpoints
    Adamw,
    /// AdamW of candle_nn, which has none of these; its rate is set before each step
    CandleAdamw,
}

/// Trains a model of candle with AdamW.
///
/// The same command resumes a run that was killed, from its last checkpoint.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The optimizer
    #[arg(long, value_enum, default_value_t = Choice::Adamw)]
    pub(crate) optimizer: Choice,

    /// The number of steps; by default about a minute's worth
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    steps: Option<u64>,

    /// The highest learning rate; it is reached after a tenth of the steps
    #[arg(long, value_name = "RATE", default_value_t = 3e-3)]
    pub(crate) learning_rate: f64,

    /// Seed of the first weights and of the order of the data
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Folder for checkpoints and for the loss curves; by default one of each program and optimizer in `out`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Starts anew, even if there are checkpoints
    #[arg(long)]
    pub(crate) fresh: bool,
}

impl Args {
    pub(crate) fn steps(&self, default: u64) -> u64 {
        self.steps.unwrap_or(default)
    }

    /// The folder of a program's files.
    pub(crate) fn folder(&self, program: &str) -> PathBuf {
        let optimizer = self.optimizer.to_possible_value().expect("no choice is hidden");
        self.out.clone().unwrap_or_else(|| ["out", &format!("{program}-{}", optimizer.get_name())].iter().collect())
    }
}
