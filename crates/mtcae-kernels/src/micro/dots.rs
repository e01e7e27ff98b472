//! The micro-kernel on AVX512-BF16: bf16 dot products without tile registers.

use std::arch::x86_64::*;
use std::ops::Range;

use super::squares::{SIDE, SQUARE, each};
use super::{Left, MicroKernel, bf16};
use crate::fetch::fetch;
use crate::matrix::MatRef;

/// Rows whose sums stay in registers: with two registers a row, half of them.
const ROWS: usize = 8;

/// Numbers rounded to bf16.
#[derive(Clone, Copy)]
pub(crate) struct Dots(());

impl Dots {
    /// The kernel.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F, BW, DQ, VL and BF16, AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl MicroKernel for Dots {
    bf16::rounded!();

    const BLOCK: usize = 128 * 1024;

    #[inline(always)]
    fn multiply(
        self,
        left: Left<'_>,
        right: &[f32],
        terms: Range<usize>,
        fresh: bool,
        ahead: &[f32],
        sums: &mut [f32],
    ) {
        fetch(ahead);
        let some = terms.start / SIDE * Self::LEFT..terms.end.div_ceil(SIDE) * Self::LEFT;
        for (left, sums) in each(left, right.len(), sums) {
            let (left, right) = (&left[some.clone()], &right[some.clone()]);
            let (sums, _) = sums.as_chunks_mut::<16>();
            // SAFETY: the kernel proves AVX512-BF16.
            unsafe { dots(left, right, fresh, sums) }
        }
    }

    fn peak(self, loops: usize) -> f64 {
        // SAFETY: the kernel proves AVX512-BF16.
        unsafe { on_registers(loops) }
        (CHAINS * 2 * 32 * loops) as f64
    }
}

/// Sums that [`MicroKernel::peak`] has under way.
const CHAINS: usize = 24;

#[target_feature(enable = "avx512f,avx512bf16")]
fn on_registers(loops: usize) {
    // SAFETY: both are 64 bytes of plain numbers.
    let ones = unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(0x3f80)) };
    let ones = std::hint::black_box(ones);
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..loops {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, ones, ones);
        }
    }
    std::hint::black_box(sums);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dots(left: &[f32], right: &[f32], fresh: bool, sums: &mut [[f32; 16]]) {
    let line = |x: &[f32]| {
        // SAFETY: callers pass sixteen `f32`; any bits are sixteen pairs of bf16.
        unsafe { std::mem::transmute::<__m512, __m512bh>(_mm512_loadu_ps(x.as_ptr())) }
    };
    for (block, sums) in sums.chunks_exact_mut(2 * ROWS).enumerate() {
        let mut acc = [[_mm512_setzero_ps(); 2]; ROWS];
        if !fresh {
            for (acc, sums) in acc.iter_mut().zip(sums.chunks_exact(2)) {
                for h in 0..2 {
                    // SAFETY: sixteen `f32`.
                    acc[h] = unsafe { _mm512_loadu_ps(sums[h].as_ptr()) };
                }
            }
        }
        let steps = left
            .chunks_exact(2 * SQUARE)
            .zip(right.chunks_exact(2 * SQUARE));
        for (left, right) in steps {
            let rows = &left[block * ROWS * 16..(block + 1) * ROWS * 16];
            for i in 0..16 {
                let columns = [
                    line(&right[i * 16..i * 16 + 16]),
                    line(&right[SQUARE + i * 16..SQUARE + i * 16 + 16]),
                ];
                for r in 0..ROWS {
                    let both = _mm512_set1_ps(rows[r * 16 + i]);
                    // SAFETY: both are 64 bytes of plain numbers.
                    let both = unsafe { std::mem::transmute::<__m512, __m512bh>(both) };
                    for h in 0..2 {
                        acc[r][h] = _mm512_dpbf16_ps(acc[r][h], both, columns[h]);
                    }
                }
            }
        }
        for (acc, sums) in acc.iter().zip(sums.chunks_exact_mut(2)) {
            for h in 0..2 {
                // SAFETY: sixteen `f32`, borrowed mutably.
                unsafe { _mm512_storeu_ps(sums[h].as_mut_ptr(), acc[h]) };
            }
        }
    }
}
