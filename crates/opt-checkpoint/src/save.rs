//! Writing checkpoints.

mod content;
mod sharded;
mod write;

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use content::Content;
use opt_core::{ConfigError, Optimizer, Parameters, UpdateRule};
use serde_json::Value;

use crate::atomic::AtomicFile;
use crate::element::Element;
use crate::error::{Action, Error};
use crate::format::{Contents, FORMAT, Manifest};
use crate::progress::{Meter, Progress};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// The file, or the folder of shards.
    pub path: PathBuf,
    /// Its length; that of all shards and their manifest.
    pub bytes: u64,
    /// Whether it has the configuration: not if a schedule holds code.
    pub has_configuration: bool,
}

/// Saves a training with all options as they are by default: see [`SaveOptions::save`].
///
/// # Errors
///
/// As [`SaveOptions::save`].
pub fn save<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
    path: impl AsRef<Path>,
    optimizer: &Optimizer<R, T>,
    model: &P,
) -> Result<Saved, Error> {
    SaveOptions::new().save(path, optimizer, model)
}

/// What to save, and how.
///
/// | option | default |
/// |---|---|
/// | [`contents`](Self::contents) | [`Contents::Raw`]: variables and all state |
/// | [`extra`](Self::extra) | `null` |
/// | [`observer`](Self::observer) | nobody |
#[derive(Default)]
pub struct SaveOptions<'o> {
    contents: Contents,
    extra: Value,
    observer: Option<Box<dyn FnMut(Progress) + 'o>>,
}

impl<'o> SaveOptions<'o> {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Which weights to save.
    #[must_use]
    pub fn contents(mut self, contents: Contents) -> Self {
        self.contents = contents;
        self
    }

    /// Anything else that the training needs to go on: its epoch, the state of its random numbers.
    #[must_use]
    pub fn extra(mut self, extra: Value) -> Self {
        self.extra = extra;
        self
    }

    /// Called after each piece that was written.
    #[must_use]
    pub fn observer(mut self, observer: impl FnMut(Progress) + 'o) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Writes a file, or replaces it: at any moment, also if the process or the machine dies, there is either the file
    /// as it was or the new one, whole. It is on the disk when this returns. The numbers are written from where they
    /// are; there is no second copy of them in memory.
    ///
    /// `model` gives all variables, those without gradients included: a model, or a list of variables.
    ///
    /// If they lie on several ranks (the optimizer has a [`Distribution`](opt_core::Distribution)), all ranks call this
    /// at the same time with the same path: that of a folder, which is made. Each rank writes a file with what it owns
    /// of variables and slots; what several ranks have is written by one of them. Then rank 0 writes
    /// `manifest.safetensors`, which names these files with their checksums. Without it there is no checkpoint; with it
    /// it is whole. All ranks need the same file system, and wait for the slowest one for as long as they wait in any
    /// call.
    ///
    /// # Errors
    ///
    /// On several ranks, an error of one of them is an error of all; what was there is as it was.
    ///
    /// When the folder is not there or not writable, or the disk is full; when the optimizer knows a variable that is
    /// not given, or names are taken; when a slot is [swapped in](opt_core::Error::SwappedIn) or the state is
    /// [half applied](opt_core::Error::Poisoned). A file that was there is then as it was.
    pub fn save<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        self,
        path: impl AsRef<Path>,
        optimizer: &Optimizer<R, T>,
        model: &P,
    ) -> Result<Saved, Error> {
        let path = path.as_ref();
        let plan = self.plan(optimizer, model);
        match optimizer.distribution() {
            Some(ranks) => sharded::save(ranks.world(), plan, path),
            None => write_file(plan?, path),
        }
    }

    /// Writes to anything else, from where it stands; returns how many bytes.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save), and whatever the writer says: half a checkpoint may then have been written.
    pub fn write<R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        self,
        writer: &mut (impl Write + Seek),
        optimizer: &Optimizer<R, T>,
        model: &P,
    ) -> Result<u64, Error> {
        if optimizer.distribution().is_some() {
            return Err(Error::OnRanks);
        }
        Ok(self.plan(optimizer, model)?.write(writer, Path::new("(writer)"))?.bytes)
    }

    /// Everything that can be wrong is found here.
    fn plan<'s, R: UpdateRule<T>, T: Element, P: Parameters<T> + ?Sized>(
        self,
        optimizer: &'s Optimizer<R, T>,
        model: &'s P,
    ) -> Result<write::Plan<'s, 'o, T>, Error> {
        let content = Content::collect(optimizer, model.arrays()?, self.contents)?;
        let config = match optimizer.to_config() {
            Ok(config) => Some(config),
            Err(ConfigError::NotSerializable { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let manifest = Manifest {
            checksum: crate::Checksum::default(),
            config,
            contents: self.contents,
            extra: self.extra,
            format: FORMAT,
            layouts: BTreeMap::new(),
            sharded: None,
            tensors: content.tensors.iter().map(|tensor| (tensor.name.clone(), crate::Checksum::default())).collect(),
            tracked: content.tracked,
            variables: content.variables,
        };
        Ok(write::Plan { manifest, tensors: content.tensors, observer: self.observer })
    }
}

fn write_file<T: Element>(plan: write::Plan<'_, '_, T>, path: &Path) -> Result<Saved, Error> {
    let has_configuration = plan.manifest.config.is_some();
    let mut file = AtomicFile::create(path)?;
    let bytes = plan.write(file.file(), path)?.bytes;
    file.commit()?;
    Ok(Saved { path: path.to_owned(), bytes, has_configuration })
}
