//! A folder of checkpoints: the newest few, and always one that is whole.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};
use opt_core::{Optimizer, UpdateRule, Variable};

use crate::atomic::{self, TEMPORARY};
use crate::checkpoint::Checkpoint;
use crate::element::Element;
use crate::error::{Action, Error, Rejected};
use crate::save::{SaveOptions, Saved};

/// The file that a writer locks.
const LOCK: &str = ".lock";

/// How many checkpoints are kept by default.
const KEEP: usize = 3;

/// A folder of checkpoints, `00000012-step-3400.safetensors`: a number that counts the checkpoints, and the step.
///
/// The newest is the one that was written last, whatever its step: who goes back to an earlier step and trains on from
/// there goes on from *that* run the next time.
///
/// # Examples
///
/// ```
/// use opt_checkpoint::CheckpointDir;
/// use opt_core::{Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let folder = tempfile::tempdir()?;
/// let (mut w, mut opt) = ([1.0], Optimizer::new(Sgd::new(0.5)).build()?);
/// let mut checkpoints = CheckpointDir::create(folder.path())?.keep(2);
/// if let Some(latest) = checkpoints.open_latest_valid()? {
///     latest.checkpoint.load(&mut opt, [Variable::new("w", &mut w)])?;
/// }
/// for _ in 0..3 {
///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
///     checkpoints.save(&opt, [Variable::new("w", &mut w)])?;
/// }
/// let names: Vec<_> = checkpoints.list()?.iter().map(|stored| (stored.number, stored.step)).collect();
/// assert_eq!(names, [(3, 3), (2, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CheckpointDir {
    path: PathBuf,
    keep: usize,
    /// Held as long as this value is there; none for a reader.
    lock: Option<File>,
}

/// A checkpoint in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// Counts the checkpoints of the folder, from 1.
    pub number: u64,
    /// How many steps had been applied.
    pub step: u64,
    /// The file.
    pub path: PathBuf,
}

/// The newest checkpoint that is whole.
#[derive(Debug)]
#[non_exhaustive]
pub struct Latest {
    /// It, verified.
    pub checkpoint: Checkpoint,
    /// Which it is.
    pub stored: Stored,
    /// Newer ones that are damaged, the newest first, and why.
    pub rejected: Vec<Rejected>,
}

impl CheckpointDir {
    /// Opens a folder to write checkpoints, and makes it if it is not there. What a writer that died has left half
    /// written is removed.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] while another value or process writes there; when the folder cannot be made or written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(Error::io(Action::Create, &path))?;
        let lock_path = path.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(Error::io(Action::Create, &lock_path))?;
        match FileExt::try_lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path }),
            Err(TryLockError::Error(error)) => return Err(Error::io(Action::Lock, &lock_path)(error)),
        }
        let directory = Self { path, keep: KEEP, lock: Some(lock) };
        directory.remove_temporary()?;
        Ok(directory)
    }

    /// Opens a folder to read checkpoints: nothing is changed, and others may write meanwhile. A folder that is not
    /// there has no checkpoints.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), keep: KEEP, lock: None }
    }

    /// How many checkpoints to keep: the newest `count`, at least 1. The default is 3.
    #[must_use]
    pub fn keep(mut self, count: usize) -> Self {
        self.keep = count.max(1);
        self
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All checkpoints, the newest first, by their names alone.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Stored>, Error> {
        let mut stored: Vec<Stored> = self.files()?.into_iter().filter_map(Stored::of).collect();
        stored.sort_by_key(|stored| Reverse((stored.number, stored.step)));
        Ok(stored)
    }

    /// Saves with all options as they are by default: see [`save_with`](Self::save_with).
    ///
    /// # Errors
    ///
    /// As [`save_with`](Self::save_with).
    pub fn save<'a, R: UpdateRule<T>, T: Element>(
        &mut self,
        optimizer: &Optimizer<R, T>,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
    ) -> Result<Saved, Error> {
        self.save_with(SaveOptions::new(), optimizer, variables)
    }

    /// Saves the next checkpoint, then removes those that are too many. One that is damaged does not count as one that
    /// is kept, and is left for whoever wants to know why.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if the folder was opened to be read; as [`SaveOptions::save`]. With [`Action::Remove`] the new
    /// checkpoint is there, and an old one, too.
    pub fn save_with<'a, R: UpdateRule<T>, T: Element>(
        &mut self,
        options: SaveOptions<'_>,
        optimizer: &Optimizer<R, T>,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
    ) -> Result<Saved, Error> {
        if self.lock.is_none() {
            return Err(Error::InUse { path: self.path.clone() });
        }
        let number = self.list()?.first().map_or(1, |newest| newest.number + 1);
        let path = self.path.join(Stored::name(number, optimizer.iterations()));
        let saved = options.save(path, optimizer, variables)?;
        self.remove_old(number)?;
        Ok(saved)
    }

    /// The newest checkpoint that is whole, with what was wrong with newer ones. `None` if there is none at all.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read; [`Error::NoneValid`] if there are checkpoints and all are damaged: starting
    /// anew would bury them.
    pub fn open_latest_valid(&self) -> Result<Option<Latest>, Error> {
        let mut rejected = Vec::new();
        for stored in self.list()? {
            let verified = Checkpoint::open(&stored.path).and_then(|found| found.verify().map(|()| found));
            match verified {
                Ok(checkpoint) => return Ok(Some(Latest { checkpoint, stored, rejected })),
                // A writer has just removed it.
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => rejected.push(Rejected { path: stored.path, error }),
            }
        }
        if rejected.is_empty() { Ok(None) } else { Err(Error::NoneValid { path: self.path.clone(), rejected }) }
    }

    /// Removes checkpoints beyond the number to keep. The one of this number has just been written, and stays.
    fn remove_old(&self, newest: u64) -> Result<(), Error> {
        let older = self.list()?.into_iter().filter(|stored| stored.number != newest);
        let whole = older.filter(|stored| Checkpoint::open(&stored.path).is_ok());
        for stored in whole.skip(self.keep - 1) {
            fs::remove_file(&stored.path).map_err(Error::io(Action::Remove, &stored.path))?;
        }
        Ok(())
    }

    /// Only with the lock: nobody else is writing.
    fn remove_temporary(&self) -> Result<(), Error> {
        let is_temporary = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with('.') && name.ends_with(TEMPORARY) && name.contains(Stored::SUFFIX)
        };
        for path in self.files()?.into_iter().filter(is_temporary) {
            fs::remove_file(&path).map_err(Error::io(Action::Remove, &path))?;
        }
        atomic::sync_folder(&self.path).map_err(Error::io(Action::Sync, &self.path))
    }

    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io(Action::Read, &self.path))?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<Result<_, _>>().map_err(Error::io(Action::Read, &self.path))
    }
}

impl Stored {
    const SUFFIX: &str = ".safetensors";

    fn name(number: u64, step: u64) -> String {
        format!("{number:08}-step-{step}{}", Self::SUFFIX)
    }

    /// A file that this module has named.
    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (number, step) = name.strip_suffix(Self::SUFFIX)?.split_once("-step-")?;
        let (number, step) = (number.parse().ok()?, step.parse().ok()?);
        (name == Self::name(number, step)).then_some(Self { number, step, path })
    }
}
