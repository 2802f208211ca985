//! An existing checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use opt_core::state::{ITERATIONS, MICRO_STEP};
use opt_core::{DynOptimizer, OptimizerBuilder, Registry, Scalar};
use serde_json::Value;

use crate::checksum::Checksum;
use crate::error::{Damage, Error, Mismatch};
use crate::format::{Contents, Header, MANIFEST, Manifest, PieceSummary, TensorSummary};
use crate::progress::{Meter, Observer, Progress};
use crate::source::{Reader, Source};
use crate::tensors::{self, Piece, Tensors, WholeTensor};

/// A file whose header has been read and checked, or a folder of [shards](crate::SaveOptions::save).
/// [`verify`](Self::verify) and [`load`](Self::load) read and check the numbers.
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
/// let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.9))?;
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 1.0])])?;
/// opt_checkpoint::save(&path, &opt, &[Variable::new("w", &mut w)])?;
///
/// let (mut w, mut opt) = ([0.0_f32; 2], Optimizer::new(Sgd::new(0.5).momentum(0.9))?);
/// let loaded = Checkpoint::open(&path)?.load(&mut opt, &mut [Variable::new("w", &mut w)])?;
/// assert_eq!((w, loaded.iterations), ([0.5, 1.5], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The file, or the folder of shards.
    path: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) tensors: Tensors,
}

