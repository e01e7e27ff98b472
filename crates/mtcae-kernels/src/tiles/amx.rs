//! The engines on AMX: `f32` as three bf16, and bf16.
//!
//! How an `f32` is split, why six products suffice and what differs from `f32`
//! arithmetic stands in [`product::amx`](crate::product::amx).

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Engine, SUMS, pair, put, split};
use crate::product::amx::{configure, release};

/// `f32` as three bf16 and six products of them.
#[derive(Clone, Copy)]
pub(crate) struct Split(());

/// Numbers rounded to bf16.
#[derive(Clone, Copy)]
pub(crate) struct Rounded(());

impl Split {
    /// The engine.
    ///
    /// # Safety
    /// The CPU must have AMX with bf16 and AVX-512 F, BW, DQ and VL, and the
    /// process the permission to use AMX.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Rounded {
    /// The engine.
    ///
    /// # Safety
    /// As for [`Split::new`], and the CPU must have AVX512-BF16.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// Loads the sums unless they are fresh, runs `$step` for each step, and stores
/// the sums. tmm0 to tmm3 are the sums' quarters, tmm4 to tmm7 the step's own.
macro_rules! tiles {
    ($bytes:literal, $left:ident, $right:ident, $steps:ident, $fresh:ident, $sums:ident, $($step:literal,)*) => {
        asm!(
            "test {fresh}, {fresh}",
            "jz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{out} + {row}]",
            "tileloadd tmm1, [{out} + {row} + 64]",
            "tileloadd tmm2, [{out} + {row} + 2048]",
            "tileloadd tmm3, [{out} + {row} + 2112]",
            "2:",
            $($step,)*
            concat!("add {a}, ", $bytes),
            concat!("add {b}, ", $bytes),
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {row}], tmm0",
            "tilestored [{out} + {row} + 64], tmm1",
            "tilestored [{out} + {row} + 2048], tmm2",
            "tilestored [{out} + {row} + 2112], tmm3",
            a = inout(reg) $left.as_ptr() => _,
            b = inout(reg) $right.as_ptr() => _,
            steps = inout(reg) $steps => _,
            fresh = in(reg) usize::from($fresh),
            out = in(reg) $sums.as_mut_ptr(),
            line = in(reg) 64usize,
            row = in(reg) 128usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// What both engines ask of their operands; no steps leave nothing to do but to
/// clear fresh sums.
#[inline(always)]
fn check<E: Engine>(
    left: &[f32],
    right: &[f32],
    steps: usize,
    fresh: bool,
    sums: &mut [f32],
) -> bool {
    assert!(left.len() >= steps * E::STEP && right.len() >= steps * E::STEP && sums.len() >= SUMS);
    if steps == 0 && fresh {
        sums[..SUMS].fill(0.0);
    }
    steps > 0
}

impl Engine for Split {
    const PARTS: usize = 3;

    #[inline(always)]
    fn begin(self) {
        // SAFETY: the engine proves AMX.
        unsafe { configure() }
    }

    #[inline(always)]
    fn end(self) {
        // SAFETY: the engine proves AMX.
        unsafe { release() }
    }

    /// Terms i and i + 16: what lies in the same lanes of two registers.
    #[inline(always)]
    fn pair(i: usize) -> (usize, usize) {
        (i, i + 16)
    }

    #[inline(always)]
    fn put_left(self, first: __m512, second: __m512, row: usize, step: &mut [f32]) {
        self.put_right(first, second, row / 16, row % 16, step);
    }

    #[inline(always)]
    fn put_right(self, low: __m512, high: __m512, half: usize, i: usize, step: &mut [f32]) {
        // SAFETY: the engine proves AVX-512.
        let (low, high) = unsafe { (split(low), split(high)) };
        for p in 0..3 {
            // SAFETY: as above.
            let both = unsafe { pair(low[p], high[p]) };
            put(both, 2 * p + half, i, step);
        }
    }

    #[inline(always)]
    fn multiply(self, left: &[f32], right: &[f32], steps: usize, fresh: bool, sums: &mut [f32]) {
        if !check::<Self>(left, right, steps, fresh, sums) {
            return;
        }
        // SAFETY: the engine proves AMX, and `begin` has configured the tiles.
        // The loop reads 6 KiB a step from either operand and reads and writes 32
        // rows of 128 bytes of the sums; `check` has shown that they are there.
        // All of the tiles' state lives within this one block.
        unsafe {
            tiles!(
                "6144",
                left,
                right,
                steps,
                fresh,
                sums,
                // h·l
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm6, [{b} + {line} + 4096]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {line} + 5120]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {line} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // h·m
                "tileloadd tmm6, [{b} + {line} + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {line} + 3072]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // m·m
                "tileloadd tmm4, [{a} + {line} + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {line} + 3072]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // m·h
                "tileloadd tmm6, [{b} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // l·h
                "tileloadd tmm4, [{a} + {line} + 4096]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {line} + 5120]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // h·h
                "tileloadd tmm4, [{a} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {line} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
            );
        }
    }
}

impl Engine for Rounded {
    const PARTS: usize = 1;

    #[inline(always)]
    fn begin(self) {
        // SAFETY: the engine proves AMX.
        unsafe { configure() }
    }

    #[inline(always)]
    fn end(self) {
        // SAFETY: the engine proves AMX.
        unsafe { release() }
    }

    #[inline(always)]
    fn pair(i: usize) -> (usize, usize) {
        (2 * i, 2 * i + 1)
    }

    #[inline(always)]
    fn put_left(self, first: __m512, second: __m512, row: usize, step: &mut [f32]) {
        // SAFETY: the engine proves AVX512-BF16.
        put(
            unsafe { round_row(first, second) },
            row / 16,
            row % 16,
            step,
        );
    }

    #[inline(always)]
    fn put_right(self, low: __m512, high: __m512, half: usize, i: usize, step: &mut [f32]) {
        // SAFETY: the engine proves AVX512-BF16.
        put(unsafe { round_pairs(low, high) }, half, i, step);
    }

    #[inline(always)]
    fn multiply(self, left: &[f32], right: &[f32], steps: usize, fresh: bool, sums: &mut [f32]) {
        if !check::<Self>(left, right, steps, fresh, sums) {
            return;
        }
        // SAFETY: as for `Split`, with 2 KiB a step.
        unsafe {
            tiles!(
                "2048",
                left,
                right,
                steps,
                fresh,
                sums,
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm6, [{b} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {line} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
            );
        }
    }
}

/// 32 terms of a row as bf16, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn round_row(first: __m512, second: __m512) -> __m512 {
    let both = _mm512_cvtne2ps_pbh(second, first);
    // SAFETY: both are 64 bytes of plain numbers.
    unsafe { std::mem::transmute::<__m512bh, __m512>(both) }
}

/// Sixteen pairs of terms as bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bf16")]
pub(super) fn round_pairs(low: __m512, high: __m512) -> __m512 {
    let round = |x: __m512| {
        // SAFETY: both are 32 bytes of plain numbers.
        let x = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) };
        _mm512_cvtepu16_epi32(x)
    };
    let high = _mm512_slli_epi32::<16>(round(high));
    _mm512_castsi512_ps(_mm512_or_si512(round(low), high))
}
