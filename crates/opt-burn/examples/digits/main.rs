//! Trains a small convolutional network of burn on handwritten digits: with optimizers of this library, and with burn's
//! own AdamW beside them.
//!
//! `cargo run --release --manifest-path crates/opt-burn/Cargo.toml --example digits`
//!
//! The runs with optimizers of this library can be killed at any time. The same command resumes them from the last
//! epoch, and ends with the same bits.

mod data;
mod model;
mod optim;
mod plot;
mod training;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::Parser;

use optim::Choice;
use training::{Run, Settings};

/// Trains a convolutional network on handwritten digits.
#[derive(Debug, Parser)]
struct Args {
    /// The optimizers to train with, one after the other.
    #[arg(long, value_enum, default_values_t = [Choice::Nadam, Choice::Adamw, Choice::RuleAdamw, Choice::BurnAdamw])]
    optimizer: Vec<Choice>,
    /// The number of times that each image is used.
    #[arg(long, default_value_t = 12)]
    epochs: u64,
    /// The number of images of a step.
    #[arg(long, default_value_t = 48)]
    batch: usize,
    /// The learning rate after the warmup.
    #[arg(long, default_value_t = 4e-3)]
    learning_rate: f64,
    /// Runs with the same seed are the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder for checkpoints and the plot. Without its checkpoints, training starts anew.
    #[arg(long, default_value = "out/burn-digits")]
    out: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Args { optimizer, epochs, batch, learning_rate, seed, out } = Args::parse();
    let settings = Settings { epochs, batch, learning_rate, seed, out };
    let mut runs = Vec::new();
    for choice in optimizer {
        runs.push(training::train(choice, &settings)?);
    }
    print_table(&runs);
    let plot = settings.out.join("loss.svg");
    fs::write(&plot, plot::svg(&runs)?)?;
    println!("\nThe losses are plotted in {}.", plot.display());
    Ok(())
}

fn print_table(runs: &[Run]) {
    println!(
        "\n{:14} {:>8} {:>9} {:>9} {:>9} {:>9}  weights",
        "optimizer", "loss", "correct", "averaged", "images/s", "step"
    );
    for run in runs {
        let [correct, averaged] = [Some(run.correct), run.averaged].map(percent);
        let [images, step] = [run.images_a_second(), run.step_microseconds()].map(|number| match number {
            Some(number) => format!("{number:.0}"),
            None => "-".to_owned(),
        });
        let loss = run.losses.last().copied().unwrap_or(f64::NAN);
        println!(
            "{:14} {loss:8.5} {correct:>9} {averaged:>9} {images:>9} {step:>6} us  {:016x}",
            run.name, run.fingerprint
        );
    }
}

fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:.2} %", 100.0 * part))
}
