//! The command line. `cargo xtask bench` hands its own over.

use std::path::PathBuf;

use clap::Parser;
use regex::Regex;

/// Times every rule and the usual compositions against bare loops.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Fewer sizes, types and samples: less than two minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measures only what matches, as `rule/shape/dtype/threads`: `^nadam/10M/f32/2$`.
    #[arg(long, value_name = "REGEX")]
    pub(crate) filter: Option<Regex>,
    /// Compares with the results of another run.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Writes the results here, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where table, JSON and plots go.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// A command that speaks the protocol of peers; may be given several times. Its words are separated by blanks.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) peer: Vec<String>,
}
