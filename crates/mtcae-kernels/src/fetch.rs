//! Asking the caches for what comes next.

/// Asks for `data` in the second-level cache: what comes from memory would be
/// waited for when its turn comes. Does nothing where there is no such hint.
#[inline(always)]
pub(crate) fn fetch(data: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in data.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which reads nothing; all CPUs of this kind have it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}
