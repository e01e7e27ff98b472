//! The micro-kernel on AMX, whose tiles multiply bf16 and add in `f32`.
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

use super::{Job, Kernel, Rectangle, Tile, block_on};
use crate::lanes::{Avx512, transpose};
use crate::matrix::MatRef;
use crate::tiles::{lines, pair, split};

/// 16×16 `f32` or 16×32 bf16.
const TILE: usize = 256;

/// The token: holding it proves that AMX can be used.
#[derive(Clone, Copy)]
pub(super) struct Amx(());

/// Whether the CPU has AMX with bf16 and the kernel lets this process use it.
pub(crate) fn available() -> bool {
    if !is_x86_feature_detected!("avx512bw") {
        return false;
    }
    if __cpuid(0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    let (bf16, tile) = (features >> 22 & 1, features >> 24 & 1);
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): Linux grants tile
    // state to a process on request only, for all its threads.
    bf16 == 1 && tile == 1 && request_permission() == 0
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
pub(crate) unsafe fn configure() {
    // SAFETY: the configuration is a valid one of palette 1. Code of the compiler
    // never touches tiles.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &SQUARES, options(nostack, readonly)) }
}

/// Undoes [`configure`].
///
/// # Safety
/// As for [`configure`].
#[inline(always)]
pub(crate) unsafe fn release() {
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

impl Kernel for Amx {
    const ROWS: usize = 32;
    const COLS: usize = 32;
    const STEP: usize = 32;
    /// Two tiles of each part: h, m, l.
    const LEFT: usize = 6 * TILE;
    const RIGHT: usize = 6 * TILE;
    const RUN: usize = 32;

    #[inline(always)]
    fn begin(self) {
        // SAFETY: the token proves AMX.
        unsafe { configure() }
    }

    #[inline(always)]
    fn end(self) {
        // SAFETY: as for `begin`.
        unsafe { release() }
    }

    #[inline(always)]
    fn pack_left(self, rows: MatRef<'_>, out: &mut [f32]) {
        // SAFETY: the token proves the features that were probed with AMX.
        unsafe { pack::<false>(rows, out) }
    }

    #[inline(always)]
    fn pack_right(self, columns: MatRef<'_>, out: &mut [f32]) {
        // SAFETY: as above.
        unsafe { pack::<true>(columns, out) }
    }

    #[inline(always)]
    fn gelu(self, row: &mut [f32]) {
        // SAFETY: the token proves the features that were probed with AMX.
        crate::gelu::in_place(unsafe { Avx512::new() }, row);
    }

    #[inline(always)]
    fn tile(self, left: &[f32], right: &[f32], steps: usize, out: &mut Tile) {
        assert!(left.len() >= steps * Self::LEFT && right.len() >= steps * Self::RIGHT);
        if steps == 0 {
            out.0.fill(0.0);
            return;
        }
        // SAFETY: the token proves AMX, and `begin` has configured the tiles.
        // The loop reads 6 KiB a step from either operand, which the assertion
        // has shown to be there, and writes 32 rows of 128 bytes: `out` whole.
        // All of the tiles' state lives within this one block.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
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
                "add {a}, 6144",
                "add {b}, 6144",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {row}], tmm0",
                "tilestored [{out} + {row} + 64], tmm1",
                "tilestored [{out} + {row} + 2048], tmm2",
                "tilestored [{out} + {row} + 2112], tmm3",
                a = inout(reg) left.as_ptr() => _,
                b = inout(reg) right.as_ptr() => _,
                steps = inout(reg) steps => _,
                out = in(reg) out.0.as_mut_ptr(),
                line = in(reg) 64usize,
                row = in(reg) 128usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// As [`Kernel::pack_right`], for callers without a token.
pub(super) fn pack_right(columns: MatRef<'_>, out: &mut [f32]) {
    Amx(()).pack_right(columns, out);
}

/// As [`block_on`], for callers without a token: called only where an `Isa` of
/// the level AMX was matched.
pub(super) fn block(job: Job<'_>, lhs: MatRef<'_>, packed: &mut [f32], out: Rectangle<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn run(job: Job<'_>, lhs: MatRef<'_>, packed: &mut [f32], out: Rectangle<'_>) {
        block_on(Amx(()), job, lhs, packed, out);
    }
    // SAFETY: these features were probed with AMX.
    unsafe { run(job, lhs, packed, out) }
}

/// At most 32 rows (·, k) → for each step of 32 terms and each part, two tiles of
/// sixteen rows. `PAIRS` first: the right operand's layout, [pair][row] instead
/// of [row][pair]. A pair is terms i and i + 16 of the step, the same on both
/// sides, which spares a permutation.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn pack<const PAIRS: bool>(rows: MatRef<'_>, out: &mut [f32]) {
    debug_assert!(rows.row_stride == 1 || rows.col_stride == 1);
    let by_rows = rows.col_stride == 1;
    for (step, out) in out.chunks_exact_mut(6 * TILE).enumerate() {
        for half in 0..2 {
            let (row, k) = (half * 16, step * 32);
            let (first, second) = if by_rows {
                (lines(rows, row, k), lines(rows, row, k + 16))
            } else {
                (lines(rows.t(), k, row), lines(rows.t(), k + 16, row))
            };
            let (first, second) = match by_rows == PAIRS {
                true => (transpose(first), transpose(second)),
                false => (first, second),
            };
            for i in 0..16 {
                let (first, second) = (split(first[i]), split(second[i]));
                for p in 0..3 {
                    let from = (2 * p + half) * TILE + i * 16;
                    let line = &mut out[from..from + 16];
                    let both = pair(first[p], second[p]);
                    // SAFETY: a line is sixteen `f32`, borrowed mutably.
                    unsafe { _mm512_storeu_ps(line.as_mut_ptr(), both) };
                }
            }
        }
    }
}
