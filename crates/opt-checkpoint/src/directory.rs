//! A folder of checkpoints: the newest few, of which one is always valid.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};
use opt_core::collective::Collective;
use opt_core::{Optimizer, Parameters, UpdateRule};

use crate::atomic::{self, TEMPORARY};
use crate::checkpoint::Checkpoint;
use crate::element::Element;
use crate::error::{Action, Error, Rejected};
use crate::format::MANIFEST;
use crate::load::Loaded;
use crate::ranks;
use crate::save::{SaveOptions, Saved};

/// The file that a writer locks.
const LOCK: &str = ".lock";

/// How many checkpoints are kept by default.
const KEEP: usize = 3;

/// A folder of checkpoints, `00000012-step-3400.safetensors`: a number that counts the checkpoints, and the step. Those
/// of several ranks are folders, `00000012-step-3400.sharded`; they are made and read with
/// [`create_on`](Self::create_on) and [`open_latest_valid_on`](Self::open_latest_valid_on).
///
/// The newest checkpoint is the one written last, whatever its step. If a run goes back to an earlier step and trains
/// on, the next run resumes from *that* run's latest checkpoint.
///
/// # Examples
///
/// ```
/// use opt_checkpoint::CheckpointDir;
/// use opt_core::Optimizer;
/// use opt_sgd::Sgd;
///
/// let folder = tempfile::tempdir()?;
/// let (mut w, mut opt) = ([1.0], Optimizer::new(Sgd::new(0.5))?);
/// let mut checkpoints = CheckpointDir::create(folder.path())?.keep(2);
/// checkpoints.resume(&mut opt, &mut w)?; // from the newest valid checkpoint, if there is one
/// for _ in 0..3 {
///     opt.step(&mut w, &[1.0])?;
///     checkpoints.save(&opt, &w)?;
/// }
/// let names: Vec<_> = checkpoints.list()?.iter().map(|stored| (stored.number, stored.step)).collect();
/// assert_eq!(names, [(3, 3), (2, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "CheckpointManager")]
#[derive(Debug)]
pub struct CheckpointDir {
    path: PathBuf,
    keep: usize,
    role: Role,
}

/// The access that a value has to its folder.
#[derive(Debug)]
enum Role {
    /// May write. The lock is held as long as this value exists.
    Writer {
        _lock: File,
    },
    /// Writes together with rank 0, which holds the lock.
    Member,
    Reader,
}

/// A checkpoint in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The number of the checkpoint in the folder, counted from 1.
    pub number: u64,
    /// The number of steps that had been applied.
    pub step: u64,
    /// The file, or the folder of shards.
    pub path: PathBuf,
}

/// The newest valid checkpoint.
#[derive(Debug)]
#[non_exhaustive]
pub struct Latest {
    /// The checkpoint, verified.
    pub checkpoint: Checkpoint,
    /// Its entry in the folder.
    pub stored: Stored,
    /// Newer checkpoints that are damaged, the newest first, and the reasons.
    pub rejected: Vec<Rejected>,
}

/// What [`CheckpointDir::resume`] loaded.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// What was loaded, with the number of steps and what the training kept.
    pub loaded: Loaded,
    /// The checkpoint.
    pub stored: Stored,
    /// Newer checkpoints that are damaged, the newest first, and why.
    pub rejected: Vec<Rejected>,
}

