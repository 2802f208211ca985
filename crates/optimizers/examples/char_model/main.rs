//! Trains a small language model on the beginning of Shakespeare's works, once for each way to store the state of the
//! optimizer, and compares them.
//!
//! ```text
//! cargo run --release --example char_model
//! cargo run --release --example char_model -- --only f32 --only bf16-moments-float8 --seeds 1
//! cargo run --release --example char_model -- --steps 20 --learning-rate 1e-4 --hidden 32 --lookahead
//! ```
//!
//! All trainings of a seed have the same first weights and the same batches. The program prints a table, draws
//! `out/char_model.svg`, and lets the last model continue an empty line. The same seeds give the same losses; only the
//! column of times differs from run to run.
//!
//! * `contestants.rs`: the ways to store the state, one line each
//! * `training.rs`: the training loop
//! * `model.rs`: the network and its gradients, written by hand
//! * the rest: text, command line, progress, table, plot; random numbers are those of the example `train`

mod args;
mod contestants;
mod model;
mod plot;
mod progress;
#[path = "../train/random.rs"]
#[expect(dead_code, reason = "the example `train` also shuffles and resumes")]
mod random;
mod summary;
mod table;
mod text;
mod training;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::Args;
use progress::Progress;
use text::Text;
use training::{Plan, Run};

/// A contestant with its runs, one for each seed.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    runs: Vec<Run>,
}

fn main() -> ExitCode {
    let result = run(&Args::parse());
    result.map_or_else(
        |error| {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&args.out)?;
    let outcomes = train_all(args)?;
    let path = args.out.join("char_model.svg");
    fs::write(&path, plot::svg(&outcomes)?)?;
    let mut out = io::stdout().lock();
    table::write(&mut out, &outcomes)?;
    writeln!(out, "\nwrote {}", path.display())?;
    let last = outcomes.last().and_then(|outcome| outcome.runs.last());
    Ok(writeln!(out, "\n{}", last.map_or("", |run| &run.sample))?)
}

/// The contestants take turns, seed by seed.
fn train_all(args: &Args) -> Result<Vec<Outcome>, optimizers::Error> {
    let text = Text::load();
    let contestants = args.contestants();
    let mut outcomes: Vec<Outcome> = contestants.iter().map(|c| Outcome { name: c.name, runs: Vec::new() }).collect();
    let seeds = args.seed..args.seed + args.seeds;
    let progress = Progress::new(contestants.len() as u64 * args.seeds * args.steps);
    for seed in seeds {
        let plan = Plan { seed, ..Plan::of(args) };
        for (contestant, outcome) in contestants.iter().zip(&mut outcomes) {
            progress.start(contestant.name, seed);
            let run = training::train(contestant, &text, &plan, |loss| progress.step(loss))?;
            progress.done(contestant.name, seed, &run);
            outcome.runs.push(run);
        }
    }
    Ok(outcomes)
}
