//! How much one dispatch and one binding can take.

/// The number of threads of a workgroup.
pub(super) const THREADS: usize = 256;

/// The number of bytes of a word. Kernels and copies take whole words.
pub(super) const WORD: usize = size_of::<u32>();

/// Chunks have at least this number of elements: then their places in a buffer are aligned, for each adapter and for
/// numbers of any size.
pub(super) const ALIGNMENT: usize = 256;

/// The limits of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The workgroups of a dispatch.
    pub(super) workgroups: usize,
    /// The elements of a dispatch.
    dispatch: usize,
    /// The bytes of a binding.
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
            binding: bytes as usize,
            uniform_alignment: limits.min_uniform_buffer_offset_alignment as usize,
        }
    }

    pub(super) fn with_chunks_of(self, elements: usize) -> Self {
        Self { dispatch: elements, ..self }
    }

    /// The number of elements of a chunk, of arrays that share a binding and take this number of bytes for an element;
    /// those with a word or less have the longest chunks. It is a power of two, so that elements of a chunk differ only
    /// in the last 32 bits of their places.
    pub(super) fn chunk(self, bytes: usize) -> usize {
        let elements = self.dispatch.min(self.binding / bytes.max(WORD)).max(ALIGNMENT);
        1 << elements.ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_powers_of_two_and_not_longer_than_those_of_words() {
        let limits = Limits { workgroups: 65_535, dispatch: 65_535 * 256, binding: 3_000_000, uniform_alignment: 256 };
        let chunks = [1, 2, 4, 5, 12, 12_000_000].map(|bytes| limits.chunk(bytes));
        assert_eq!(chunks, [524_288, 524_288, 524_288, 524_288, 131_072, ALIGNMENT]);
        assert_eq!(Limits { binding: usize::MAX, ..limits }.chunk(4), 1 << 23);
    }
}
