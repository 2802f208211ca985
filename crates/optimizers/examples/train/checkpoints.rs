//! Checkpoints of a training, one folder for each optimizer.

use std::path::{Path, PathBuf};

use optimizers::checkpoint::{Checkpoint, CheckpointDir, Error, SaveOptions};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::model::Element;
use crate::random::Random;
use crate::training::{Epoch, Session};

/// The folder for the checkpoints of one training, if any.
#[derive(Debug)]
pub(crate) struct Checkpoints(Option<CheckpointDir>);

/// The point from which a training resumes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resumed {
    pub(crate) path: PathBuf,
    /// The number of finished epochs.
    pub(crate) epochs: usize,
    pub(crate) iterations: u64,
    /// Newer checkpoints that are damaged, and the reasons.
    pub(crate) rejected: Vec<String>,
}

impl Checkpoints {
    /// No checkpoints.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Checkpoints in a folder. A folder that already has some is accepted only to resume from them.
    pub(crate) fn open(folder: &Path, resume: bool) -> Result<Self, Failure> {
        let directory = CheckpointDir::create(folder).map_err(Failure::Checkpoint)?;
        let is_empty = directory.list().map_err(Failure::Checkpoint)?.is_empty();
        if resume || is_empty {
            Ok(Self(Some(directory)))
        } else {
            Err(Failure::NotResumed { path: folder.to_owned() })
        }
    }

    /// Resumes a training from its newest valid checkpoint; `None` if there is no checkpoint.
    pub(crate) fn resume<E: Element>(&self, session: &mut Session<E>, seed: u64) -> Result<Option<Resumed>, Failure> {
        let Some(directory) = &self.0 else { return Ok(None) };
        let Some(latest) = directory.open_latest_valid().map_err(Failure::Checkpoint)? else { return Ok(None) };
        let path = latest.stored.path;
        let kept = Kept::read(latest.checkpoint.extra()).ok_or_else(|| Failure::OtherProgram { path: path.clone() })?;
        if kept.seed != seed {
            return Err(Failure::OtherSeed { path, found: kept.seed, seed });
        }
        load(&latest.checkpoint, session).map_err(Failure::Checkpoint)?;
        (session.random, session.order, session.epochs) = (Random::new(kept.random), kept.order, kept.epochs);
        let rejected = latest.rejected.iter().map(ToString::to_string).collect();
        let (epochs, iterations) = (session.epochs.len() - 1, session.optimizer.iterations());
        Ok(Some(Resumed { path, epochs, iterations, rejected }))
    }

    /// Saves everything on which the rest of the training depends.
    pub(crate) fn save<E: Element>(&mut self, session: &Session<E>, seed: u64) -> Result<(), Failure> {
        let Some(directory) = &mut self.0 else { return Ok(()) };
        let options = SaveOptions::new().extra(Kept::write(session, seed));
        let saved = directory.save_with(options, &session.optimizer, &session.model);
        saved.map(|_| ()).map_err(Failure::Checkpoint)
    }
}

fn load<E: Element>(checkpoint: &Checkpoint, session: &mut Session<E>) -> Result<(), Error> {
    checkpoint.load(&mut session.optimizer, &mut session.model).map(|_| ())
}

/// The state of the training that the optimizer does not have.
struct Kept {
    seed: u64,
    random: u64,
    order: Vec<usize>,
    epochs: Vec<Epoch>,
}

impl Kept {
    /// Losses are stored as their bits, because JSON has no NaN.
    fn write<E: Element>(session: &Session<E>, seed: u64) -> Value {
        let bits = |epoch: &Epoch| [epoch.training_loss.to_bits(), epoch.test_accuracy.to_bits()];
        let epochs: Vec<_> = session.epochs.iter().map(bits).collect();
        json!({ "seed": seed, "random": session.random.state(), "order": session.order, "epochs": epochs })
    }

