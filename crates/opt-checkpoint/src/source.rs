//! Sources of the bytes of a checkpoint.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checksum::{Checksum, Summer};
use crate::error::{Action, Error};
use crate::progress::Meter;

/// The number of bytes that are processed at a time: they stay in the cache between reading, summing and converting.
pub(crate) const PIECE: usize = 256 * 1024;

/// The number of bytes that are read at a time where tensors are small.
const AHEAD: usize = 64 * 1024;

/// A file, or bytes in memory.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

/// A reader that can seek.
pub(crate) trait Bytes: Read + Seek {}

impl<R: Read + Seek> Bytes for R {}

impl Source {
    /// The name of the source in errors.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Memory(_) => Path::new("(memory)"),
        }
    }

    pub(crate) fn open(&self) -> Result<Reader<'_>, Error> {
        let path = self.path();
        let (bytes, length): (Box<dyn Bytes + '_>, u64) = match self {
            Self::Memory(bytes) => (Box::new(Cursor::new(&**bytes)), bytes.len() as u64),
            Self::File(path) => {
                let file = File::open(path).map_err(Error::io(Action::Read, path))?;
                let length = file.metadata().map_err(Error::io(Action::Read, path))?.len();
                (Box::new(BufReader::with_capacity(AHEAD, file)), length)
            }
        };
        Ok(Reader { path, bytes, length, place: None, buffer: Vec::new() })
    }
}

/// An open source.
pub(crate) struct Reader<'s> {
    path: &'s Path,
    pub(crate) bytes: Box<dyn Bytes + 's>,
    /// All bytes.
    pub(crate) length: u64,
    /// The position of the next read, once it is known: another seek would discard the read-ahead buffer.
    place: Option<u64>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// Gives the bytes of a tensor to `take`, piece by piece, and returns their checksum.
    pub(crate) fn tensor(
        &mut self,
        bytes: &Range<u64>,
        meter: &mut Meter<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Checksum, Error> {
        if self.place.take() != Some(bytes.start) {
            self.bytes.seek(SeekFrom::Start(bytes.start)).map_err(Error::io(Action::Read, self.path))?;
        }
        self.buffer.resize(PIECE, 0);
        let (mut summer, mut left) = (Summer::new(), bytes.end - bytes.start);
        while left > 0 {
            let piece = &mut self.buffer[..left.min(PIECE as u64) as usize];
            self.bytes.read_exact(piece).map_err(Error::io(Action::Read, self.path))?;
            summer.add(piece);
            take(piece);
            meter.add(piece.len());
            left -= piece.len() as u64;
        }
        self.place = Some(bytes.end);
        Ok(summer.sum())
    }
}
