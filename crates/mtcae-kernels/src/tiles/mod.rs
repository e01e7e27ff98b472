//! Products of panels of 32 rows by panels of 32 columns, whose operands lie in the
//! tiles that AMX and AVX512-BF16 multiply: tiles of bf16, or of bytes
//! ([`digits`]).
//!
//! A panel is a row of *steps*, each 32 terms of the inner dimension. A step holds
//! two tiles (sixteen rows or columns each) for every part of its numbers: three
//! parts make an `f32` ([`Split`](amx::Split)), one is the number rounded to bf16
//! ([`Rounded`](amx::Rounded), [`Dots`](dots::Dots)). A tile is sixteen lines of
//! sixteen pairs of terms: of a left operand a line is a row, of a right operand
//! it is a pair of terms for sixteen columns.
//!
//! Terms beyond the inner dimension are zeros on both sides; rows and columns
//! beyond the operand are computed and left out of what is written.

#[cfg(target_os = "linux")]
pub(crate) mod amx;
#[cfg(target_os = "linux")]
pub(crate) mod digits;
pub(crate) mod dots;

use std::arch::x86_64::*;

use crate::lanes::transpose;
use crate::matrix::MatRef;

/// Rows, columns and terms of a step.
pub(crate) const SIDE: usize = 32;
/// `f32` that a tile takes: 16 lines of 64 bytes.
pub(crate) const SQUARE: usize = 256;
/// Sums of a product of two panels.
pub(crate) const SUMS: usize = SIDE * SIDE;

/// How steps are laid out and multiplied. Holding one proves that the CPU has
/// AVX-512 F, BW, DQ, VL and whatever else its methods need; those that are given
/// here round to bf16, which takes AVX512-BF16.
///
/// The methods are to be inlined into functions that enable those features.
pub(crate) trait Engine: Copy + Send + Sync {
    /// Parts of a number.
    const PARTS: usize;
    /// `f32` that a step takes.
    const STEP: usize = Self::PARTS * 2 * SQUARE;
    /// Readies the calling thread for [`Engine::multiply`].
    fn begin(self);
    /// Undoes [`Engine::begin`].
    fn end(self);
    /// The two terms that pair `i` of a step holds.
    #[inline(always)]
    fn pair(i: usize) -> (usize, usize) {
        (2 * i, 2 * i + 1)
    }
    /// Line `row` of a left step: its first and its last sixteen terms.
    #[inline(always)]
    fn put_left(self, first: __m512, second: __m512, row: usize, step: &mut [f32]) {
        // SAFETY: an engine that rounds proves AVX512-BF16.
        let line = unsafe { round_row(first, second) };
        put(line, row / 16, row % 16, step);
    }
    /// Pair `i` of sixteen columns, the first (`half` 0) or last (1) of a right
    /// step.
    #[inline(always)]
    fn put_right(self, low: __m512, high: __m512, half: usize, i: usize, step: &mut [f32]) {
        // SAFETY: as above.
        let line = unsafe { round_pairs(low, high) };
        put(line, half, i, step);
    }
    /// The product of `steps` steps, 32×32 row by row: added to `sums`, or in
    /// their place when they are `fresh`.
    fn multiply(self, left: &[f32], right: &[f32], steps: usize, fresh: bool, sums: &mut [f32]);
}

/// Packs at most 32 rows (·, k) as a left panel, where rows or columns are
/// contiguous.
#[inline(always)]
pub(crate) fn pack_rows<E: Engine>(engine: E, rows: MatRef<'_>, out: &mut [f32]) {
    debug_assert!(rows.row_stride == 1 || rows.col_stride == 1);
    for (step, out) in out.chunks_exact_mut(E::STEP).enumerate() {
        for half in 0..2 {
            let (row, k) = (half * 16, step * SIDE);
            // SAFETY: an engine proves AVX-512.
            let (first, second) = unsafe {
                if rows.col_stride == 1 {
                    (lines(rows, row, k), lines(rows, row, k + 16))
                } else {
                    let terms = rows.t();
                    let (first, second) = (lines(terms, k, row), lines(terms, k + 16, row));
                    (transpose(first), transpose(second))
                }
            };
            for i in 0..16 {
                engine.put_left(first[i], second[i], row + i, out);
            }
        }
    }
}