impl Checkpoint {
    /// Opens a file, and checks its header and its length. In a folder of shards, it does so for all files.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not a checkpoint, is truncated, or its header is damaged; [`Error::Shards`]
    /// with all shards that are missing, damaged or of another checkpoint. Whatever the headers say, memory is
    /// allocated only in proportion to the sizes of the files.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        if path.is_dir() {
            return Self::read(Source::File(path.join(MANIFEST)), path);
        }
        Self::read(Source::File(path.clone()), path)
    }

    /// As [`open`](Self::open), from the bytes of one file in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self, Error> {
        let source = Source::Memory(bytes.into());
        let path = source.path().to_owned();
        Self::read(source, path)
    }

    fn read(source: Source, path: PathBuf) -> Result<Self, Error> {
        let Header { manifest, tensors, .. } = tensors::read_header(&source)?;
        if let Some(name) = manifest.layouts.keys().next() {
            return Err(Error::damaged(source.path(), Damage::Sharded { name: name.clone() }));
        }
        let tensors = Tensors::open(source, tensors, manifest.sharded.as_ref())?;
        Ok(Self { path, manifest, tensors })
    }

    /// The file, or the folder of shards.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of ranks that saved it, each with its shard; none if all is in one file.
    #[must_use]
    pub fn ranks(&self) -> Option<usize> {
        self.manifest.sharded.as_ref().map(|sharded| sharded.ranks)
    }

    /// The kind of weights that it holds.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.manifest.contents
    }

    /// The optimizer's configuration, as Keras's JSON. There is none if a schedule held code.
    #[must_use]
    pub fn config(&self) -> Option<&Value> {
        self.manifest.config.as_ref()
    }

    /// Further data of the training: see [`SaveOptions::extra`](crate::SaveOptions::extra).
    #[must_use]
    pub fn extra(&self) -> &Value {
        &self.manifest.extra
    }

    /// The names of the variables, in the order in which they were saved.
    #[must_use]
    pub fn variables(&self) -> &[String] {
        &self.manifest.variables
    }

    /// All tensors, in the order of the file; sharded ones come last.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSummary> + '_ {
        let mut pieces: Vec<Vec<PieceSummary>> = vec![Vec::new(); self.tensors.whole.len()];
        for Piece { tensor, file, region, bytes, checksum } in self.tensors.pieces.iter().cloned() {
            let path = self.tensors.files[file].path().to_owned();
            pieces[tensor].push(PieceSummary { path, bytes, checksum, offset: region.offset, shape: region.shape });
        }
        self.tensors.whole.iter().zip(pieces).map(|(tensor, pieces)| {
            let WholeTensor { name, dtype, shape } = tensor.clone();
            TensorSummary { name, dtype: dtype.to_string(), shape, pieces }
        })
    }

    /// The number of steps that had been applied.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or the number is damaged.
    pub fn iterations(&self) -> Result<u64, Error> {
        let problem = || Damage::Header { problem: "there is no step counter".to_owned() };
        let number = self.number(ITERATIONS)?.ok_or_else(|| Error::damaged(self.path(), problem()))?;
        Ok(u64::from_le_bytes(number))
    }

    /// The number of micro-steps whose gradients wait to be applied.
    pub(crate) fn micro_step(&self) -> Result<u64, Error> {
        Ok(self.number(MICRO_STEP)?.map_or(0, |number| f64::from_le_bytes(number).ceil() as u64))
    }

    /// The bytes of a number of this name; `None` if there is none.
    fn number(&self, name: &str) -> Result<Option<[u8; 8]>, Error> {
        let Tensors { files, whole, pieces } = &self.tensors;
        let found = pieces.iter().find(|piece| whole[piece.tensor].name == name && piece.len() == 8);
        let Some(piece) = found else { return Ok(None) };
        let mut number = [0; 8];
        let take = |bytes: &[u8]| number.copy_from_slice(bytes);
        let found = files[piece.file].open()?.tensor(&piece.bytes, &mut Meter::new(8, None), take)?;
        match self.damage(piece, found) {
            None => Ok(Some(number)),
            Some(damage) => Err(self.mismatch(vec![damage])),
        }
    }

    /// A new optimizer of the file's configuration, without state; [`load`](Self::load) loads the state.
    ///
    /// # Errors
    ///
    /// [`Error::NoConfiguration`]; a class that is not registered.
    pub fn optimizer<T: Scalar>(&self, registry: &Registry<T>) -> Result<DynOptimizer<T>, Error> {
        let config = self.config().ok_or_else(|| Error::NoConfiguration { path: self.path().to_owned() })?;
        let builder = OptimizerBuilder::from_config(config, registry).map_err(opt_core::Error::from)?;
        Ok(builder.build()?)
    }

    /// Reads all numbers and compares their checksums.
    ///
    /// # Errors
    ///
    /// When the file cannot be read; [`Error::Mismatch`] with all damaged tensors.
    pub fn verify(&self) -> Result<(), Error> {
        self.verify_with(|_| true, None)
    }

    /// As [`verify`](Self::verify), and reports its progress.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub fn verify_observed(&self, mut observer: impl FnMut(Progress)) -> Result<(), Error> {
        self.verify_with(|_| true, Some(&mut observer))
    }

    /// As [`verify`](Self::verify), for some of the files, by their indices.
    pub(crate) fn verify_with(
        &self,
        file: impl Fn(usize) -> bool,
        observer: Option<Observer<'_>>,
    ) -> Result<(), Error> {
        let pieces: Vec<&Piece> = self.tensors.pieces.iter().filter(|piece| file(piece.file)).collect();
        let mut damaged = Vec::new();
        self.read_pieces(&pieces, observer, |reader, piece, meter| {
            let found = reader.tensor(&pieces[piece].bytes, meter, |_| ())?;
            damaged.extend(self.damage(pieces[piece], found));
            Ok(())
        })?;
        if damaged.is_empty() { Ok(()) } else { Err(self.mismatch(damaged)) }
    }

    /// Calls `read` for each piece, with its index in the list and its file open. Each file is opened once.
    pub(crate) fn read_pieces(
        &self,
        pieces: &[&Piece],
        observer: Option<Observer<'_>>,
        mut read: impl FnMut(&mut Reader<'_>, usize, &mut Meter<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut meter = Meter::new(pieces.iter().map(|piece| piece.len()).sum(), observer);
        let mut first = 0;
        for of_file in pieces.chunk_by(|a, b| a.file == b.file) {
            let mut reader = self.tensors.files[of_file[0].file].open()?;
            (first..first + of_file.len()).try_for_each(|piece| read(&mut reader, piece, &mut meter))?;
            first += of_file.len();
        }
        Ok(())
    }

    pub(crate) fn damage(&self, piece: &Piece, found: Checksum) -> Option<Mismatch> {
        let (name, expected) = (self.tensors.whole[piece.tensor].name.clone(), piece.checksum);
        (found != expected).then(|| match self.tensors.shard(piece) {
            None => Mismatch::Checksum { name, expected, found },
            Some(path) => Mismatch::ShardChecksum { name, path, expected, found },
        })
    }

    /// Identifies the checkpoint: the checksum of its header depends on everything in it.
    pub(crate) fn identity(&self) -> String {
        format!("checksum {} in {}", self.manifest.checksum, self.path.display())
    }

    pub(crate) fn mismatch(&self, mismatches: Vec<Mismatch>) -> Error {
        Error::Mismatch { path: self.path().to_owned(), mismatches }
    }
}
