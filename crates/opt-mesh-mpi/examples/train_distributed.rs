//! The example `train_distributed` of the crate `optimizers`, with processes of MPI for ranks.
//!
//! ```text
//! cargo build --release --example train_distributed
//! mpirun -n 4 target/release/examples/train_distributed
//! ```

#[path = "../../optimizers/examples/train_distributed/args.rs"]
mod args;
#[path = "../../optimizers/examples/train_distributed/checkpoints.rs"]
mod checkpoints;
#[path = "../../optimizers/examples/train/digits.rs"]
mod digits;
#[path = "../../optimizers/examples/train/model.rs"]
mod model;
#[path = "../../optimizers/examples/train/random.rs"]
mod random;
#[path = "../../optimizers/examples/train_distributed/report.rs"]
mod report;
#[path = "../../optimizers/examples/train_distributed/training.rs"]
mod training;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use opt_mesh::{Engine, Mesh};
use opt_mesh_mpi::Mpi;

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
    let mpi = Mpi::start()?;
    let ranks = mpi.world().ranks();
    if !training::BATCH.is_multiple_of(ranks) {
        return Err(format!("{ranks} ranks do not share the {} images of a batch evenly", training::BATCH).into());
    }
    let mesh = Mesh::new(mpi, &[("batch", ranks)])?;
    let runs = training::train_all(&mesh, args, &digits)?;
    // Only rank 0 prints: all ranks have the same model.
    Ok(if mesh.rank() == 0 { report::print(ranks, &runs, args, &digits)? } else { true })
}
