//! Times of saving, verifying and loading checkpoints, compared with `cp` of the same bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use optimizers::checkpoint::{Checkpoint, SaveOptions, save};
use optimizers::{Nadam, Optimizer, Parameters};

/// Rounds of all measurements, one after the other; the median is shown.
const ROUNDS: usize = 9;

/// Numbers of tensors, and of elements in each: 240 MB with the slots of Nadam, and 12 MB in small tensors.
const MODELS: [(usize, usize); 2] = [(20, 1_000_000), (1_000, 1_000)];

type Failure = Box<dyn std::error::Error>;

/// A model and its optimizer after a step.
struct Training {
    values: BTreeMap<String, Vec<f32>>,
    optimizer: Optimizer<Nadam, f32>,
}

impl Training {
    fn new(tensors: usize, size: usize) -> Result<Self, Failure> {
        let wave = |phase: usize| (0..size).map(|i| ((i * 7 + phase * 13) % 101) as f32 / 101.0 - 0.5).collect();
        let values = (0..tensors).map(|tensor| (format!("layers.{tensor}.kernel"), wave(tensor))).collect();
        let mut training = Self { values, optimizer: Self::optimizer()? };
        let gradient: Vec<f32> = wave(7);
        let variables = training.values.variables().into_iter();
        training.optimizer.apply_gradients(variables.map(|variable| variable.gradient(&gradient)))?;
        Ok(training)
    }

    fn optimizer() -> Result<Optimizer<Nadam, f32>, Failure> {
        Ok(Optimizer::new(Nadam::new(1e-3))?)
    }
}

/// The measurements, and their references.
const ROWS: [(&str, &str); 8] = [
    ("cp", "cp"),
    ("write", "cp"),
    ("cp, on the disk", "cp, on the disk"),
    ("save", "cp, on the disk"),
    ("verify", "cp"),
    ("load", "cp"),
    ("load into a new optimizer", "cp"),
    ("open", "cp"),
];

fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for (tensors, size) in MODELS {
        let folder = tempfile::tempdir_in(&folder)?;
        let mut training = Training::new(tensors, size)?;
        let mut times: [Vec<Duration>; ROWS.len()] = Default::default();
        for _ in 0..ROUNDS {
            let round = measure(folder.path(), &mut training)?;
            times.iter_mut().zip(round).for_each(|(times, time)| times.push(time));
        }
        let bytes = save(folder.path().join("a"), &training.optimizer, &training.values)?.bytes;
        print(tensors, size, bytes, &mut times);
    }
    Ok(())
}

/// One round. Each file is new, so that no measurement pays for the deferred writes of another one.
fn measure(folder: &Path, training: &mut Training) -> Result<[Duration; ROWS.len()], Failure> {
    let (file, copy) = (folder.join("file"), folder.join("copy"));
    let optimizer = training.optimizer.clone();
    let saved = timed(|| save(&file, &optimizer, &training.values).map(drop).map_err(Into::into))?;
    let copied = timed(|| cp(&file, &copy))?;
    fs::remove_file(&copy)?;
    let synced = timed(|| {
        cp(&file, &copy)?;
        Ok(File::open(&copy)?.sync_all()?)
    })?;
    fs::remove_file(&copy)?;
    let written = timed(|| {
        let mut writer = File::create(&copy)?;
        SaveOptions::new().write(&mut writer, &optimizer, &training.values)?;
        Ok(())
    })?;
    fs::remove_file(&copy)?;
    let opened = timed(|| Checkpoint::open(&file).map(drop).map_err(Into::into))?;
    let checkpoint = Checkpoint::open(&file)?;
    let verified = timed(|| Ok(checkpoint.verify()?))?;
    let mut known = optimizer;
    let loaded = timed(|| checkpoint.load(&mut known, &mut training.values).map(drop).map_err(Into::into))?;
    let mut new = Training::optimizer()?;
    let loaded_new = timed(|| checkpoint.load(&mut new, &mut training.values).map(drop).map_err(Into::into))?;
    fs::remove_file(&file)?;
    Ok([copied, written, synced, saved, verified, loaded, loaded_new, opened])
}

fn timed(work: impl FnOnce() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn cp(from: &Path, to: &Path) -> Result<(), Failure> {
    let status = Command::new("cp").arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err(format!("cp: {status}").into()) }
}

fn print(tensors: usize, size: usize, bytes: u64, times: &mut [Vec<Duration>]) {
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64()
        })
        .collect();
    println!("{tensors} tensors of {size} elements, {:.1} MB, median of {ROUNDS}", bytes as f64 / 1e6);
    println!("{:26} {:>9} {:>8} {:>14}", "", "ms", "GB/s", "speed of cp");
    for ((name, base), median) in ROWS.iter().zip(&medians) {
        let base = ROWS.iter().position(|(name, _)| name == base).map_or(f64::NAN, |row| medians[row]);
        println!("{name:26} {:9.2} {:8.2} {:14.2}", median * 1e3, bytes as f64 / 1e9 / median, base / median);
    }
    println!();
}
