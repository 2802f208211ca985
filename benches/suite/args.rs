//! The command line. `cargo xtask bench` passes its own arguments on.

use std::path::PathBuf;

use clap::Parser;
use regex::Regex;

/// Times every rule and the usual compositions against bare loops.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Fewer sizes, types and samples: less than two minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measures only matching benchmarks, named `rule/shape/dtype/threads`: `^nadam/10M/f32/2$`.
    #[arg(long, value_name = "REGEX")]
    pub(crate) filter: Option<Regex>,
    /// Compares with the results of another run.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Writes the results to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The folder for table, JSON and plots.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// Includes peers in Rust: the program of `benches/peers`.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) peers: Option<PathBuf>,
    /// Includes peers in Python, from a virtual environment with `benches/peers/requirements.txt`.
    #[arg(long, value_name = "VENV")]
    pub(crate) python: Option<PathBuf>,
}
