//! Copies between the device and the host.

use std::ops::Range;
use std::sync::mpsc;

use ::wgpu::{BufferDescriptor, BufferUsages, CommandEncoderDescriptor, MapMode};

use super::WgpuDevice;
use super::buffer::{WgpuBuffer, ranges, words};
use super::errors::failed;
use super::limits::WORD;
use crate::device::DeviceError;

/// The elements that are copied at once: a copy goes through memory of the host.
const PIECE: usize = 1 << 24;

const READ: &str = "read memory";
const WRITE: &str = "write memory";

/// The pieces of an array.
fn pieces(buffer: &WgpuBuffer) -> impl Iterator<Item = Range<usize>> {
    buffer.chunks().flat_map(|chunk| ranges(chunk, PIECE))
}

fn check_array(buffer: &WgpuBuffer, array: usize, action: &'static str) -> Result<(), DeviceError> {
    let arrays = buffer.arrays();
    if array < arrays { Ok(()) } else { Err(failed(action, format_args!("array {array} of {arrays} does not exist"))) }
}

impl WgpuDevice {
    pub(super) fn write_array(&self, buffer: &WgpuBuffer, array: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        check_array(buffer, array, WRITE)?;
        let size = buffer.dtypes()[array].bytes();
        if bytes.len() != buffer.len() * size {
            return Err(DeviceError::Length { expected: buffer.len(), found: bytes.len() / size });
        }
        self.guarded(WRITE, || {
            for piece in pieces(buffer) {
                let (of, offset) = buffer.place(array, &piece);
                let bytes = &bytes[piece.start * size..piece.end * size];
                let (words, rest) = bytes.split_at(bytes.len() / WORD * WORD);
                self.queue().write_buffer(of, offset, words);
                if !rest.is_empty() {
                    let mut last = [0; WORD];
                    last[..rest.len()].copy_from_slice(rest);
                    self.queue().write_buffer(of, offset + words.len() as u64, &last);
                }
                if piece.len() == PIECE {
                    // The host's copy is freed after it was submitted.
                    self.queue().submit([]);
                }
            }
        })
    }

    pub(super) fn read_array(&self, buffer: &WgpuBuffer, array: usize) -> Result<Vec<u8>, DeviceError> {
        check_array(buffer, array, READ)?;
        let dtype = buffer.dtypes()[array];
        let mut bytes = Vec::with_capacity(buffer.len() * dtype.bytes());
        for piece in pieces(buffer) {
            let (of, offset) = buffer.place(array, &piece);
            self.read_bytes(of, offset, words(dtype, piece.len()) * WORD, &mut bytes)?;
            // What is behind the last number of a word.
            bytes.truncate(piece.end * dtype.bytes());
        }
        Ok(bytes)
    }

    /// Adds bytes of a buffer to others.
    pub(super) fn read_bytes(
        &self,
        from: &::wgpu::Buffer,
        offset: u64,
        len: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<(), DeviceError> {
        self.guarded(READ, || {
            let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
            let descriptor = BufferDescriptor { label: None, size: len as u64, usage, mapped_at_creation: false };
            let host = self.device().create_buffer(&descriptor);
            let mut encoder = self.device().create_command_encoder(&CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(from, offset, &host, 0, len as u64);
            self.queue().submit([encoder.finish()]);
            let (sender, mapped) = mpsc::channel();
            // If nobody listens, the read has failed.
            host.map_async(MapMode::Read, .., move |result| drop(sender.send(result)));
            self.wait(READ)?;
            match mapped.try_recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(failed(READ, error)),
                Err(error) => return Err(failed(READ, error)),
            }
            let view = host.get_mapped_range(..).map_err(|error| failed(READ, error))?;
            bytes.extend_from_slice(&view);
            Ok(())
        })?
    }
}
