//! Products of panels of 32 rows by panels of 32 columns, whose operands lie in the
//! tiles that AMX and AVX512-BF16 multiply: tiles of bf16, or of bytes
//! ([`digits`]).
//!
//! A panel is a row of *steps*, each some terms of the inner dimension. A step holds
//! two tiles (sixteen rows or columns each), or two for each digit. A tile is
//! sixteen lines of 64 bytes: of a left operand a line is a row's terms, of a right
//! operand it is two or four terms for sixteen columns.
//!
//! Terms beyond the inner dimension are zeros on both sides; rows and columns
//! beyond the operand are computed and left out of what is written.

#[cfg(target_os = "linux")]
pub(crate) mod amx;
mod bf16;
#[cfg(target_os = "linux")]
pub(crate) mod digits;
pub(crate) mod dots;

use std::arch::x86_64::*;
use std::ops::Range;

use crate::matrix::MatRef;

/// Rows, columns and terms of a step.
pub(crate) const SIDE: usize = 32;
/// `f32` that a tile takes: 16 lines of 64 bytes.
pub(crate) const SQUARE: usize = 256;
/// Sums of a product of two panels.
pub(crate) const SUMS: usize = SIDE * SIDE;

/// How panels are laid out and multiplied. Holding one proves that the CPU has
/// AVX-512 F, BW, DQ, VL and whatever else its methods need; those that are given
/// here round to bf16, which takes AVX512-BF16.
///
/// The methods are to be inlined into functions that enable those features.
pub(crate) trait Engine: Copy + Send + Sync {
    /// Terms of a step: 32 or 64.
    const TERMS: usize = SIDE;
    /// `f32` that a step takes.
    const STEP: usize = 2 * SQUARE;
    /// `f32` that stand behind the steps of a panel.
    const TAIL: usize = 0;
    /// `f32` that [`Engine::put`] writes.
    const PUT: usize = Self::STEP;
    /// Steps of a right panel that are to be multiplied by several left panels, one
    /// after the other, while the first-level cache holds them.
    const AT_HAND: usize = usize::MAX;

    /// `f32` of a panel.
    #[inline(always)]
    fn panel(terms: usize) -> usize {
        terms.div_ceil(Self::TERMS) * Self::STEP + Self::TAIL
    }
    /// `f32` from one panel of an operand to the next: a panel, or the squares that
    /// it is made of.
    #[inline(always)]
    fn operand(terms: usize) -> usize {
        Self::panel(terms).max(terms.div_ceil(SIDE) * Self::PUT)
    }
    /// Readies the calling thread for [`Engine::multiply`].
    fn begin(self);
    /// Undoes [`Engine::begin`].
    fn end(self);
    /// Packs a row of a left panel from its terms.
    #[inline(always)]
    fn pack_row(self, terms: &[f32], row: usize, panel: &mut [f32]) {
        bf16::pack_row(terms, row, panel);
    }
    /// Packs at most 32 rows (·, k) as a left panel, where rows or columns are
    /// contiguous.
    #[inline(always)]
    fn pack_rows(self, rows: MatRef<'_>, panel: &mut [f32]) {
        bf16::pack_rows(rows, panel);
    }
    /// Packs at most 32 columns as a right panel. They are given as rows (·, k),
    /// each of them contiguous.
    #[inline(always)]
    fn pack_columns(self, columns: MatRef<'_>, panel: &mut [f32]) {
        bf16::pack_columns(columns, panel);
    }
    /// Packs at most 32 columns (k, ·) as a right panel, where each term's columns
    /// are contiguous.
    #[inline(always)]
    fn pack_terms(self, terms: MatRef<'_>, panel: &mut [f32]) {
        bf16::pack_terms(terms, panel);
    }
    /// Writes 32 terms of row `row`, a square of the next layer's operand, which
    /// becomes a panel by [`Engine::settle`].
    #[inline(always)]
    fn put(self, first: __m512, second: __m512, row: usize, square: &mut [f32]) {
        bf16::put_left(first, second, row, square);
    }
    /// Makes a panel, in place, of the squares that [`Engine::put`] has written.
    /// `copy` has the same length.
    #[inline(always)]
    fn settle(self, _terms: usize, _panel: &mut [f32], _copy: &mut [f32]) {}
    /// Writes the terms, between 0 and 1, of a step of a left panel's row: all that
    /// a step has, sixteen by sixteen.
    #[inline(always)]
    fn put_weights(self, terms: [__m512; 4], row: usize, step: &mut [f32]) {
        bf16::put_left(terms[0], terms[1], row, step);
    }
    /// Completes a panel whose steps are written by [`Engine::put_weights`].
    #[inline(always)]
    fn finish_weights(self, _panel: &mut [f32]) {}
    /// The product of the steps in the range of two panels, 32×32 row by row: added
    /// to `sums`, or in their place when they are `fresh`. Meanwhile the second-level
    /// cache is asked for what is `ahead`, or for the first part of it.
    fn multiply(
        self,
        left: &[f32],
        right: &[f32],
        steps: Range<usize>,
        fresh: bool,
        ahead: &[f32],
        sums: &mut [f32],
    );
    /// Products of registers alone, four a loop for each product of parts: gives
    /// the floating-point operations of a product that these stand for.
    fn peak(self, loops: usize) -> f64;
}

/// Sixteen rows from `row` on, of each sixteen elements from `col` on, of a
/// matrix whose columns lie side by side; zeros outside of it. Callers hold an
/// engine, and take the function in: sixteen registers would come back through
/// memory.
#[inline(always)]
pub(crate) fn lines(m: MatRef<'_>, row: usize, col: usize) -> [__m512; 16] {
    // SAFETY: the caller's engine proves AVX-512.
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
/// hold an engine.
#[inline(always)]
pub(crate) fn line(m: MatRef<'_>, col: usize) -> __m512 {
    if col >= m.cols {
        // SAFETY: the caller's engine proves AVX-512.
        return unsafe { _mm512_setzero_ps() };
    }
    let data = &m.data[col..m.cols];
    // SAFETY: as above, and the mask reads no more than the slice holds.
    unsafe { _mm512_maskz_loadu_ps(mask(data.len()), data.as_ptr()) }
}

/// The first `n` of sixteen lanes; all where `n` is larger.
#[inline(always)]
pub(crate) fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as u16
}

/// Writes line `i` of a tile.
#[inline(always)]
pub(crate) fn put(line: __m512, tile: usize, i: usize, step: &mut [f32]) {
    let from = tile * SQUARE + i * 16;
    let line_of = &mut step[from..from + 16];
    // SAFETY: the slice holds sixteen `f32` and is borrowed mutably; callers
    // hold an engine, which proves AVX-512.
    unsafe { _mm512_storeu_ps(line_of.as_mut_ptr(), line) }
}
