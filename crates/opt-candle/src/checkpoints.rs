//! Variables and state in files.

use std::path::{Path, PathBuf};

use opt_checkpoint::{Checkpoint, CheckpointDir, LoadOptions, Loaded, Resumed, SaveOptions, Saved};
use opt_core::{StepReport, UpdateRule};

use crate::element::Element;
use crate::error::Error;
use crate::optimizer::CandleOptimizer;

/// Checkpoints hold variables, state and configuration: see `opt-checkpoint`. Variables on other devices are copied.
impl<R: UpdateRule<T>, T: Element> CandleOptimizer<R, T> {
    /// Saves all variables and all state to a file.
    ///
    /// # Errors
    ///
    /// As [`SaveOptions::save`]; [`Error::Numbered`] for variables without names.
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use opt_candle::CandleOptimizer;
    /// use optimizers::{Nadam, Optimizer};
    ///
    /// let path = std::env::temp_dir().join("opt-candle-save.safetensors");
    /// let make = || {
    ///     let w = Var::new(&[1.0_f32, 2.0], &Device::Cpu)?;
    ///     let opt = CandleOptimizer::from_named([("w", w.clone())], Optimizer::builder(Nadam::new(0.1)))?;
    ///     Ok::<_, opt_candle::Error>((w, opt))
    /// };
    /// let (w, mut opt) = make()?;
    /// opt.backward_step(&w.sqr()?.sum_all()?)?;
    /// opt.save(&path)?;
    ///
    /// let (resumed, mut opt) = make()?;
    /// assert_eq!(opt.resume(&path)?.iterations, 1);
    /// assert_eq!(resumed.to_vec1::<f32>()?, w.to_vec1::<f32>()?);
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), opt_candle::Error>(())
    /// ```
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<Saved, Error> {
        self.save_with(path, SaveOptions::new())
    }

    /// As [`save`](Self::save), with options, such as what else the training needs to resume.
    ///
    /// # Errors
    ///
    /// As [`SaveOptions::save`].
    pub fn save_with(&mut self, path: impl AsRef<Path>, options: SaveOptions<'_>) -> Result<Saved, Error> {
        self.variables.check_names()?;
        self.read_variables(|engine, model| Ok(options.save(path, engine, model)?))
    }

    /// Saves the next checkpoint of a folder, which keeps the newest ones.
    ///
    /// # Errors
    ///
    /// As [`CheckpointDir::save_with`].
    pub fn save_in(&mut self, folder: &mut CheckpointDir, options: SaveOptions<'_>) -> Result<Saved, Error> {
        self.variables.check_names()?;
        self.read_variables(|engine, model| Ok(folder.save_with(options, engine, model)?))
    }

    /// Loads variables and state from a file: the training resumes bit for bit.
    ///
    /// A rate that was set through candle's trait is not in the file. Set it again.
    ///
    /// # Errors
    ///
    /// As [`LoadOptions::load`]; [`Error::Numbered`] for variables without names. Variables and state are then
    /// unchanged.
    pub fn resume(&mut self, path: impl Into<PathBuf>) -> Result<Loaded, Error> {
        self.resume_with(path, LoadOptions::new())
    }

    /// As [`resume`](Self::resume), with options, such as another configuration than that of the file.
    ///
    /// # Errors
    ///
    /// As [`LoadOptions::load`]. Variables and state are then unchanged.
    pub fn resume_with(&mut self, path: impl Into<PathBuf>, options: LoadOptions<'_>) -> Result<Loaded, Error> {
        self.variables.check_names()?;
        let checkpoint = Checkpoint::open(path)?;
        self.with_variables(|engine, mut variables| Ok(options.load(&checkpoint, engine, &mut variables)?))
    }

    /// Resumes from the newest valid checkpoint of a folder; `None` if it has none.
    ///
    /// # Errors
    ///
    /// As [`CheckpointDir::resume`]. Variables and state are then unchanged.
    pub fn resume_latest(&mut self, folder: &CheckpointDir) -> Result<Option<Resumed>, Error> {
        self.variables.check_names()?;
        self.with_variables(|engine, mut variables| Ok(folder.resume(engine, &mut variables)?))
    }

    /// Applies the accumulated gradients now, before all micro-steps of a step are there: at the end of an epoch.
    ///
    /// # Errors
    ///
    /// As [`Optimizer::flush`](opt_core::Optimizer::flush).
    pub fn flush(&mut self) -> Result<StepReport, Error> {
        self.with_variables(|engine, mut variables| Ok(engine.flush(&mut variables)?))
    }
}
