//! Kills a training over and over, and prints the counts: `cargo xtask kills`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tests::kills::{self, Plan};

/// Kills a training at random moments, resumes it, and compares its end with that of one that was left alone.
#[derive(Debug, Parser)]
struct Args {
    /// The program to kill; by default the one beside this
    #[arg(long, value_name = "FILE")]
    trainee: Option<PathBuf>,

    /// How often to kill
    #[arg(long, value_name = "N", default_value_t = 200)]
    times: usize,

    /// How many ranks train: more than one write sharded checkpoints
    #[arg(long, value_name = "N", default_value_t = 1)]
    ranks: usize,

    /// Decides the moments
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let beside = || std::env::current_exe().map(|path| path.with_file_name("trainee")).unwrap_or_default();
    let options = vec!["--ranks".to_owned(), args.ranks.to_string()];
    let plan = Plan { trainee: args.trainee.unwrap_or_else(beside), options, kills: args.times, seed: args.seed };
    let progress = |kills: usize| {
        if kills.is_multiple_of(20) {
            eprintln!("{kills} kills");
        }
    };
    match kills::run(&plan, progress) {
        Ok(outcome) => {
            println!("{outcome}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
