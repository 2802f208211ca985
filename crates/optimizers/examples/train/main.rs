//! Trains a small network on images of handwritten digits, once with every optimizer, and compares them.
//!
//! ```text
//! cargo run --release --example train
//! cargo run --release --example train -- --optimizer sgd-momentum --optimizer sgd-ema --epochs 10
//! cargo run --release --example train -- --config optimizer.json
//! cargo run --release --example train -- --checkpoint out/checkpoints --resume
//! ```
//!
//! It prints a table and writes the loss curves to `out/losses.svg` and `out/losses.csv`. The same seed gives the same
//! losses and accuracies; only the column of times differs from run to run.
//!
//! * `contestants.rs`: the optimizers, one line each
//! * `training.rs`: the training loop
//! * `checkpoints.rs`: how a training is saved and resumed
//! * `model.rs`: the network and its gradients, written by hand
//! * `precision.rs`: the network in float16
//! * the rest: data, random numbers, command line, table, plot

mod args;
mod checkpoints;
mod contestants;
mod digits;
mod failure;
mod files;
mod model;
mod plot;
mod precision;
mod progress;
mod random;
mod selection;
mod settings;
mod table;
mod training;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::Args;
use checkpoints::Checkpoints;
use digits::Digits;
use failure::Failure;
use files::Files;
use progress::Progress;
use selection::Entry;
use training::{Plan, Run};

fn main() -> ExitCode {
    let result = run(&Args::parse());
    result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

/// All errors in the input are found before the training starts.
fn run(args: &Args) -> Result<(), Failure> {
    let digits = Digits::load();
    let plan = Plan { epochs: args.epochs, seed: args.seed };
    let entries = selection::entries(args, plan.steps(&digits))?;
    let files = Files::create(&args.out)?;
    let runs = train_all(entries, &digits, &plan, args)?;
    files.write(&runs)?;
    print(&runs, &files).map_err(Failure::Print)
}

fn train_all(entries: Vec<Entry>, digits: &Digits, plan: &Plan, args: &Args) -> Result<Vec<Run>, Failure> {
    // All folders are opened before the first training, which may take long.
    let open = |entry: &Entry| match &args.checkpoint {
        Some(folder) => Checkpoints::open(&folder.join(&entry.name), args.resume),
        None => Ok(Checkpoints::none()),
    };
    let checkpoints = entries.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let progress = Progress::new(entries.len(), plan.epochs);
    let train = |(entry, checkpoints): (Entry, Checkpoints)| {
        progress.start(&entry.name);
        let name = entry.name.clone();
        let on_resume = |resumed| progress.resumed(&name, &resumed);
        let run = training::train(entry, digits, plan, checkpoints, on_resume, |epoch| progress.epoch(epoch));
        run.inspect(|run| progress.done(run))
    };
    entries.into_iter().zip(checkpoints).map(train).collect()
}

fn print(runs: &[Run], files: &Files) -> io::Result<()> {
    let mut out = io::stdout().lock();
    table::write(&mut out, runs)?;
    writeln!(out)?;
    for path in files.paths() {
        writeln!(out, "wrote {}", path.display())?;
    }
    out.flush()
}