impl CheckpointDir {
    /// Opens a folder to write checkpoints, and makes it if necessary. Half-written files of a writer that died are
    /// removed.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] while another value or process writes there; when the folder cannot be made or written to.
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
        let directory = Self { path, keep: KEEP, role: Role::Writer { _lock: lock } };
        directory.remove_half_written()?;
        Ok(directory)
    }

    /// As [`create`](Self::create), for several ranks that write checkpoints together: rank 0 makes the folder and locks
    /// it. All ranks call this at the same time.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), on all ranks; when ranks are lost.
    pub fn create_on(world: &dyn Collective, path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let created =
            if world.rank() == 0 { Self::create(path) } else { Ok(Self { path, keep: KEEP, role: Role::Member }) };
        ranks::same(world, "the folder", created, |directory| directory.path.display().to_string())
    }

    /// Opens a folder to read checkpoints. Nothing is changed, and others may write meanwhile. A folder that does not
    /// exist has no checkpoints.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), keep: KEEP, role: Role::Reader }
    }

    /// The number of checkpoints to keep: the newest `count`, at least 1. The default is 3.
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

    /// All checkpoints, the newest first. Only their names are read.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Stored>, Error> {
        let mut stored: Vec<Stored> = self.files()?.into_iter().filter_map(Stored::of).collect();
        stored.sort_by_key(|stored| Reverse((stored.number, stored.step)));
        Ok(stored)
    }

    /// Saves with the default options: see [`save_with`](Self::save_with).
    ///
    /// # Errors
    ///
    /// As [`save_with`](Self::save_with).
    pub fn save<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        &mut self,
        optimizer: &Optimizer<R, T>,
        model: &P,
    ) -> Result<Saved, Error> {
        self.save_with(SaveOptions::new(), optimizer, model)
    }

    /// Saves the next checkpoint, then removes the oldest ones beyond the number to keep. A damaged checkpoint does
    /// not count and is not removed, so that it can be examined.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if the folder was opened for reading; as [`SaveOptions::save`]. With [`Action::Remove`] the
    /// new checkpoint exists, and an old one, too.
    pub fn save_with<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        &mut self,
        options: SaveOptions<'_>,
        optimizer: &Optimizer<R, T>,
        model: &P,
    ) -> Result<Saved, Error> {
        let (step, ranks) = (optimizer.iterations(), optimizer.distribution());
        let next = self.next_number();
        let Some(ranks) = ranks else {
            let number = next?;
            let saved = options.save(self.path.join(Stored::name(number, step, Form::File)), optimizer, model)?;
            self.remove_old(number)?;
            return Ok(saved);
        };
        let world = ranks.world();
        let (_, numbers) = ranks::all(world, next, |number| number.to_le_bytes().to_vec())?;
        let number = numbers[0].as_slice().try_into().map(u64::from_le_bytes).map_err(|_| ranks::unreadable(0))?;
        let saved = options.save(self.path.join(Stored::name(number, step, Form::Shards)), optimizer, model)?;
        let removed = if world.rank() == 0 { self.remove_old(number) } else { Ok(()) };
        ranks::all(world, removed, |()| Vec::new())?;
        Ok(saved)
    }

    /// The number of the next checkpoint; only rank 0 asks for it.
    fn next_number(&self) -> Result<u64, Error> {
        match self.role {
            Role::Reader => Err(Error::InUse { path: self.path.clone() }),
            Role::Member => Ok(0),
            Role::Writer { .. } => Ok(self.list()?.first().map_or(1, |newest| newest.number + 1)),
        }
    }

    /// The newest valid checkpoint, with the damage of newer ones. `None` if there is no checkpoint at all.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read; [`Error::NoneValid`] if there are checkpoints and all are damaged, because a
    /// new run would overwrite them in time.
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

    /// As [`open_latest_valid`](Self::open_latest_valid), on several ranks that share the work: each verifies some of
    /// the files of a sharded checkpoint. All ranks call this at the same time, and get the same result. (A rank that
    /// did not find a damage itself gets the message of the rank that did.)
    ///
    /// # Errors
    ///
    /// As [`open_latest_valid`](Self::open_latest_valid); when ranks are lost.
    pub fn open_latest_valid_on(&self, world: &dyn Collective) -> Result<Option<Latest>, Error> {
        let listed = if world.rank() == 0 { self.list() } else { Ok(Vec::new()) };
        let names = |stored: &Vec<Stored>| {
            let names = stored.iter().map(|stored| stored.path.file_name().unwrap_or_default().to_string_lossy());
            names.collect::<Vec<_>>().join("\n").into_bytes()
        };
        let (_, listed) = ranks::all(world, listed, names)?;
        let mut rejected = Vec::new();
        for stored in String::from_utf8_lossy(&listed[0]).lines().filter_map(|name| Stored::of(self.path.join(name))) {
            let own = |file: usize| file % world.ranks() == world.rank();
            let opened = Checkpoint::open(&stored.path);
            let verified = opened.and_then(|found| found.verify_with(own, None).map(|()| found));
            match ranks::same(world, "the checkpoint", verified, Checkpoint::identity) {
                Ok(checkpoint) => return Ok(Some(Latest { checkpoint, stored, rejected })),
                Err(error) if ranks::is_refusal(&error) => rejected.push(Rejected { path: stored.path, error }),
                Err(error) => return Err(error),
            }
        }
        if rejected.is_empty() { Ok(None) } else { Err(Error::NoneValid { path: self.path.clone(), rejected }) }
    }

    /// Loads the newest valid checkpoint into optimizer and model, so that the run resumes from it bit for bit. Returns
    /// `None`, and changes nothing, if the folder has no checkpoint.
    ///
    /// On several ranks all of them call it, and all load the same checkpoint. For options of loading, open the
    /// checkpoint with [`open_latest_valid`](Self::open_latest_valid) and use [`LoadOptions`](crate::LoadOptions).
    ///
    /// # Errors
    ///
    /// As [`open_latest_valid`](Self::open_latest_valid) and [`Checkpoint::load`]. Optimizer and model are then as they
    /// were.
    pub fn resume<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        model: &mut P,
    ) -> Result<Option<Resumed>, Error> {
        let latest = match optimizer.distribution() {
            None => self.open_latest_valid()?,
            Some(ranks) => self.open_latest_valid_on(ranks.world())?,
        };
        let Some(Latest { checkpoint, stored, rejected }) = latest else { return Ok(None) };
        let loaded = checkpoint.load(optimizer, model)?;
        Ok(Some(Resumed { loaded, stored, rejected }))
    }

    /// Removes checkpoints beyond the number to keep. The one of this number has just been written, and stays.
    fn remove_old(&self, newest: u64) -> Result<(), Error> {
        let older = self.list()?.into_iter().filter(|stored| stored.number != newest);
        let whole = older.filter(|stored| Checkpoint::open(&stored.path).is_ok());
        for stored in whole.skip(self.keep - 1) {
            remove(&stored.path)?;
        }
        Ok(())
    }

    /// Only with the lock: no other writer exists.
    fn remove_half_written(&self) -> Result<(), Error> {
        let is_temporary = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with('.') && name.ends_with(TEMPORARY) && name.contains(Stored::SUFFIX)
        };
        let is_half = |path: &PathBuf| Stored::named(path.clone()).is_some_and(|stored| !stored.is_there());
        for path in self.files()?.into_iter().filter(|path| is_temporary(path) || is_half(path)) {
            remove(&path)?;
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

/// The kinds of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    File,
    Shards,
}

