//! Kills a training at random moments and starts it again, over and over.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use opt_conformance::problem::Rng;
use optimizers::checkpoint::{CheckpointDir, Error, Stored};

/// The steps of a training, and the number of steps between two checkpoints.
const STEPS: u64 = 60;
const EVERY: u64 = 1;

/// The number of elements of the largest variable. Most of the time is spent on saving.
const SIZE: u64 = 60_000;

/// The file that commits a checkpoint of several ranks.
const MANIFEST: &str = "manifest.safetensors";

/// The plan of the kills.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program `trainee`.
    pub trainee: PathBuf,
    /// More options of the program.
    pub options: Vec<String>,
    /// The number of kills.
    pub kills: usize,
    /// The seed of the moments.
    pub seed: u64,
}

/// The counts of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The number of times that a training was killed.
    pub kills: usize,
    /// The number of kills that hit while a checkpoint was being written or removed, and left half of one.
    pub while_saving: usize,
    /// The number of kills before the first checkpoint of a training.
    pub before_saving: usize,
    /// The number of trainings that finished, each with the bytes of a training that was never killed.
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

/// A failure that must not happen.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The program could not be started, or a folder could not be made.
    #[error("cannot start {path}: {error}", path = path.display())]
    Start {
        /// The path of the program or folder.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The program ended by itself with an error.
    #[error("after {kills} kills the training failed: {output}")]
    Failed {
        /// The number of kills so far.
        kills: usize,
        /// The output of the program.
        output: String,
    },
    /// No checkpoint was complete, though there had been one.
    #[error("after {kills} kills there is no valid checkpoint: {reason}")]
    NoneValid {
        /// The number of kills so far.
        kills: usize,
        /// The reason.
        reason: String,
    },
    /// The newest checkpoint is older than one that was there before.
    #[error("after {kills} kills the newest checkpoint is {found}, it had been {before}")]
    Lost {
        /// The number of kills so far.
        kills: usize,
        /// The number of the newest checkpoint.
        found: u64,
        /// The number of the newest checkpoint before.
        before: u64,
    },
    /// A training ended with another result.
    #[error("after {kills} kills the training ended with other bytes")]
    Differs {
        /// The number of kills so far.
        kills: usize,
    },
}

/// Kills and resumes trainings as often as planned. Each training must end with the same bytes as an uninterrupted one.
///
/// # Errors
///
/// The first failure.
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

/// Kills the process (SIGKILL, without a chance to clean up), unless it has ended within its time. Returns whether it
/// was killed.
fn killed(child: &mut Child, patience: Duration) -> io::Result<bool> {
    thread::sleep(patience);
    if child.try_wait()?.is_some() {
        return Ok(false);
    }
    child.kill()?;
    // The process may have ended in the meantime.
    Ok(!child.wait()?.success())
}

/// Checks that the newest checkpoint is complete and not older than before; returns its number.
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

/// The files of a folder, by name; none if the folder does not exist.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = folder.read_dir().into_iter().flatten().flatten().map(|file| file.path()).collect();
    paths.sort();
    paths
}

/// Whether the file is a part of a checkpoint: a file without its final name, or shards without a manifest.
fn is_half(path: &Path) -> bool {
    let is_temporary = |path: &Path| path.extension().is_some_and(|extension| extension == "tmp");
    let is_incomplete = |shards: &[PathBuf]| {
        shards.iter().any(|shard| is_temporary(shard)) || !shards.iter().any(|shard| shard.ends_with(MANIFEST))
    };
    is_temporary(path) || (path.is_dir() && is_incomplete(&files(path)))
}

/// The bytes of the last checkpoint of a training that has finished.
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
