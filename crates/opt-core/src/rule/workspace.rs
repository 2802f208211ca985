//! Memory of one thread for the blocks that it updates.

use crate::loops::Buffer;
use crate::precision::packed::WideSlots;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Workspace<T> {
    /// Never written: the gradient of untouched rows.
    pub(crate) zeros: Buffer<T>,
    /// Overwritten at will.
    pub(crate) scratch: Buffer<T>,
    /// Slots that are stored in 16 bits.
    pub(crate) wide: WideSlots<T>,
}
