//! Slices that may be absent: a missing slot or average is an empty slice.

use std::mem;

/// The elements `at..at + n`.
pub(crate) fn block_of<T>(slice: &mut [T], at: usize, n: usize) -> &mut [T] {
    if slice.is_empty() { slice } else { &mut slice[at..at + n] }
}

/// Splits before an element.
pub(crate) fn split<T>(slice: &mut [T], at: usize) -> (&mut [T], &mut [T]) {
    slice.split_at_mut(at.min(slice.len()))
}

/// Splits before an element: keeps the front, returns the back.
pub(crate) fn split_off<'a, T>(slice: &mut &'a mut [T], at: usize) -> &'a mut [T] {
    let (front, back) = split(mem::take(slice), at);
    *slice = front;
    back
}
