//! Tells the processor which numbers a loop will read soon.

/// Asks for the lines of 64 bytes with the elements `start..start + len` of a slice. Does nothing on processors other
/// than x86-64. Elements that do not exist may be asked for.
#[inline(always)]
#[cfg_attr(any(not(target_arch = "x86_64"), miri), expect(unused_variables, reason = "there is no instruction for it"))]
pub fn prefetch<T>(slice: &[T], start: usize, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in 0..(len * size_of::<T>()).div_ceil(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = slice.as_ptr().wrapping_add(start).cast::<i8>().wrapping_add(line * 64);
        // SAFETY: a hint reads and writes nothing, whatever the address is; SSE is a part of x86-64.
        #[expect(unsafe_code, reason = "the instruction has no safe form")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address);
        }
    }
}
