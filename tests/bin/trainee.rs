//! Trains, saves every few steps, and resumes from the newest checkpoint when it is started again.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use optimizers::MomentStorage;
use optimizers::checkpoint::{Checkpoint, CheckpointDir};
use optimizers::mesh::Mesh;
use tests::trainee::{Trainee, dimensions};

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

    /// Trains on so many ranks, one thread each; more than one write sharded checkpoints
    #[arg(long, value_name = "N", default_value_t = 1)]
    ranks: usize,

    /// Keeps moments in bfloat16, rounded by this seed
    #[arg(long, value_name = "SEED")]
    bf16: Option<u64>,

    /// Keeps moments in 8 bits, rounded by this seed
    #[arg(long, value_name = "SEED", conflicts_with = "bf16")]
    float8: Option<u64>,

    /// Goes on without the state of the optimizer, to see that it is noticed
    #[arg(long)]
    forget_state: bool,

    /// Writes checkpoints where they will be, to see that it is noticed
    #[arg(long)]
    write_in_place: bool,
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

type Failure = Box<dyn std::error::Error>;

fn run(args: &Args) -> Result<(), Failure> {
    if args.ranks == 1 {
        return train(args, None);
    }
    let ended =
        Mesh::threads(&dimensions(args.ranks), |mesh| train(args, Some(mesh)).map_err(|error| error.to_string()));
    Ok(ended?.into_iter().collect::<Result<(), String>>()?)
}

fn train(args: &Args, mesh: Option<&Mesh>) -> Result<(), Failure> {
    let created = match mesh {
        None => CheckpointDir::create(&args.directory),
        Some(mesh) => CheckpointDir::create_on(mesh.world(), &args.directory),
    };
    let mut directory = created?.keep(args.keep);
    let moments = match (args.bf16, args.float8) {
        (Some(seed), _) => MomentStorage::Bf16 { seed },
        (_, Some(seed)) => MomentStorage::Float8 { seed },
        (None, None) => MomentStorage::Full,
    };
    let mut trainee = Trainee::on(mesh, args.size, args.threads, moments)?;
    match &args.from {
        Some(path) => {
            let checkpoint = Checkpoint::open(path)?;
            checkpoint.verify()?;
            trainee.load(&checkpoint)?;
        }
        None => {
            let latest = match mesh {
                None => directory.open_latest_valid(),
                Some(mesh) => directory.open_latest_valid_on(mesh.world()),
            };
            if let Some(latest) = latest? {
                let new = trainee.optimizer.clone();
                trainee.load(&latest.checkpoint)?;
                if args.forget_state {
                    trainee.optimizer = new;
                }
            }
        }
    }
    eprintln!("position {}", trainee.position);
    loop {
        if args.write_in_place {
            write_in_place(&directory, &mut trainee)?;
        } else {
            directory.save_with(trainee.options(), &trainee.optimizer, &trainee.variables)?;
        }
        if trainee.position >= args.steps {
            return Ok(());
        }
        trainee.run_to((trainee.position + args.every).min(args.steps))?;
    }
}

/// The wrong way to save: the file has its final name before it is complete.
fn write_in_place(directory: &CheckpointDir, trainee: &mut Trainee) -> Result<(), Failure> {
    let number = directory.list()?.first().map_or(1, |newest| newest.number + 1);
    let name = format!("{number:08}-step-{}.safetensors", trainee.optimizer.iterations());
    let bytes = trainee.to_bytes()?;
    let mut file = File::create(directory.path().join(name))?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    // Long enough that some kill falls into this time.
    thread::sleep(Duration::from_millis(5));
    Ok(file.write_all(second)?)
}
