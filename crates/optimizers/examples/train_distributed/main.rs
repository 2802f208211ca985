//! Trains a small network on images of handwritten digits, data-parallel over several ranks, and compares the result
//! with that of one rank.
//!
//! ```text
//! cargo run --release --example train_distributed
//! cargo run --release --example train_distributed -- --ranks 2 --shard-state
//! cargo run --release --example train_distributed -- --checkpoint out/sharded --epochs 5
//! cargo run --release --example train_distributed -- --checkpoint out/sharded --resume --ranks 2
//! ```
//!
//! Here ranks are threads. The package `opt-mesh-mpi` has the same example for processes:
//!
//! ```text
//! cd crates/opt-mesh-mpi
//! cargo build --release --example train_distributed
//! mpirun -n 4 target/release/examples/train_distributed
//! ```
//!
//! * `training.rs`: the training loop of a rank
//! * `checkpoints.rs`: how ranks save and resume a training together
//! * `report.rs`: the table, and the result of one rank on the same batches
//! * the digits, the network and the random numbers are those of the example `train`

mod args;
mod checkpoints;
#[path = "../train/digits.rs"]
mod digits;
#[path = "../train/model.rs"]
mod model;
#[path = "../train/random.rs"]
mod random;
mod report;
mod training;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use optimizers::mesh::Mesh;

use args::Args;
use digits::Digits;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let digits = Digits::load();
    let ranks = Mesh::threads(&[("batch", args.ranks)], |mesh| training::train_all(mesh, args, &digits))?;
    let runs = ranks.into_iter().collect::<Result<Vec<_>, _>>()?.swap_remove(0);
    Ok(report::print(args.ranks, &runs, args, &digits)?)
}
