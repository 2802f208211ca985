//! The tensors of a checkpoint, and the files with their numbers.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use crate::checksum::Checksum;
use crate::error::{Action, Damage, Error, Rejected};
use crate::format::{Header, Shard, Sharded, Tensor};
use crate::region::{Region, check_partition};
use crate::source::Source;

/// A whole tensor.
#[derive(Debug, Clone)]
pub(crate) struct WholeTensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

/// A part of a tensor; the whole tensor, in a file that is not a shard.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The index of its tensor.
    pub(crate) tensor: usize,
    /// The index of its file.
    pub(crate) file: usize,
    pub(crate) region: Region,
    /// The position in the file.
    pub(crate) bytes: Range<u64>,
    pub(crate) checksum: Checksum,
}

impl Piece {
    pub(crate) fn len(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

/// All tensors and their parts.
#[derive(Debug, Clone)]
pub(crate) struct Tensors {
    /// The file, or the manifest and the shards.
    pub(crate) files: Vec<Source>,
    pub(crate) whole: Vec<WholeTensor>,
    /// In the order of the files, and in each file in the order of its bytes.
    pub(crate) pieces: Vec<Piece>,
}

impl Tensors {
    /// The tensors of one file, and of its shards if it has any.
    pub(crate) fn open(file: Source, of_file: Vec<Tensor>, sharded: Option<&Sharded>) -> Result<Self, Error> {
        let mut tensors = Self { files: vec![file], whole: Vec::new(), pieces: Vec::new() };
        for Tensor { name, dtype, shape, bytes, checksum } in of_file {
            let region = Region::whole(&shape);
            tensors.pieces.push(Piece { tensor: tensors.whole.len(), file: 0, region, bytes, checksum });
            tensors.whole.push(WholeTensor { name, dtype, shape });
        }
        if let Some(sharded) = sharded {
            tensors.add(sharded)?;
        }
        Ok(tensors)
    }

    fn add(&mut self, sharded: &Sharded) -> Result<(), Error> {
        let manifest = self.files[0].clone();
        let Source::File(path) = &manifest else {
            let name = sharded.tensors.keys().next().cloned().unwrap_or_default();
            return Err(Error::damaged(manifest.path(), Damage::Sharded { name }));
        };
        let folder = crate::atomic::folder(path);
        let problem = |problem| Error::damaged(path, Damage::Header { problem });
        check(sharded).map_err(problem)?;
        if let Some(twice) = self.whole.iter().find(|tensor| sharded.tensors.contains_key(&tensor.name)) {
            return Err(problem(format!("tensor {:?} is there twice", twice.name)));
        }
        let places =
            (self.whole.len()..).zip(sharded.tensors.keys()).map(|(place, name)| (name.as_str(), place)).collect();
        for (name, whole) in &sharded.tensors {
            self.whole.push(WholeTensor { name: name.clone(), dtype: whole.dtype, shape: whole.shape.clone() });
        }
        let mut rejected = Vec::new();
        for shard in &sharded.shards {
            let path = folder.join(shard.file_name());
            match self.add_shard(shard, sharded, &places, &path) {
                Ok(()) => {}
                Err(error) => rejected.push(Rejected { path, error }),
            }
        }
        if rejected.is_empty() {
            return Ok(());
        }
        // Removing a checkpoint begins with its manifest.
        std::fs::metadata(path).map_err(Error::io(Action::Read, path))?;
        Err(Error::Shards { path: folder.to_owned(), rejected })
    }

    fn add_shard(
        &mut self,
        shard: &Shard,
        sharded: &Sharded,
        places: &HashMap<&str, usize>,
        path: &Path,
    ) -> Result<(), Error> {
        let source = Source::File(path.to_owned());
        let header = read_header(&source).map_err(|error| match error {
            Error::Io { source, path, .. } if source.kind() == ErrorKind::NotFound => {
                Error::Damaged { path, damage: Damage::ShardMissing }
            }
            error => error,
        })?;
        let damaged = |damage| Error::damaged(path, damage);
        let (expected, found) = (shard.checksum, header.manifest.checksum);
        if found != expected {
            return Err(damaged(Damage::ForeignShard { expected, found }));
        }
        if header.file != shard.bytes {
            return Err(damaged(Damage::Length { expected: shard.bytes, found: header.file }));
        }
        if header.tensors.len() != shard.parts.len() {
            return Err(damaged(Damage::Header { problem: "it has other tensors than the manifest says".to_owned() }));
        }
        for tensor in header.tensors {
            let Tensor { name, dtype, shape, bytes, checksum } = tensor;
            let fits = |region: &&Region| region.shape == shape && sharded.tensors[&name].dtype == dtype;
            let Some(region) = shard.parts.get(&name).filter(fits) else {
                return Err(damaged(Damage::Header { problem: format!("{name:?} is not what the manifest says") }));
            };
            let (tensor, file) = (places[name.as_str()], self.files.len());
            self.pieces.push(Piece { tensor, file, region: region.clone(), bytes, checksum });
        }
        self.files.push(source);
        Ok(())
    }

    /// The name of a file, if it is a shard.
    pub(crate) fn shard(&self, piece: &Piece) -> Option<PathBuf> {
        (piece.file > 0).then(|| self.files[piece.file].path().to_owned())
    }
}

/// Checks that a manifest describes possible shards: every element is in exactly one of them.
pub(crate) fn check(sharded: &Sharded) -> Result<(), String> {
    for (place, shard) in sharded.shards.iter().enumerate() {
        if shard.rank >= sharded.ranks || sharded.shards[..place].iter().any(|other| other.rank == shard.rank) {
            return Err(format!("rank {} has two shards, or is none of {} ranks", shard.rank, sharded.ranks));
        }
        if let Some(name) = shard.parts.keys().find(|name| !sharded.tensors.contains_key(*name)) {
            return Err(format!("tensor {name:?} has a part and no type"));
        }
    }
    for (name, whole) in &sharded.tensors {
        let parts = sharded.shards.iter().filter_map(|shard| shard.parts.get(name)).collect();
        check_partition(&whole.shape, parts).map_err(|problem| format!("tensor {name:?}: {problem}"))?;
    }
    Ok(())
}

/// Opens a file and reads the part before its data.
pub(crate) fn read_header(source: &Source) -> Result<Header, Error> {
    let mut reader = source.open()?;
    let length = reader.length;
    let header = Header::read(&mut reader.bytes, length);
    drop(reader);
    let header = header.map_err(Error::io(Action::Read, source.path()))?;
    header.map_err(|damage| Error::damaged(source.path(), damage))
}
