//! Memory of `f32` on cache lines, and in huge pages where it is large.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What a huge page holds, in bytes.
const HUGE: usize = 2 << 20;

/// A fixed number of `f32`, zeros at first, that begin on a cache line.
///
/// On Linux four megabytes and more are a mapping of their own that begins on a huge
/// page, and the kernel is asked to back it with such: packed weights and activations are
/// read in strides that would otherwise miss the translation buffers. So weights that
/// stay do not lie between numbers that are on the way to them, and leave no holes in the
/// heap.
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
        let data = match layout.align() {
            HUGE => map(layout.size()),
            // SAFETY: the layout is not empty.
            _ => NonNull::new(unsafe { alloc_zeroed(layout) }),
        };
        let Some(data) = data else {
            handle_alloc_error(layout)
        };
        let data = data.cast();
        Self { data, len }
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.saturating_mul(size_of::<f32>());
        let (bytes, align) = match bytes {
            // Whole huge pages.
            ..=LARGEST if bytes >= 2 * HUGE && MAPS => (bytes.next_multiple_of(HUGE), HUGE),
            _ => (bytes, 64),
        };
        match Layout::from_size_align(bytes, align) {
            Ok(layout) => layout,
            // As `Vec` answers a capacity that no memory can have.
            Err(_) => panic!("buffer: {len} elements exceed the address space"),
        }
    }
}

/// Whether large buffers are mappings.
const MAPS: bool = cfg!(target_os = "linux");
/// More than an address space has, and few enough that what is added is a number.
const LARGEST: usize = isize::MAX as usize / 2;

/// So many bytes of zeros, whole huge pages, from a huge page on.
#[cfg(target_os = "linux")]
fn map(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: a fresh mapping of memory that belongs to nobody. What is given back of it
    // lies before and behind the part that is kept, and both are whole pages. The advice
    // changes no contents; it may be refused, which does no harm.
    unsafe {
        let (rights, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let all = libc::mmap(std::ptr::null_mut(), bytes + HUGE, rights, flags, -1, 0);
        if all == libc::MAP_FAILED {
            return None;
        }
        let before = all.align_offset(HUGE);
        let kept = all.byte_add(before);
        if before > 0 {
            libc::munmap(all, before);
        }
        libc::munmap(kept.byte_add(bytes), HUGE - before);
        libc::madvise(kept, bytes, libc::MADV_HUGEPAGE);
        NonNull::new(kept.cast())
    }
}

#[cfg(not(target_os = "linux"))]
fn map(_: usize) -> Option<NonNull<u8>> {
    None
}

/// Gives a mapping back.
///
/// # Safety
/// It must be one of [`map`], of as many bytes, which nobody uses any longer.
#[cfg(target_os = "linux")]
unsafe fn unmap(data: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(data.as_ptr().cast(), bytes) };
}

#[cfg(not(target_os = "linux"))]
unsafe fn unmap(_: NonNull<u8>, _: usize) {}

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
        if self.len == 0 {
            return;
        }
        let (data, layout) = (self.data.cast::<u8>(), Self::layout(self.len));
        match layout.align() {
            // SAFETY: mapped in `zeroed` with this length.
            HUGE => unsafe { unmap(data, layout.size()) },
            // SAFETY: allocated in `zeroed` with this layout.
            _ => unsafe { dealloc(data.as_ptr(), layout) },
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

/// Asks the C library to give back what is free in its heap: after a model has been
/// packed, as much as its largest block took unpacked. Does nothing where the library has
/// no such call.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Asks the C library to keep what is freed for what is asked for next: each step of a training
/// frees the large tensors that the next one needs again, and having their pages from the system
/// anew is a good part of a convolutional network's step. The process then holds the most that
/// it ever needed. For programs, before they start threads; does nothing where the library has no
/// such call.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (what, value) in [
        // No mapping of their own for large blocks, none given back from the heap's end,
        // and one heap, since the others are too small for such blocks.
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, -1),
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: it takes numbers, and may be called at any time.
        unsafe {
            libc::mallopt(what, value);
        }
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
