//! Checkpoints: the numbers of a module and the state of its optimizer, in one file.

use burn_core::module::Module;
use opt_checkpoint::{CheckpointDir, SaveOptions, Saved};
use opt_core::{Optimizer, UpdateRule};

use super::BurnOptimizer;
use crate::error::{Error, Refused};
use crate::stepped::Copies;
use crate::values::ModuleValues;

/// A module, after the search for a checkpoint.
#[derive(Debug)]
#[must_use = "it owns the module"]
#[non_exhaustive]
pub struct Resumed<M> {
    /// The module, with the numbers of the checkpoint if there is one.
    pub module: M,
    /// The checkpoint; `None` if the folder has none. The module and the optimizer are then unchanged.
    pub checkpoint: Option<opt_checkpoint::Resumed>,
}

impl<R: UpdateRule<f32>> BurnOptimizer<R> {
    /// Saves the float parameters of a module and the state of the optimizer as the next checkpoint of a folder.
    ///
    /// The running means and variances of normalization layers are saved, too, up to date. Integer, bool and quantized
    /// parameters are not: see [`ModuleValues::left_out`]. Save them with burn's own records, if training changes them.
    ///
    /// # Errors
    ///
    /// As [`CheckpointDir::save`].
    pub fn save<M: Module>(&self, checkpoints: &mut CheckpointDir, module: &M) -> Result<Saved, Error> {
        self.save_with(SaveOptions::new(), checkpoints, module)
    }

    /// As [`save`](Self::save), with options: what else the training needs to resume, such as its position in the data.
    ///
    /// # Errors
    ///
    /// As [`CheckpointDir::save_with`].
    pub fn save_with<M: Module>(
        &self,
        options: SaveOptions<'_>,
        checkpoints: &mut CheckpointDir,
        module: &M,
    ) -> Result<Saved, Error> {
        let values = ModuleValues::read(module)?;
        Ok(checkpoints.save_with(options, &self.engine, &values)?)
    }

    /// Loads the newest valid checkpoint of a folder into a module and the optimizer, so that the training resumes bit
    /// for bit. Without a checkpoint, nothing changes.
    ///
    /// # Errors
    ///
    /// As [`CheckpointDir::resume`]. The module comes back unchanged, and the optimizer is unchanged.
    pub fn resume<M: Module>(&mut self, checkpoints: &CheckpointDir, module: M) -> Result<Resumed<M>, Refused<M>> {
        let resume = |engine: &mut Optimizer<R, f32>, values: &mut ModuleValues| checkpoints.resume(engine, values);
        let (module, (checkpoint, _)) = self.on_values(module, resume)?;
        if checkpoint.is_some() {
            self.follow(&module);
        }
        Ok(Resumed { module, checkpoint })
    }

    /// Lends the engine the numbers of a module, and writes them back.
    pub(super) fn on_values<M: Module, X, E: Into<Error>>(
        &mut self,
        module: M,
        call: impl FnOnce(&mut Optimizer<R, f32>, &mut ModuleValues) -> Result<X, E>,
    ) -> Result<(M, (X, Copies)), Refused<M>> {
        let mut values = match ModuleValues::read(&module) {
            Ok(values) => values,
            Err(error) => return Err(Refused::new(module, error)),
        };
        let result = match call(&mut self.engine, &mut values) {
            Ok(result) => result,
            Err(error) => return Err(Refused::new(module, error)),
        };
        let copies = values.copies();
        Ok((values.write(module)?, (result, copies)))
    }
}
