//! Max pooling with stride 2 in PyTorch's ceil mode: the last window may hang
//! over the border and takes what is there.

use crate::isa::Isa;
use crate::lanes::{Lanes, vectorise};
use crate::matrix::size;

/// Length of an axis of `n` after pooling with windows of `kernel`.
pub fn output(n: usize, kernel: usize) -> usize {
    match n {
        0 => 0,
        _ => n.saturating_sub(kernel).div_ceil(2) + 1,
    }
}

/// One output row from the rows of its windows (fewer than the kernel at the
/// lower border), channels last with a multiple of sixteen `channels`:
/// input rows (w, channels), output (output(w, kernel), channels).
///
/// # Panics
/// When `rows` is empty, the lengths disagree, `channels` is no multiple of 16 or the
/// kernel is smaller than the stride.
pub fn row(isa: Isa, rows: &[&[f32]], kernel: usize, channels: usize, out: &mut [f32]) {
    assert!(
        channels > 0 && channels.is_multiple_of(16) && !rows.is_empty() && kernel > 1,
        "pool: {channels} channels, {} rows, kernel {kernel}",
        rows.len()
    );
    let w = rows[0].len() / channels;
    assert!(
        rows.iter().all(|r| r.len() == w * channels) && out.len() == output(w, kernel) * channels,
        "pool: lengths"
    );
    vectorise!(isa, pool(rows: &[&[f32]], kernel: usize, channels: usize, out: &mut [f32]));
}

/// A whole plane: (h, w, channels) → (output(h), output(w), channels).
///
/// # Panics
/// As [`row`].
pub fn plane(isa: Isa, input: &[f32], w: usize, kernel: usize, channels: usize, out: &mut [f32]) {
    let line = size([w, channels]);
    assert!(line > 0 && input.len().is_multiple_of(line), "pool: input");
    let h = input.len() / line;
    let out_line = output(w, kernel) * channels;
    assert_eq!(out.len(), output(h, kernel) * out_line, "pool: output");
    let mut rows = Vec::with_capacity(kernel.min(h));
    for (y, out) in out.chunks_exact_mut(out_line).enumerate() {
        rows.clear();
        rows.extend(input[2 * y * line..].chunks_exact(line).take(kernel));
        row(isa, &rows, kernel, channels, out);
    }
}

#[inline(always)]
fn pool<L: Lanes>(simd: L, rows: &[&[f32]], kernel: usize, channels: usize, out: &mut [f32]) {
    let groups = channels / 16;
    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
        let (out, _) = out.as_chunks_mut::<16>();
        for (group, out) in out.iter_mut().enumerate() {
            let mut best = simd.splat(f32::NEG_INFINITY);
            let infinity = simd.splat(f32::INFINITY);
            for row in rows {
                let (row, _) = row.as_chunks::<16>();
                let window = row[2 * x * groups..].iter().skip(group).step_by(groups);
                for value in window.take(kernel) {
                    // NaN is not below infinity, and stays.
                    let larger = simd.max(best, simd.load(value));
                    best = simd.if_below(best, infinity, larger, best);
                }
            }
            simd.store(best, out);
        }
    }
}

/// The definition.
pub mod reference {
    /// (h, w, channels) → (output(h), output(w), channels).
    pub fn plane(input: &[f64], w: usize, kernel: usize, channels: usize) -> Vec<f64> {
        let h = input.len() / (w * channels);
        let mut out = Vec::new();
        for y in 0..super::output(h, kernel) {
            for x in 0..super::output(w, kernel) {
                for c in 0..channels {
                    let mut best = f64::NEG_INFINITY;
                    for y in 2 * y..(2 * y + kernel).min(h) {
                        for x in 2 * x..(2 * x + kernel).min(w) {
                            best = best.max(input[(y * w + x) * channels + c]);
                        }
                    }
                    out.push(best);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, randn, widen};

    #[test]
    fn sizes_are_pytorchs_in_ceil_mode() {
        for (n, kernel, want) in [
            (1, 2, 1),
            (5, 2, 3),
            (10, 2, 5),
            (22, 3, 11),
            (9, 3, 4),
            (46, 3, 23),
            (21, 3, 10),
            (8, 2, 4),
            (2, 3, 1),
            (0, 2, 0),
        ] {
            assert_eq!(output(n, kernel), want, "{n} by {kernel}");
        }
    }

    #[test]
    fn equals_the_definition() {
        for (h, w, kernel, channels) in
            [(5, 7, 2, 16), (6, 4, 3, 32), (1, 1, 2, 16), (9, 22, 3, 48)]
        {
            let input = randn(h * w * channels, (h * w) as u64);
            let want = reference::plane(&widen(&input), w, kernel, channels);
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; want.len()];
                plane(isa, &input, w, kernel, channels, &mut out);
                compare(&out, &want, 0.0, isa.name());
            }
        }
    }

    #[test]
    fn nan_stays_wherever_it_stands_in_a_window() {
        for place in 0..4 {
            let mut input = vec![1.0; 4 * 16];
            input[place * 16 + 3] = f32::NAN;
            for isa in Isa::available() {
                let mut out = [0.0; 16];
                plane(isa, &input, 2, 2, 16, &mut out);
                for (c, y) in out.iter().enumerate() {
                    assert_eq!(y.is_nan(), c == 3, "{} {place} {c}", isa.name());
                }
            }
        }
    }
}
