//! Panels of bf16, two terms a lane.

use std::arch::x86_64::*;

use super::squares::{SIDE, SQUARE, line, lines, put};
use crate::lanes::transpose;
use crate::matrix::MatRef;

/// `f32` that a step takes.
const STEP: usize = 2 * SQUARE;

#[inline(always)]
pub(super) fn pack_row(terms: &[f32], row: usize, panel: &mut [f32]) {
    for (step, out) in panel.chunks_exact_mut(STEP).enumerate() {
        let all = MatRef::new(terms, 1, terms.len(), terms.len());
        let (first, second) = (line(all, step * SIDE), line(all, step * SIDE + 16));
        put_left(first, second, row, out);
    }
}

#[inline(always)]
pub(super) fn pack_rows(rows: MatRef<'_>, panel: &mut [f32]) {
    for (step, out) in panel.chunks_exact_mut(STEP).enumerate() {
        for half in 0..2 {
            let (row, k) = (half * 16, step * SIDE);
            // SAFETY: callers hold a kernel, which proves AVX-512.
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
                put_left(first[i], second[i], row + i, out);
            }
        }
    }
}

#[inline(always)]
pub(super) fn pack_columns(columns: MatRef<'_>, panel: &mut [f32]) {
    if columns.col_stride != 1 {
        return pack_terms(columns.t(), panel);
    }
    for (step, out) in panel.chunks_exact_mut(STEP).enumerate() {
        for half in 0..2 {
            let k = step * SIDE;
            // SAFETY: callers hold a kernel, which proves AVX-512.
            let terms = unsafe {
                let first = transpose(lines(columns, half * 16, k));
                let second = transpose(lines(columns, half * 16, k + 16));
                [first, second]
            };
            put_right(terms, half, out);
        }
    }
}

#[inline(always)]
fn pack_terms(terms: MatRef<'_>, panel: &mut [f32]) {
    for (step, out) in panel.chunks_exact_mut(STEP).enumerate() {
        for half in 0..2 {
            let k = step * SIDE;
            let both = [lines(terms, k, half * 16), lines(terms, k + 16, half * 16)];
            put_right(both, half, out);
        }
    }
}

/// Writes row `row` of a left step from its 32 terms.
#[inline(always)]
pub(super) fn put_terms(terms: &[f32], row: usize, step: &mut [f32]) {
    let all = MatRef::new(terms, 1, terms.len(), terms.len());
    put_left(line(all, 0), line(all, 16), row, step);
}

/// A right step of 32 rows of 32 numbers.
#[inline(always)]
pub(super) fn put_weights(weights: &[f32], step: &mut [f32]) {
    pack_terms(MatRef::new(weights, SIDE, SIDE, SIDE), step);
}

/// Writes row `row` of a left step.
#[inline(always)]
fn put_left(first: __m512, second: __m512, row: usize, step: &mut [f32]) {
    // SAFETY: callers hold a kernel that rounds, which proves AVX512-BF16.
    let line = unsafe { round_row(first, second) };
    put(line, row / 16, row % 16, step);
}

/// Writes a right step's terms of sixteen columns, the first (`half` 0) or last.
#[inline(always)]
fn put_right(terms: [[__m512; 16]; 2], half: usize, step: &mut [f32]) {
    for i in 0..16 {
        let (low, high) = (2 * i, 2 * i + 1);
        // SAFETY: as above.
        let line = unsafe { round_pairs(terms[low / 16][low % 16], terms[high / 16][high % 16]) };
        put(line, half, i, step);
    }
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

/// What kernels that round have in common.
macro_rules! rounded {
    () => {
        type Simd = crate::lanes::Avx512;

        const ROWS: usize = SIDE;
        const COLS: usize = SIDE;
        const TERMS: usize = SIDE;
        const LEFT: usize = 2 * SQUARE;
        const RIGHT: usize = 2 * SQUARE;
        const PANELS: usize = 13;
        const RUN: usize = 1536;

        #[inline(always)]
        fn simd(self) -> Self::Simd {
            // SAFETY: the kernel proves these features.
            unsafe { crate::lanes::Avx512::new() }
        }
        #[inline(always)]
        fn pack_row(self, terms: &[f32], row: usize, panel: &mut [f32]) {
            bf16::pack_row(terms, row, panel);
        }
        #[inline(always)]
        fn pack_rows(self, rows: MatRef<'_>, panel: &mut [f32]) {
            bf16::pack_rows(rows, panel);
        }
        #[inline(always)]
        fn pack_columns(self, columns: MatRef<'_>, panel: &mut [f32]) {
            bf16::pack_columns(columns, panel);
        }
        #[inline(always)]
        fn put(self, terms: &[f32], row: usize, square: &mut [f32]) {
            bf16::put_terms(terms, row, square);
        }
        #[inline(always)]
        fn put_weights(self, weights: &[f32], step: &mut [f32]) {
            bf16::put_weights(weights, step);
        }
    };
}
pub(super) use rounded;
