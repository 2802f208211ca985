//! What a call had to copy.

/// The copies that the last call made. Steps on variables of the CPU make none, unless a gradient shares its memory
/// with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Copies {
    /// The number of gradients that were copied because they share their memory with a variable.
    pub shared_gradients: usize,
    /// Bytes of gradients and variables that came from another device.
    pub bytes_to_host: usize,
    /// Bytes of variables that went to another device.
    pub bytes_to_device: usize,
}