    fn read(extra: &Value) -> Option<Self> {
        let number = |value: &Value| value.as_u64();
        let epoch = |value: &Value| {
            let [loss, accuracy] = [0, 1].map(|place| value.get(place).and_then(number).map(f64::from_bits));
            Some(Epoch { training_loss: loss?, test_accuracy: accuracy? })
        };
        let order = extra["order"].as_array()?.iter().map(|row| usize::try_from(row.as_u64()?).ok());
        Some(Self {
            seed: number(&extra["seed"])?,
            random: number(&extra["random"])?,
            order: order.collect::<Option<_>>()?,
            epochs: extra["epochs"].as_array()?.iter().map(epoch).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use optimizers::checkpoint::CheckpointDir;

    use super::*;
    use crate::contestants::contestants;
    use crate::digits::Digits;
    use crate::selection::Entry;
    use crate::training::{Plan, Run, train};

    const PLAN: Plan = Plan { epochs: 5, seed: 1 };

    fn entry(name: &str, digits: &Digits) -> Entry {
        let contestant = contestants().into_iter().find(|contestant| contestant.name == name).unwrap();
        let optimizer = contestant.build(PLAN.steps(digits)).unwrap();
        Entry { name: name.to_owned(), precision: contestant.precision, optimizer }
    }

    /// Trains for some epochs. The schedules are always those of the whole plan.
    fn run(name: &str, epochs: u32, seed: u64, checkpoints: Checkpoints) -> Result<(Run, Option<Resumed>), Failure> {
        let (digits, mut resumed) = (Digits::load(), None);
        let plan = Plan { epochs, seed };
        let run = train(entry(name, &digits), &digits, &plan, checkpoints, |from| resumed = Some(from), |_| ())?;
        Ok((run, resumed))
    }

    #[test]
    fn a_resumed_training_ends_with_the_same_numbers() {
        for name in [
            "sgd-cosine",
            "sgd-ema",
            "sgd-f16",
            "adamw-f16",
            "adamw-groups",
            "nadam-legacy",
            "novograd-averaging",
            "ranger",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let open = |resume| Checkpoints::open(folder.path(), resume).unwrap();
            let (whole, none) = run(name, PLAN.epochs, 1, Checkpoints::none()).unwrap();
            assert_eq!(none, None);
            assert_eq!(run(name, 2, 1, open(false)).unwrap().1, None);
            let (rest, resumed) = run(name, PLAN.epochs, 1, open(true)).unwrap();
            assert_eq!(rest.epochs, whole.epochs, "{name}");
            let Resumed { epochs, iterations, rejected, .. } = resumed.unwrap();
            assert_eq!((epochs, iterations, rejected), (2, 90, vec![]), "{name}");
            let (again, resumed) = run(name, PLAN.epochs, 1, open(true)).unwrap();
            assert_eq!((again.epochs, resumed.unwrap().epochs), (whole.epochs, 5), "{name}");
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, _) = run("sgd-momentum", 3, 1, Checkpoints::open(folder.path(), false).unwrap()).unwrap();
        let newest = CheckpointDir::open(folder.path()).list().unwrap()[0].path.clone();
        fs::write(&newest, "not a checkpoint").unwrap();
        let checkpoints = Checkpoints::open(folder.path(), true).unwrap();
        let (again, resumed) = run("sgd-momentum", 3, 1, checkpoints).unwrap();
        let resumed = resumed.unwrap();
        assert_eq!((again.epochs, resumed.epochs), (whole.epochs, 2));
        assert!(resumed.rejected[0].contains(newest.to_str().unwrap()), "{:?}", resumed.rejected);
    }

    #[test]
    fn another_run_is_not_mixed_in() {
        let folder = tempfile::tempdir().unwrap();
        run("sgd-plain", 1, 1, Checkpoints::open(folder.path(), false).unwrap()).unwrap();
        let again = Checkpoints::open(folder.path(), false).unwrap_err();
        assert!(again.to_string().ends_with("has checkpoints: use --resume, or choose another folder"));
        let open = || Checkpoints::open(folder.path(), true).unwrap();
        let seed = run("sgd-plain", 1, 2, open()).unwrap_err();
        assert!(seed.to_string().ends_with("is of a training with seed 1, not 2"), "{seed}");
        let other = run("sgd-nesterov", 1, 1, open()).unwrap_err().to_string();
        assert!(other.contains("momentum") && other.contains("nesterov"), "{other}");
    }
}
