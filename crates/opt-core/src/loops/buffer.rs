//! Blocks: their size, and buffers for them.

/// The largest number of elements in a block: value, gradient and all slots of it fit in the first-level caches.
pub const BLOCK: usize = if cfg!(miri) { 512 } else { 8192 };

/// A buffer for a block, allocated when it is first used.
#[derive(Debug, Default)]
pub(crate) struct Buffer<T>(Vec<T>);

impl<T> Buffer<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Default> Buffer<T> {
    /// The first `len` elements, with their old contents.
    pub(crate) fn first(&mut self, len: usize) -> &mut [T] {
        if self.0.is_empty() {
            self.0.resize(BLOCK, T::default());
        }
        &mut self.0[..len]
    }
}
