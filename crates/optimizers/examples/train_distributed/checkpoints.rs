//! Checkpoints that all ranks of a training write together, one folder for each optimizer.

use std::path::Path;
use std::time::Duration;

use optimizers::DynOptimizer;
use optimizers::checkpoint::{CheckpointDir, Error, SaveOptions};
use optimizers::mesh::Mesh;
use serde_json::{Value, json};

use crate::model::Mlp;
use crate::random::Random;
use crate::training::Failure;

/// The folder for the checkpoints of one training.
#[derive(Debug)]
pub(crate) struct Checkpoints<'m> {
    mesh: &'m Mesh,
    directory: CheckpointDir,
    /// The time in calls between ranks that checkpoints take.
    pub(crate) spent: Duration,
}

/// The state of a training besides its model and its optimizer.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) epochs: u32,
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) order: Vec<usize>,
}

impl<'m> Checkpoints<'m> {
    /// Checkpoints in a folder. A folder that already has some is accepted only to resume from them.
    pub(crate) fn open(mesh: &'m Mesh, folder: &Path, resume: bool) -> Result<Self, Failure> {
        let directory = CheckpointDir::create_on(mesh.world(), folder)?;
        if resume || directory.list()?.is_empty() {
            return Ok(Self { mesh, directory, spent: Duration::ZERO });
        }
        Err(Failure::NotResumed { path: folder.to_owned() })
    }

    /// Resumes a training from its newest valid checkpoint, whatever the number of ranks that wrote it; returns its
    /// entry.
    pub(crate) fn resume(
        &mut self,
        optimizer: &mut DynOptimizer,
        model: &mut Mlp,
        position: &mut Position,
    ) -> Result<Option<String>, Failure> {
        let before = self.mesh.traffic().time;
        let Some(latest) = self.directory.open_latest_valid_on(self.mesh.world())? else { return Ok(None) };
        let path = latest.stored.path;
        let found = Position::read(latest.checkpoint.extra()).filter(|found| found.seed == position.seed);
        *position = found.ok_or_else(|| Failure::OtherTraining { path: path.clone() })?;
        latest.checkpoint.load(optimizer, model)?;
        self.spent += self.mesh.traffic().time - before;
        let ranks = latest.checkpoint.ranks().unwrap_or(1);
        Ok(Some(format!("{}, epoch {}, saved by {ranks} ranks", path.display(), position.epochs)))
    }

    /// Saves everything on which the rest of the training depends.
    pub(crate) fn save(&mut self, optimizer: &DynOptimizer, model: &Mlp, position: &Position) -> Result<(), Error> {
        let options = SaveOptions::new().extra(position.write());
        let before = self.mesh.traffic().time;
        let saved = self.directory.save_with(options, optimizer, model);
        self.spent += self.mesh.traffic().time - before;
        saved.map(drop)
    }
}

impl Position {
    fn write(&self) -> Value {
        let Self { epochs, seed, random, order } = self;
        json!({ "epochs": epochs, "seed": seed, "random": random.state(), "order": order })
    }

    fn read(extra: &Value) -> Option<Self> {
        let order = extra["order"].as_array()?.iter().map(|row| usize::try_from(row.as_u64()?).ok());
        Some(Self {
            epochs: u32::try_from(extra["epochs"].as_u64()?).ok()?,
            seed: extra["seed"].as_u64()?,
            random: Random::new(extra["random"].as_u64()?),
            order: order.collect::<Option<_>>()?,
        })
    }
}
