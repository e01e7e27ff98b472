//! Squares of sixteen lines of 64 bytes, which AMX and AVX512-BF16 multiply: reading
//! matrices into registers and writing lines.
//!
//! A step of a panel holds two squares (sixteen rows or columns each), or two for each
//! digit. Of a left operand a line is a row's terms, of a right operand it is two or
//! four terms for sixteen columns. Terms beyond the inner dimension are zeros on both
//! sides.

use std::arch::x86_64::*;

use super::Left;
use crate::matrix::MatRef;

/// Rows and columns of a panel.
pub(super) const SIDE: usize = 32;
/// `f32` that a square takes: 16 lines of 64 bytes.
pub(super) const SQUARE: usize = 256;
/// Sums of a product of two panels.
pub(super) const SUMS: usize = SIDE * SIDE;

/// The left panels, each of `len` numbers, and the sums of each.
#[inline(always)]
pub(super) fn each<'a, 's>(
    left: Left<'a>,
    len: usize,
    sums: &'s mut [f32],
) -> impl Iterator<Item = (&'a [f32], &'s mut [f32])> {
    let panels = (0..left.rows.div_ceil(SIDE)).map(move |i| &left.data[i * left.panel..][..len]);
    panels.zip(sums.chunks_exact_mut(SUMS))
}

/// Sixteen rows from `row` on, of each sixteen elements from `col` on, of a
/// matrix whose columns lie side by side; zeros outside of it. Callers hold a
/// kernel, and take the function in: sixteen registers would come back through
/// memory.
#[inline(always)]
pub(super) fn lines(m: MatRef<'_>, row: usize, col: usize) -> [__m512; 16] {
    // SAFETY: the caller's kernel proves AVX-512.
    let mut lines = [unsafe { _mm512_setzero_ps() }; 16];
    if row >= m.rows || col >= m.cols {
        return lines;
    }
    let data = &m.data[row * m.row_stride + col..];
    let (rows, cols) = ((m.rows - row).min(16), (m.cols - col).min(16));
    if rows == 16 && cols == 16 {
        let data = &data[..15 * m.row_stride + 16];
        for (i, line) in lines.iter_mut().enumerate() {
            // SAFETY: the slice holds sixteen elements from each of these places.
            *line = unsafe { _mm512_loadu_ps(data.as_ptr().add(i * m.row_stride)) };
        }
    } else {
        let data = &data[..(rows - 1) * m.row_stride + cols];
        for (i, line) in lines.iter_mut().enumerate().take(rows) {
            // SAFETY: the slice holds `cols` elements from each of these places,
            // and the mask reads no more.
            *line =
                unsafe { _mm512_maskz_loadu_ps(mask(cols), data.as_ptr().add(i * m.row_stride)) };
        }
    }
    lines
}

/// Sixteen elements of the first row from `col` on; zeros outside of it. Callers
/// hold a kernel.
#[inline(always)]
pub(super) fn line(m: MatRef<'_>, col: usize) -> __m512 {
    if col >= m.cols {
        // SAFETY: the caller's kernel proves AVX-512.
        return unsafe { _mm512_setzero_ps() };
    }
    let data = &m.data[col..m.cols];
    // SAFETY: as above, and the mask reads no more than the slice holds.
    unsafe { _mm512_maskz_loadu_ps(mask(data.len()), data.as_ptr()) }
}

/// The first `n` of sixteen lanes; all where `n` is larger.
#[inline(always)]
pub(super) fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as u16
}

/// Writes line `i` of a square.
#[inline(always)]
pub(super) fn put(line: __m512, square: usize, i: usize, step: &mut [f32]) {
    let from = square * SQUARE + i * 16;
    let line_of = &mut step[from..from + 16];
    // SAFETY: the slice holds sixteen `f32` and is borrowed mutably; callers
    // hold a kernel, which proves AVX-512.
    unsafe { _mm512_storeu_ps(line_of.as_mut_ptr(), line) }
}
