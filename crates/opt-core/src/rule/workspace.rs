//! The buffers of one thread for the blocks that it updates.

use crate::loops::Buffer;
use crate::precision::packed::WideSlots;

/// The buffers of one thread, for the blocks that it updates one after another. They are made when they are first
/// needed.
#[derive(Debug, Default)]
pub struct Workspace<T> {
    /// Zeros, never written: the gradient of untouched rows.
    pub(crate) zeros: Buffer<T>,
    /// A scratch buffer, overwritten freely.
    pub(crate) scratch: Buffer<T>,
    /// Slots of the current block that are stored in fewer bits, in the element type.
    pub(crate) wide: WideSlots<T>,
}
