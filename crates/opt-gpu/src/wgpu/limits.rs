//! How much one dispatch and one binding can take.

/// The number of threads of a workgroup.
pub(super) const THREADS: usize = 256;

/// The number of bytes of a number.
pub(super) const BYTES: usize = size_of::<f32>();

/// Chunks are multiples of this number of elements: then their places in a buffer are aligned, for each adapter.
pub(super) const ALIGNMENT: usize = 64;

/// The limits of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The workgroups of a dispatch.
    pub(super) workgroups: usize,
    /// The elements of a dispatch.
    dispatch: usize,
    /// The numbers of a binding.
    binding: usize,
    /// The places of uniforms are multiples of this number of bytes.
    pub(super) uniform_alignment: usize,
}

impl Limits {
    pub(super) fn of(limits: &::wgpu::Limits) -> Self {
        // Kernels count in 32 bits.
        let bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(u64::from(u32::MAX));
        let workgroups = limits.max_compute_workgroups_per_dimension as usize;
        Self {
            workgroups,
            dispatch: workgroups.saturating_mul(THREADS),
            binding: bytes as usize / BYTES,
            uniform_alignment: limits.min_uniform_buffer_offset_alignment as usize,
        }
    }

    pub(super) fn with_chunks_of(self, elements: usize) -> Self {
        Self { dispatch: elements, ..self }
    }

    /// The number of elements of a chunk: of several arrays, which share a binding.
    pub(super) fn chunk(self, arrays: usize) -> usize {
        let elements = self.dispatch.min(self.binding / arrays.max(1));
        (elements / ALIGNMENT * ALIGNMENT).max(ALIGNMENT)
    }
}
