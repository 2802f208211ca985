//! What a call had to copy.

/// The copies that the last call made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Copies {
    /// The number of gradients that were copied because they share their memory with a variable.
    pub shared_gradients: usize,
    /// Bytes of variables below 262,144 elements that were updated together, on several threads: each left a copy for
    /// other threads to read.
    pub bytes_on_host: usize,
    /// Bytes of gradients and variables that came from another device.
    pub bytes_to_host: usize,
    /// Bytes of variables that went to another device.
    pub bytes_to_device: usize,
}