impl Stored {
    const SUFFIX: &str = ".safetensors";
    const SHARDS: &str = ".sharded";

    fn name(number: u64, step: u64, form: Form) -> String {
        let suffix = match form {
            Form::File => Self::SUFFIX,
            Form::Shards => Self::SHARDS,
        };
        format!("{number:08}-step-{step}{suffix}")
    }

    /// Whether a checkpoint exists: a folder without a manifest is not one.
    fn of(path: PathBuf) -> Option<Self> {
        Self::named(path).filter(Self::is_there)
    }

    /// A file or folder with a name that this module gives.
    fn named(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let form = if name.ends_with(Self::SHARDS) { Form::Shards } else { Form::File };
        let rest = name.strip_suffix(Self::SUFFIX).or_else(|| name.strip_suffix(Self::SHARDS))?;
        let (number, step) = rest.split_once("-step-")?;
        let (number, step) = (number.parse().ok()?, step.parse().ok()?);
        (name == Self::name(number, step, form)).then_some(Self { number, step, path })
    }

    fn is_there(&self) -> bool {
        self.path.extension().is_none_or(|extension| extension != &Self::SHARDS[1..])
            || self.path.join(MANIFEST).exists()
    }
}

/// Removes a file, or a folder of shards: first the manifest, so that a half-removed folder is not a checkpoint.
fn remove(path: &Path) -> Result<(), Error> {
    if !path.is_dir() {
        return fs::remove_file(path).map_err(Error::io(Action::Remove, path));
    }
    let manifest = path.join(MANIFEST);
    match fs::remove_file(&manifest) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(Action::Remove, &manifest)(error)),
        _ => atomic::sync_folder(path).map_err(Error::io(Action::Sync, &manifest))?,
    }
    fs::remove_dir_all(path).map_err(Error::io(Action::Remove, path))
}
