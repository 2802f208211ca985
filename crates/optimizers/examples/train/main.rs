//! Trains a small network on images of handwritten digits, once with every optimizer, and compares them.
//!
//! ```text
//! cargo run --release --example train
//! cargo run --release --example train -- --optimizer sgd-momentum --optimizer sgd-ema --epochs 10
//! cargo run --release --example train -- --config optimizer.json
//! ```
//!
//! It prints a table and writes the loss curves to `out/losses.svg` and `out/losses.csv`. The same seed gives the same
//! losses and accuracies; only the column of times differs from run to run.
//!
//! * `contestants.rs`: the optimizers, one line each
//! * `training.rs`: the training loop
//! * `model.rs`: the network and its gradients, written by hand
//! * the rest: data, random numbers, command line, table, plot

mod args;
mod contestants;
mod digits;
mod failure;
mod files;
mod model;
mod plot;
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

/// Everything that may be wrong with the input is found before the training starts.
fn run(args: &Args) -> Result<(), Failure> {
    let digits = Digits::load();
    let plan = Plan { epochs: args.epochs, seed: args.seed };
    let entries = selection::entries(args, plan.steps(&digits))?;
    let files = Files::create(&args.out)?;
    let runs = train_all(entries, &digits, &plan)?;
    files.write(&runs)?;
    print(&runs, &files).map_err(Failure::Print)
}

fn train_all(entries: Vec<Entry>, digits: &Digits, plan: &Plan) -> Result<Vec<Run>, Failure> {
    let progress = Progress::new(entries.len(), plan.epochs);
    let train = |entry: Entry| {
        progress.start(&entry.name);
        let name = entry.name.clone();
        let run = training::train(entry, digits, plan, |epoch| progress.epoch(epoch));
        run.inspect(|run| progress.done(run)).map_err(|error| Failure::Training { name, error })
    };
    entries.into_iter().map(train).collect()
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
