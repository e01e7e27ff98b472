//! Aligned buffers that a thread keeps, so that a kernel in its steady state
//! neither allocates nor faults pages in.

use std::cell::RefCell;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// How many buffers a thread keeps.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` elements that begin on a cache line and hold whatever an
/// earlier call left there.
pub(crate) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let lines = len.div_ceil(16);
    // The smallest buffer that suffices, else the largest, which a larger one replaces.
    let mut buffer = FREE.with_borrow_mut(|free| {
        let place = free
            .iter()
            .enumerate()
            .filter(|(_, b)| b.len() >= lines)
            .min_by_key(|(_, b)| b.len())
            .or_else(|| free.iter().enumerate().max_by_key(|(_, b)| b.len()))
            .map(|(i, _)| i);
        place.map(|i| free.swap_remove(i)).unwrap_or_default()
    });
    if buffer.len() < lines {
        buffer = Vec::new(); // its contents are not worth copying
        buffer.resize(lines, Line([0.0; 16]));
    }
    // SAFETY: `Line` is exactly 16 `f32` without padding (64 bytes, aligned to
    // 64), so the lines are that many initialised `f32` in a row.
    let flat = unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), lines * 16) };
    let result = f(&mut flat[..len]);
    FREE.with_borrow_mut(|free| {
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
    result
}

/// Slices of these lengths, side by side, each from a cache line on.
///
/// # Panics
/// When `buffer` is shorter than all of them, each rounded up to whole lines.
#[inline(always)]
pub(crate) fn split<const N: usize>(buffer: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    let mut rest = buffer;
    lengths.map(|n| {
        let (now, later) = std::mem::take(&mut rest).split_at_mut(n.next_multiple_of(16));
        rest = later;
        &mut now[..n]
    })
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn nested_buffers_are_aligned_and_distinct() {
        for len in [0, 1, 17, 1000] {
            with(len, |a| {
                assert_eq!((a.len(), a.as_ptr() as usize % 64), (len, 0));
                a.fill(1.0);
                with(len, |b| b.fill(2.0));
                assert!(a.iter().all(|&v| v == 1.0));
            });
        }
    }
}
