//! Asks for memory that will be read soon, where the hardware does not see it coming.

/// Starts to fetch bytes into the outer cache: few requests from the inner one can be under way at
/// once. Does nothing where that cannot be asked for.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T2, _mm_prefetch};
        // SAFETY: a prefetch changes nothing but the cache, and the address is that of a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T2>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
