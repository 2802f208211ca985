//! From numbers in memory to bytes in a file, in one pass.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use ndarray::{CowArray, IxDyn};
use opt_core::model::Any;

use super::content::{Entry, Numbers};
use super::{Action, Element, Error, Manifest, Meter, Progress};
use crate::checksum::{Checksum, Summer};
use crate::element::Number;
use crate::format::{Header, Layout};
use crate::source::PIECE;

/// Everything that will be written.
pub(super) struct Plan<'s, 'o, T> {
    /// Without checksums.
    pub(super) manifest: Manifest,
    pub(super) tensors: Vec<Entry<'s, T>>,
    pub(super) observer: Option<Box<dyn FnMut(Progress) + 'o>>,
}

/// The result of writing.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: u64,
    /// The checksum of everything before the data.
    pub(super) checksum: Checksum,
}

impl<T: Element> Plan<'_, '_, T> {
    /// Writes the header with zeroed checksums, then the tensors, then the header again with the checksums.
    pub(super) fn write(mut self, writer: &mut (impl Write + Seek), path: &Path) -> Result<Written, Error> {
        let invalid = |damage| Error::damaged(path, damage);
        let layouts: Vec<Layout> = self.tensors.iter().map(layout).collect();
        let header = Header::compose(&self.manifest, &layouts).map_err(invalid)?;
        let total = layouts.iter().map(bytes).sum();
        let observer = self.observer.as_mut().map(|observer| &mut **observer as &mut dyn FnMut(Progress));
        // Small tensors are collected in a buffer; large ones bypass it.
        let writer = BufWriter::with_capacity(PIECE, writer);
        let mut output =
            Output { writer, summer: Summer::new(), meter: Meter::new(total, observer), buffer: Vec::new() };
        let write = Action::Write;
        let start = output.writer.stream_position().map_err(Error::io(write, path))?;
        output.writer.write_all(&header.bytes).map_err(Error::io(write, path))?;
        let mut checksums = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            output.tensor(&tensor.numbers).map_err(Error::io(write, path))?;
            checksums.push(output.summer.sum());
        }
        let sealed = header.seal(&checksums);
        let length = sealed.bytes.len() as u64;
        output.writer.seek(SeekFrom::Start(start)).map_err(Error::io(write, path))?;
        output.writer.write_all(&sealed.bytes).map_err(Error::io(write, path))?;
        // This also writes the rest of the buffer.
        output.writer.seek(SeekFrom::Start(start + length + total)).map_err(Error::io(write, path))?;
        Ok(Written { bytes: length + total, checksum: sealed.checksum })
    }
}

fn layout<T: Element>(entry: &Entry<'_, T>) -> Layout {
    let Entry { name, numbers, .. } = entry;
    Layout { name: name.clone(), dtype: numbers.dtype(), shape: numbers.shape().to_vec() }
}

fn bytes(layout: &Layout) -> u64 {
    (layout.shape.iter().product::<usize>() * layout.dtype.bitsize() / 8) as u64
}

/// A writer that computes checksums.
struct Output<'o, W: Write> {
    writer: BufWriter<W>,
    /// Of the tensor that is being written.
    summer: Summer,
    meter: Meter<'o>,
    buffer: Vec<u8>,
}

impl<W: Write> Output<'_, W> {
    fn tensor<T: Element>(&mut self, numbers: &Numbers<'_, T>) -> io::Result<()> {
        self.summer = Summer::new();
        match numbers {
            Numbers::Whole(number) => self.put(&number.to_le_bytes()),
            Numbers::Scalar(number) => self.put(&number.to_le_bytes()),
            Numbers::Array(Any::Full(array)) => self.array(array),
            Numbers::Array(Any::Bf16(array)) => self.array(array),
            Numbers::Array(Any::F16(array)) => self.array(array),
        }
    }

    fn array<N: Number>(&mut self, array: &CowArray<'_, N, IxDyn>) -> io::Result<()> {
        let count = PIECE / size_of::<N>();
        if let Some(numbers) = array.as_slice() {
            return numbers.chunks(count).try_for_each(|piece| self.numbers(piece));
        }
        // Row by row, in any memory order.
        let (mut rest, mut piece) = (array.iter().copied(), Vec::with_capacity(count));
        loop {
            piece.extend(rest.by_ref().take(count));
            if piece.is_empty() {
                return Ok(());
            }
            self.numbers(&piece)?;
            piece.clear();
        }
    }

    fn numbers<N: Number>(&mut self, numbers: &[N]) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(size_of_val(numbers), 0);
        N::write_bytes(numbers, &mut buffer);
        let written = self.put(&buffer);
        self.buffer = buffer;
        written
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.summer.add(bytes);
        self.writer.write_all(bytes)?;
        self.meter.add(bytes.len());
        Ok(())
    }
}
