//! The engines on AMX's tiles of bf16, which add in `f32`: `f32` as three bf16, and
//! bf16.
//!
//! An `f32` is the sum of three bf16 (8 bits of significand each, 24 together):
//! h is x cut off after 8 bits, m is x − h rounded to 8, and l = x − h − m has no
//! more than 8 left; all three are exact. Of the nine products of two such sums,
//! six are taken: h·h, h·m, m·h, m·m, h·l and l·h (Henry, Tang and Heinecke,
//! 2019, arXiv 1904.06376). |m| ≤ 2⁻⁷|x| and |l| ≤ 2⁻¹⁶|x|, so the three others
//! are below 2⁻²² of |x·y| together, have no preferred sign, and are smaller by
//! an order of magnitude on average: the test
//! `every_instruction_set_is_as_exact_as_f32` holds it to the bound of fused
//! multiply-adds. A tile product takes 16 cycles for 8192 terms, so six of them
//! still pass 2.7 times the terms of two 512-bit multiply-adds a cycle.
//!
//! What differs from `f32` arithmetic: parts below 1.2e-38 count as zeros, and a
//! product with an infinity gives NaN.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Engine, SUMS, put};

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

/// Whether the CPU has AMX with bf16 and bytes, and the kernel lets this process
/// use it.
pub(crate) fn available() -> bool {
    if !is_x86_feature_detected!("avx512bw") {
        return false;
    }
    if __cpuid(0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    let (bf16, tile, bytes) = (features >> 22 & 1, features >> 24 & 1, features >> 25 & 1);
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): Linux grants tile
    // state to a process on request only, for all its threads.
    bf16 == 1 && tile == 1 && bytes == 1 && request_permission() == 0
}

fn request_permission() -> i64 {
    let result: i64;
    // SAFETY: system call 158 (arch_prctl) with this code reads and writes no
    // memory of the process; `syscall` changes rax, rcx and r11 alone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") 158i64 => result,
            in("rdi") 0x1023i64,
            in("rsi") 18i64,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static SQUARES: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Gives the calling thread eight tiles of sixteen lines of 64 bytes.
///
/// # Safety
/// The CPU must have AMX, and the process the permission to use it.
#[inline(always)]
pub(super) unsafe fn configure() {
    // SAFETY: the configuration is a valid one of palette 1. Code of the compiler
    // never touches tiles.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &SQUARES, options(nostack, readonly)) }
}

/// Undoes [`configure`].
///
/// # Safety
/// As for [`configure`].
#[inline(always)]
pub(super) unsafe fn release() {
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
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
            // Loads stand right before what needs them: all before the four products
            // took 4 % longer from the second-level cache.
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
    fn multiply(self, left: &[f32], right: &[f32], steps: usize, fresh: bool, sums: &mut [f32]) {
        if !check::<Self>(left, right, steps, fresh, sums) {
            return;
        }
        // SAFETY: as for `Split`, with 2 KiB a step.
        unsafe {
            // Here all loads first took 5 % less.
            tiles!(
                "2048",
                left,
                right,
                steps,
                fresh,
                sums,
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm5, [{a} + {line} + 1024]",
                "tileloadd tmm6, [{b} + {line}]",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
            );
        }
    }
}

/// h, m and l of sixteen numbers, as `f32` whose lower halves are zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn split(x: __m512) -> [__m512; 3] {
    let h = upper(x);
    let rest = _mm512_sub_ps(x, h);
    // Adding half a unit to the bits rounds the magnitude to nearest.
    let half = _mm512_set1_epi32(0x8000);
    let m = upper(_mm512_castsi512_ps(_mm512_add_epi32(
        _mm512_castps_si512(rest),
        half,
    )));
    // l has a lower half only where the rest is subnormal; there it counts as zero,
    // and left as it is it would fall upon its neighbour in `pair`.
    [h, m, upper(_mm512_sub_ps(rest, m))]
}

/// The upper halves of sixteen numbers.
#[inline]
#[target_feature(enable = "avx512f")]
fn upper(x: __m512) -> __m512 {
    let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), mask))
}

/// `low`'s upper halves below `high`'s, whose lower halves are zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn pair(low: __m512, high: __m512) -> __m512 {
    let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(low));
    _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_castps_si512(high)))
}
