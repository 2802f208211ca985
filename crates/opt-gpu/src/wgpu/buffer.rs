//! Memory of a device of wgpu.

use std::ops::Range;
use std::sync::Arc;

use ::wgpu::{BindingResource, BufferBinding, BufferDescriptor, BufferSize, BufferUsages};
use opt_core::state::DType;

use super::errors::failed;
use super::limits::WORD;
use crate::device::DeviceError;

/// What kernels and copies need.
const USAGES: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

/// The device that a buffer is of. (Devices of wgpu compare equal if they have the same number in different instances.)
#[derive(Debug, Clone, Default)]
pub(super) struct Owner(Arc<()>);

/// One or several arrays of numbers of `f32`, or of fewer bits.
///
/// One array is in one buffer of wgpu. Several arrays are cut into chunks of elements; the buffer of a chunk has the
/// chunk's part of each array, one after the other, each in whole words. So kernels need one binding, however many
/// arrays there are.
#[derive(Debug, Clone)]
pub struct WgpuBuffer {
    dtypes: Arc<[DType]>,
    len: usize,
    /// The elements of a chunk; of one array, those that a dispatch takes.
    chunk: usize,
    buffers: Arc<[::wgpu::Buffer]>,
    owner: Owner,
}

impl WgpuBuffer {
    pub(super) fn new(device: &::wgpu::Device, owner: Owner, dtypes: &[DType], len: usize, chunk: usize) -> Self {
        let is_cut = dtypes.len() > 1 && len > 0;
        let lengths: Vec<usize> = if is_cut { ranges(0..len, chunk).map(|of| of.len()).collect() } else { vec![len] };
        let buffer = |len: usize| {
            // Buffers of 0 bytes cannot be bound, not even by users.
            let words = dtypes.iter().map(|dtype| words(*dtype, len)).sum::<usize>().max(1);
            let size = (words * WORD) as u64;
            device.create_buffer(&BufferDescriptor { label: None, size, usage: USAGES, mapped_at_creation: false })
        };
        let buffers = lengths.into_iter().map(buffer).collect();
        Self { dtypes: dtypes.into(), len, chunk, buffers, owner }
    }

    pub(super) fn wrap(
        owner: Owner,
        buffer: ::wgpu::Buffer,
        dtype: DType,
        len: usize,
        chunk: usize,
    ) -> Result<Self, DeviceError> {
        let expected = buffer.size() as usize / WORD * (WORD / dtype.bytes());
        if expected < len {
            return Err(DeviceError::Length { expected, found: len });
        }
        if !buffer.usage().contains(USAGES) {
            let message = format!("it has the usages {:?}, and needs {USAGES:?}", buffer.usage());
            return Err(failed("wrap a buffer", message));
        }
        Ok(Self { dtypes: [dtype].into(), len, chunk, buffers: [buffer].into(), owner })
    }

    /// The memory of one array, to be bound in shaders of one's own. (Of several arrays, the first chunk.)
    #[must_use]
    pub fn as_wgpu(&self) -> &::wgpu::Buffer {
        &self.buffers[0]
    }

    /// Fails if the buffer is of another device: its number there may be that of any buffer here.
    pub(super) fn check_owner(&self, owner: &Owner) -> Result<(), DeviceError> {
        if Arc::ptr_eq(&self.owner.0, &owner.0) {
            Ok(())
        } else {
            Err(failed("use a buffer", "it is of another device"))
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The types of the arrays.
    pub(super) fn dtypes(&self) -> &[DType] {
        &self.dtypes
    }

    pub(super) fn arrays(&self) -> usize {
        self.dtypes.len()
    }

    pub(super) fn chunk_len(&self) -> usize {
        self.chunk
    }

    /// The elements of each chunk.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        ranges(0..self.len, self.chunk)
    }

    /// The buffer in which elements of an array are, and their place in it in bytes. They are of one chunk, and the
    /// first one begins a word.
    pub(super) fn place(&self, array: usize, elements: &Range<usize>) -> (&::wgpu::Buffer, u64) {
        let number = if self.arrays() > 1 { elements.start / self.chunk } else { 0 };
        let first = number * self.chunk;
        let chunk = self.chunk.min(self.len - first);
        let before: usize = self.dtypes[..array].iter().map(|dtype| words(*dtype, chunk) * WORD).sum();
        let place = before + (elements.start - first) * self.dtypes[array].bytes();
        (&self.buffers[number], place as u64)
    }

    /// A binding of these elements: of one array. Of several arrays, of the chunk that these elements are.
    pub(super) fn binding(&self, elements: &Range<usize>) -> BindingResource<'_> {
        let (buffer, offset) = self.place(0, elements);
        let words: usize = self.dtypes.iter().map(|dtype| words(*dtype, elements.len())).sum();
        let size = BufferSize::new((words * WORD) as u64);
        BindingResource::Buffer(BufferBinding { buffer, offset, size })
    }
}

/// The words that numbers take.
pub(super) fn words(dtype: DType, len: usize) -> usize {
    len.div_ceil(WORD / dtype.bytes())
}

/// Cuts elements into ranges of this length; the last one may be shorter.
pub(super) fn ranges(elements: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let end = elements.end;
    elements.step_by(len).map(move |start| start..end.min(start + len))
}
