//! A training that is killed at random moments and started again, over and over.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use opt_conformance::problem::Rng;
use optimizers::checkpoint::{CheckpointDir, Error, Stored};

/// Steps of a training, and after how many of them it saves.
const STEPS: u64 = 60;
const EVERY: u64 = 1;

/// Elements of the largest variable: most of the time is spent on saving.
const SIZE: u64 = 60_000;

/// What commits a checkpoint of several ranks.
const MANIFEST: &str = "manifest.safetensors";

/// How to kill.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program `trainee`.
    pub trainee: PathBuf,
    /// More options of the program.
    pub options: Vec<String>,
    /// How often to kill it.
    pub kills: usize,
    /// Decides the moments.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How often a training was killed.
    pub kills: usize,
    /// How many of these hit while a checkpoint was being written, or removed: half of one was left.
    pub while_saving: usize,
    /// How often it had been killed before its first checkpoint.
    pub before_saving: usize,
    /// How many trainings came to their end, each with the bytes of one that was never killed.
    pub trainings: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, while_saving, before_saving, trainings } = self;
        write!(
            f,
            "{kills} kills, {while_saving} of them while a checkpoint was being written, {before_saving} before the \
             first one; {trainings} trainings ended, all with the bytes of one that was never killed"
        )
    }
}

/// What must not happen.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The program could not be started, or a folder not made.
    #[error("cannot start {path}: {error}", path = path.display())]
    Start {
        /// What was to be started.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The program ended by itself with an error.
    #[error("after {kills} kills the training failed: {output}")]
    Failed {
        /// How often one was killed before.
        kills: usize,
        /// What it said.
        output: String,
    },
    /// No checkpoint was whole, though there had been one.
    #[error("after {kills} kills there is no valid checkpoint: {reason}")]
    NoneValid {
        /// How often one was killed before.
        kills: usize,
        /// What was found.
        reason: String,
    },
    /// The newest checkpoint is older than one that was there before.
    #[error("after {kills} kills the newest checkpoint is {found}, it had been {before}")]
    Lost {
        /// How often one was killed before.
        kills: usize,
        /// The number of the newest one.
        found: u64,
        /// The number of the newest one before.
        before: u64,
    },
    /// Another result.
    #[error("after {kills} kills the training ended with other bytes")]
    Differs {
        /// How often one was killed before.
        kills: usize,
    },
}

/// Kills and resumes trainings as often as planned. Each comes to its end, and has to end with the same bytes as one
/// that is left alone.
///
/// # Errors
///
/// The first thing that must not happen.
pub fn run(plan: &Plan, mut progress: impl FnMut(usize)) -> Result<Outcome, Failure> {
    let start = |error| Failure::Start { path: plan.trainee.clone(), error };
    let folder = tempfile::tempdir().map_err(start)?;
    let alone = folder.path().join("alone");
    let began = Instant::now();
    let output = command(plan, &alone).output().map_err(start)?;
    let whole = began.elapsed();
    let want = finished(&alone, &output, 0)?;
    let (mut outcome, mut rng) = (Outcome::default(), Rng(plan.seed));
    while outcome.kills < plan.kills {
        let directory = folder.path().join(format!("killed-{}", outcome.trainings));
        let mut newest = 0;
        loop {
            let mut child = command(plan, &directory).stderr(Stdio::piped()).spawn().map_err(start)?;
            let patience = whole.mul_f64(0.3 * rng.number().abs());
            if outcome.kills >= plan.kills || !killed(&mut child, patience).map_err(start)? {
                let output = child.wait_with_output().map_err(start)?;
                if finished(&directory, &output, outcome.kills)? != want {
                    return Err(Failure::Differs { kills: outcome.kills });
                }
                break;
            }
            outcome.kills += 1;
            newest = inspect(&directory, newest, &mut outcome)?;
            progress(outcome.kills);
        }
        outcome.trainings += 1;
    }
    Ok(outcome)
}

fn command(plan: &Plan, directory: &Path) -> Command {
    let mut command = Command::new(&plan.trainee);
    let number = |option: &str, value: u64| [option.to_owned(), value.to_string()];
    command.arg(directory).args(number("--steps", STEPS)).args(number("--every", EVERY)).args(number("--size", SIZE));
    command.args(&plan.options);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Whether the process was still running when its time was over. It gets no chance to clean up (SIGKILL).
fn killed(child: &mut Child, patience: Duration) -> io::Result<bool> {
    thread::sleep(patience);
    if child.try_wait()?.is_some() {
        return Ok(false);
    }
    child.kill()?;
    // It may have come to its end in between.
    Ok(!child.wait()?.success())
}

/// The newest checkpoint is whole, and not older than before; returns its number.
fn inspect(directory: &Path, before: u64, outcome: &mut Outcome) -> Result<u64, Failure> {
    let kills = outcome.kills;
    let none = |error: &dyn fmt::Display| Failure::NoneValid { kills, reason: error.to_string() };
    outcome.while_saving += usize::from(files(directory).iter().any(|path| is_half(path)));
    let latest = CheckpointDir::open(directory).open_latest_valid();
    match latest.map_err(|error: Error| none(&error))? {
        Some(latest) if !latest.rejected.is_empty() => Err(none(&latest.rejected[0])),
        Some(latest) if latest.stored.number < before => {
            Err(Failure::Lost { kills, found: latest.stored.number, before })
        }
        Some(latest) => Ok(latest.stored.number),
        None if before > 0 => Err(none(&"the folder is empty")),
        None => {
            outcome.before_saving += 1;
            Ok(0)
        }
    }
}

/// The files of a folder, by name; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = folder.read_dir().into_iter().flatten().flatten().map(|file| file.path()).collect();
    paths.sort();
    paths
}

/// Whether it is a part of a checkpoint: a file that has not its name yet, shards without a manifest.
fn is_half(path: &Path) -> bool {
    let is_temporary = |path: &Path| path.extension().is_some_and(|extension| extension == "tmp");
    let is_incomplete = |shards: &[PathBuf]| {
        shards.iter().any(|shard| is_temporary(shard)) || !shards.iter().any(|shard| shard.ends_with(MANIFEST))
    };
    is_temporary(path) || (path.is_dir() && is_incomplete(&files(path)))
}

/// The bytes of the last checkpoint of a training that came to its end.
fn finished(directory: &Path, output: &std::process::Output, kills: usize) -> Result<Vec<u8>, Failure> {
    let failed = |text: String| Failure::Failed { kills, output: text };
    if !output.status.success() {
        return Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))));
    }
    let stored = CheckpointDir::open(directory).list().map_err(|error| failed(error.to_string()))?;
    let Stored { path, .. } = stored.first().ok_or_else(|| failed("it left no checkpoint".to_owned()))?;
    let shards = if path.is_dir() { files(path) } else { vec![path.clone()] };
    let bytes = shards.iter().map(fs::read).collect::<io::Result<Vec<_>>>();
    Ok(bytes.map_err(|error| failed(error.to_string()))?.concat())
}
