//! Trains, saves every few steps, and goes on from the newest checkpoint when it is started again.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use optimizers::MomentStorage;
use optimizers::checkpoint::{Checkpoint, CheckpointDir};
use tests::trainee::Trainee;

/// A training that can be killed and started again.
#[derive(Debug, Parser)]
struct Args {
    /// Folder of the checkpoints
    directory: PathBuf,

    /// Goes on from this file instead of the newest checkpoint
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Where the training ends
    #[arg(long, value_name = "N", default_value_t = 30)]
    steps: u64,

    /// Saves after so many steps
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: u64,

    /// Keeps so many checkpoints
    #[arg(long, value_name = "N", default_value_t = 3)]
    keep: usize,

    /// Elements of the largest variable
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    size: usize,

    /// Threads of a step
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,

    /// Keeps moments in bfloat16, rounded by this seed
    #[arg(long, value_name = "SEED")]
    bf16: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut directory = CheckpointDir::create(&args.directory)?.keep(args.keep);
    let moments = args.bf16.map_or(MomentStorage::Full, |seed| MomentStorage::Bf16 { seed });
    let mut trainee = Trainee::new(args.size, args.threads, moments)?;
    match &args.from {
        Some(path) => {
            let checkpoint = Checkpoint::open(path)?;
            checkpoint.verify()?;
            trainee.load(&checkpoint)?;
        }
        None => {
            if let Some(latest) = directory.open_latest_valid()? {
                trainee.load(&latest.checkpoint)?;
            }
        }
    }
    eprintln!("position {}", trainee.position);
    loop {
        directory.save_with(trainee.options(), &trainee.optimizer, trainee.variables.named())?;
        if trainee.position >= args.steps {
            return Ok(());
        }
        trainee.run_to((trainee.position + args.every).min(args.steps))?;
    }
}
