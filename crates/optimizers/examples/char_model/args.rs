//! The command line.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, value_parser};

use crate::contestants::{CONTESTANTS, Contestant};

/// Trains a small language model once for each way to store the optimizer's state, and compares them.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Train only this contestant; may be repeated. The first one in the table is the one to compare with
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(CONTESTANTS.map(|c| c.name)))]
    only: Vec<String>,

    /// Steps of each training
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) steps: u64,

    /// The highest learning rate: it rises in the first tenth of the steps, then falls to 0 along half a cosine
    #[arg(long, value_name = "RATE", default_value_t = 0.005)]
    pub(crate) learning_rate: f64,

    /// Width of the two hidden layers
    #[arg(long, value_name = "N", default_value_t = 192, value_parser = value_parser!(u16).range(1..))]
    pub(crate) hidden: u16,

    /// Puts Lookahead around AdamW
    #[arg(long)]
    pub(crate) lookahead: bool,

    /// The first seed: of weights, batches and stochastic rounding
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(..=u64::MAX - 1_000))]
    pub(crate) seed: u64,

    /// The number of seeds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u64).range(1..=1_000))]
    pub(crate) seeds: u64,

    /// Folder for the plot, char_model.svg
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
}

impl Args {
    /// The contestants to train, in the order of the table.
    pub(crate) fn contestants(&self) -> Vec<Contestant> {
        let is_chosen = |c: &Contestant| self.only.is_empty() || self.only.iter().any(|name| name == c.name);
        CONTESTANTS.into_iter().filter(is_chosen).collect()
    }
}
