//! Memory of `f32` on cache lines, and in huge pages where it is large.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What a huge page holds, in bytes.
const HUGE: usize = 2 << 20;

/// A fixed number of `f32`, zeros at first, that begin on a cache line.
///
/// Four megabytes and more begin on a huge page, and Linux is asked to back them
/// with such: packed weights and activations are read in strides that would
/// otherwise miss the translation buffers.
pub struct Buffer {
    data: NonNull<f32>,
    len: usize,
}

// SAFETY: it owns its memory as a `Vec<f32>` does.
unsafe impl Send for Buffer {}
// SAFETY: shared references only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self::default();
        }
        let layout = Self::layout(len);
        // SAFETY: the layout is not empty.
        let data = unsafe { alloc(layout) }.cast::<f32>();
        let Some(data) = NonNull::new(data) else {
            handle_alloc_error(layout)
        };
        advise(data, layout);
        // SAFETY: the allocation holds `len` elements, and zero bits are 0.0.
        unsafe { data.as_ptr().write_bytes(0, len) };
        Self { data, len }
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.saturating_mul(size_of::<f32>());
        let align = if bytes >= 2 * HUGE { HUGE } else { 64 };
        match Layout::from_size_align(bytes, align) {
            Ok(layout) => layout,
            // As `Vec` answers a capacity that no memory can have.
            Err(_) => panic!("buffer: {len} elements exceed the address space"),
        }
    }
}

/// Asks for huge pages before the memory is first touched.
#[cfg(target_os = "linux")]
fn advise(data: NonNull<f32>, layout: Layout) {
    if layout.align() == HUGE {
        // SAFETY: the range is a fresh allocation of whole pages at its start;
        // the advice changes no contents. It may be refused, which does no harm.
        unsafe {
            libc::madvise(
                data.as_ptr().cast(),
                layout.size() / HUGE * HUGE,
                libc::MADV_HUGEPAGE,
            );
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: NonNull<f32>, _: Layout) {}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            data: NonNull::dangling(),
            len: 0,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeroed` with this layout.
            unsafe { dealloc(self.data.as_ptr().cast(), Self::layout(self.len)) }
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised elements that this value owns.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} elements)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn buffers_are_aligned_zeros_that_can_be_written() {
        for (len, align) in [(0, 4), (1, 64), (1000, 64), (3 << 20, 2 << 20)] {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % align), (len, 0));
            assert!(buffer.iter().all(|&v| v == 0.0));
            buffer.fill(1.0);
            assert!(buffer.iter().all(|&v| v == 1.0));
        }
    }
}
