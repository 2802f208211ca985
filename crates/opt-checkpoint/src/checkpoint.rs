//! A checkpoint that was written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use opt_core::{Optimizer, OptimizerBuilder, Registry, Scalar, UpdateRule};
use serde_json::Value;

use crate::error::{Damage, Error, Mismatch};
use crate::format::{Contents, Header, ITERATIONS, TensorSummary};
use crate::progress::{Meter, Observer, Progress};
use crate::source::Source;

/// A file whose header has been read and checked. Its numbers are read, and checked, by [`verify`](Self::verify) and
/// [`load`](Self::load).
///
/// # Examples
///
/// ```
/// use opt_checkpoint::{Checkpoint, SaveOptions};
/// use opt_core::{Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("run.safetensors");
/// let mut w = [1.0_f32, 2.0];
/// let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.9)).build()?;
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 1.0])])?;
/// opt_checkpoint::save(&path, &opt, [Variable::new("w", &mut w)])?;
///
/// let (mut w, mut opt) = ([0.0_f32; 2], Optimizer::new(Sgd::new(0.5).momentum(0.9)).build()?);
/// let loaded = Checkpoint::open(&path)?.load(&mut opt, [Variable::new("w", &mut w)])?;
/// assert_eq!((w, loaded.iterations), ([0.5, 1.5], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(crate) source: Source,
    pub(crate) header: Header,
}

impl Checkpoint {
    /// Opens a file, and checks its header and its length.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no checkpoint, is cut short, or its header is damaged. What is asked of memory
    /// is never more than the file's size warrants, whatever its header says.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::read(Source::File(path.into()))
    }

    /// As [`open`](Self::open), from bytes in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self, Error> {
        Self::read(Source::Memory(bytes.into()))
    }

    fn read(source: Source) -> Result<Self, Error> {
        let mut reader = source.open()?;
        let length = reader.length;
        let header = Header::read(&mut reader.bytes, length);
        drop(reader);
        let header = header.map_err(Error::io(crate::error::Action::Read, source.path()))?;
        let header = header.map_err(|damage| Error::damaged(source.path(), damage))?;
        if let Some(name) = header.manifest.layouts.keys().next() {
            return Err(Error::damaged(source.path(), Damage::Sharded { name: name.clone() }));
        }
        Ok(Self { source, header })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Which weights it holds.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.header.manifest.contents
    }

    /// The optimizer's configuration, Keras's JSON. There is none if a schedule held code.
    #[must_use]
    pub fn config(&self) -> Option<&Value> {
        self.header.manifest.config.as_ref()
    }

    /// What the training kept: see [`SaveOptions::extra`](crate::SaveOptions::extra).
    #[must_use]
    pub fn extra(&self) -> &Value {
        &self.header.manifest.extra
    }

    /// The names of the variables, in the order in which they were saved.
    #[must_use]
    pub fn variables(&self) -> &[String] {
        &self.header.manifest.variables
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSummary> + '_ {
        self.header.tensors.iter().map(TensorSummary::from)
    }

    /// How many steps had been applied.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or the number is damaged.
    pub fn iterations(&self) -> Result<u64, Error> {
        let found = self.header.tensors.iter().find(|tensor| tensor.name == ITERATIONS && tensor.len() == 8);
        let problem = || Damage::Header { problem: "there is no step counter".to_owned() };
        let tensor = found.ok_or_else(|| Error::damaged(self.path(), problem()))?;
        let mut number = [0; 8];
        let take = |bytes: &[u8]| number.copy_from_slice(bytes);
        let found = self.source.open()?.tensor(tensor, &mut Meter::new(8, None), take)?;
        match Self::damage(tensor, found) {
            None => Ok(u64::from_le_bytes(number)),
            Some(damage) => Err(self.mismatch(vec![damage])),
        }
    }

    /// A new optimizer of the file's configuration, without state: [`load`](Self::load) fills it.
    ///
    /// # Errors
    ///
    /// [`Error::NoConfiguration`]; a class that is not registered.
    pub fn optimizer<T: Scalar>(&self, registry: &Registry<T>) -> Result<Optimizer<Box<dyn UpdateRule<T>>, T>, Error> {
        let config = self.config().ok_or_else(|| Error::NoConfiguration { path: self.path().to_owned() })?;
        let builder = OptimizerBuilder::from_config(config, registry).map_err(opt_core::Error::from)?;
        Ok(builder.build()?)
    }

    /// Reads all numbers and compares their checksums.
    ///
    /// # Errors
    ///
    /// When the file cannot be read; [`Error::Mismatch`] with all tensors that are damaged.
    pub fn verify(&self) -> Result<(), Error> {
        self.verify_with(None)
    }

    /// As [`verify`](Self::verify), and tells how far it is.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub fn verify_observed(&self, mut observer: impl FnMut(Progress)) -> Result<(), Error> {
        self.verify_with(Some(&mut observer))
    }

    fn verify_with(&self, observer: Option<Observer<'_>>) -> Result<(), Error> {
        let (mut reader, mut meter) = (self.source.open()?, Meter::new(self.data_len(), observer));
        let mut damaged = Vec::new();
        for tensor in &self.header.tensors {
            let found = reader.tensor(tensor, &mut meter, |_| ())?;
            damaged.extend(Self::damage(tensor, found));
        }
        if damaged.is_empty() { Ok(()) } else { Err(self.mismatch(damaged)) }
    }

    pub(crate) fn damage(tensor: &crate::format::Tensor, found: crate::Checksum) -> Option<Mismatch> {
        let expected = tensor.checksum;
        (found != expected).then(|| Mismatch::Checksum { name: tensor.name.clone(), expected, found })
    }

    pub(crate) fn mismatch(&self, mismatches: Vec<Mismatch>) -> Error {
        Error::Mismatch { path: self.path().to_owned(), mismatches }
    }

    pub(crate) fn data_len(&self) -> u64 {
        self.header.tensors.iter().map(crate::format::Tensor::len).sum()
    }
}
