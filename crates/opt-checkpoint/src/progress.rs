//! The progress of writing or reading a file.

/// Bytes of tensors that are done, and of all tensors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes written, or read and checked.
    pub done: u64,
    /// All bytes.
    pub total: u64,
}

/// The observer of the progress.
pub(crate) type Observer<'o> = &'o mut dyn FnMut(Progress);

/// Counts bytes and tells an observer.
pub(crate) struct Meter<'o> {
    progress: Progress,
    observer: Option<Observer<'o>>,
}

impl<'o> Meter<'o> {
    pub(crate) fn new(total: u64, observer: Option<Observer<'o>>) -> Self {
        Self { progress: Progress { done: 0, total }, observer }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.progress.done += bytes as u64;
        if let Some(observer) = &mut self.observer {
            observer(self.progress);
        }
    }
}
