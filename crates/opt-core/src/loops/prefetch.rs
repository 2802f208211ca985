//! Tells the processor which numbers a loop will read soon.

/// The number of bytes that come into the cache together.
const LINE: usize = 64;

/// Asks for the elements `start..start + len` of a slice. Does nothing on processors other than x86-64. Elements that
/// do not exist may be asked for.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "there is no instruction for it"))]
pub(crate) fn prefetch<T>(slice: &[T], start: usize, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in 0..(len * size_of::<T>()).div_ceil(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = slice.as_ptr().wrapping_add(start).cast::<i8>().wrapping_add(line * LINE);
        // SAFETY: a hint reads and writes nothing, whatever the address is; SSE is a part of x86-64.
        #[expect(unsafe_code, reason = "the instruction has no safe form")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address);
        }
    }
}
