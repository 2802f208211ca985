//! Writing checkpoints.

mod content;
mod sharded;
mod write;

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use content::Content;
use opt_core::config::ConfigError;
use opt_core::{Optimizer, Parameters, UpdateRule};
use serde_json::Value;

use crate::atomic::AtomicFile;
use crate::element::Element;
use crate::error::{Action, Error};
use crate::format::{Contents, FORMAT, Manifest};
use crate::progress::{Meter, Progress};

/// The result of saving.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// The file, or the folder of shards.
    pub path: PathBuf,
    /// The length of the file, or of all shards and their manifest together.
    pub bytes: u64,
    /// Whether the configuration was saved. It is not if a schedule holds code.
    pub has_configuration: bool,
}

/// Saves a training with the default options: see [`SaveOptions::save`].
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

/// Options of saving.
///
/// | option | default |
/// |---|---|
/// | [`contents`](Self::contents) | [`Contents::Raw`]: variables and all state |
/// | [`extra`](Self::extra) | `null` |
/// | [`observer`](Self::observer) | none |
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

    /// The kind of weights to save.
    #[must_use]
    pub fn contents(mut self, contents: Contents) -> Self {
        self.contents = contents;
        self
    }

    /// Further data that the training needs to resume: its epoch, the state of its random numbers.
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

    /// Writes a file, or replaces it. At any moment, even if the process or the machine dies, there is either the old
    /// file or the complete new one. When this returns, the file has been flushed to the disk. The numbers are
    /// written from where they are, without a second copy in memory.
    ///
    /// `model` gives all variables, those without gradients included: a model, or a list of variables.
    ///
    /// If the variables are on several ranks (the optimizer has a [`Distribution`](opt_core::collective::Distribution)), all
    /// ranks call this at the same time with the same path. The path is that of a folder, which is made. Each rank
    /// writes a file with the variables and slots that it owns; of replicated data, one rank writes it. Then rank 0
    /// writes `manifest.safetensors`, which names these files with their checksums. Without this file there is no
    /// checkpoint; with it the checkpoint is complete. All ranks need the same file system, and wait for the slowest
    /// one within the time limit of any call.
    ///
    /// # Errors
    ///
    /// On several ranks, an error of one of them is an error on all; an existing checkpoint is unchanged.
    ///
    /// When the folder does not exist or is not writable, or the disk is full; when the optimizer knows a variable
    /// that is not given, or names are taken; when a slot is [swapped in](opt_core::Error::SwappedIn) or the state is
    /// [half applied](opt_core::Error::Poisoned). An existing file is then unchanged.
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

    /// Writes to any writer, from its current position; returns the number of bytes.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save), and the errors of the writer: half a checkpoint may then have been written.
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

    /// All errors that do not come from writing occur here.
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