/// Packs a row of a left panel from its terms.
#[inline(always)]
pub(crate) fn pack_row<E: Engine>(engine: E, terms: &[f32], row: usize, panel: &mut [f32]) {
    for (step, out) in panel.chunks_exact_mut(E::STEP).enumerate() {
        let from = (step * SIDE).min(terms.len());
        let terms = MatRef::new(&terms[from..], 1, terms.len() - from, terms.len() - from);
        // SAFETY: an engine proves AVX-512.
        let (first, second) = unsafe { (line(terms, 0), line(terms, 16)) };
        engine.put_left(first, second, row, out);
    }
}

/// Packs at most 32 columns as a right panel. They are given as rows (·, k), each
/// of them contiguous.
#[inline(always)]
pub(crate) fn pack_columns<E: Engine>(engine: E, columns: MatRef<'_>, out: &mut [f32]) {
    debug_assert_eq!(columns.col_stride, 1);
    for (step, out) in out.chunks_exact_mut(E::STEP).enumerate() {
        for half in 0..2 {
            let k = step * SIDE;
            // SAFETY: an engine proves AVX-512.
            let terms = unsafe {
                let first = transpose(lines(columns, half * 16, k));
                let second = transpose(lines(columns, half * 16, k + 16));
                [first, second]
            };
            for i in 0..16 {
                // No closures here: they would not take on the instruction set.
                let (low, high) = E::pair(i);
                let (low, high) = (terms[low / 16][low % 16], terms[high / 16][high % 16]);
                engine.put_right(low, high, half, i, out);
            }
        }
    }
}

/// Packs at most 32 columns (k, ·) as a right panel, where each term's columns
/// are contiguous.
#[inline(always)]
pub(crate) fn pack_terms<E: Engine>(engine: E, terms: MatRef<'_>, out: &mut [f32]) {
    debug_assert_eq!(terms.col_stride, 1);
    for (step, out) in out.chunks_exact_mut(E::STEP).enumerate() {
        for half in 0..2 {
            let k = step * SIDE;
            // SAFETY: an engine proves AVX-512.
            let both = unsafe { [lines(terms, k, half * 16), lines(terms, k + 16, half * 16)] };
            for i in 0..16 {
                let (low, high) = E::pair(i);
                let (low, high) = (both[low / 16][low % 16], both[high / 16][high % 16]);
                engine.put_right(low, high, half, i, out);
            }
        }
    }
}

/// Sixteen rows from `row` on, of each sixteen elements from `col` on, of a
/// matrix whose columns lie side by side; zeros outside of it.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn lines(m: MatRef<'_>, row: usize, col: usize) -> [__m512; 16] {
    let mut lines = [_mm512_setzero_ps(); 16];
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

/// Sixteen elements of the first row from `col` on; zeros outside of it.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn line(m: MatRef<'_>, col: usize) -> __m512 {
    if col >= m.cols {
        return _mm512_setzero_ps();
    }
    let data = &m.data[col..m.cols];
    // SAFETY: the mask reads no more than the slice holds.
    unsafe { _mm512_maskz_loadu_ps(mask(data.len()), data.as_ptr()) }
}

/// The first `n` of sixteen lanes; all where `n` is larger.
#[inline(always)]
pub(crate) fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as u16
}

/// 32 terms of a row as bf16, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_row(first: __m512, second: __m512) -> __m512 {
    let both = _mm512_cvtne2ps_pbh(second, first);
    // SAFETY: both are 64 bytes of plain numbers.
    unsafe { std::mem::transmute::<__m512bh, __m512>(both) }
}

/// Sixteen pairs of terms as bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bf16")]
fn round_pairs(low: __m512, high: __m512) -> __m512 {
    let round = |x: __m512| {
        // SAFETY: both are 32 bytes of plain numbers.
        let x = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) };
        _mm512_cvtepu16_epi32(x)
    };
    let high = _mm512_slli_epi32::<16>(round(high));
    _mm512_castsi512_ps(_mm512_or_si512(round(low), high))
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
