//! AMX: its permission and configuration, and the micro-kernel on its tiles of bf16.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::ops::Range;

use super::squares::{SIDE, SQUARE, SUMS, each};
use super::{Left, MicroKernel, bf16};
use crate::matrix::MatRef;

/// Numbers rounded to bf16.
#[derive(Clone, Copy)]
pub(crate) struct Rounded(());

impl Rounded {
    /// The kernel.
    ///
    /// # Safety
    /// The CPU must have AMX with bf16, AVX-512 F, BW, DQ, VL and BF16, AVX2 and FMA, and the
    /// process the permission to use AMX.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Rounded {
    /// The product of the steps in the range of two panels.
    #[inline(always)]
    fn product(
        self,
        left: &[f32],
        right: &[f32],
        steps: Range<usize>,
        fresh: bool,
        ahead: &[f32],
        sums: &mut [f32],
    ) {
        let some = steps.start * Self::LEFT..steps.end * Self::LEFT;
        let (left, right, sums) = (&left[some.clone()], &right[some], &mut sums[..SUMS]);
        if steps.is_empty() {
            if fresh {
                sums.fill(0.0);
            }
            return;
        }
        // SAFETY: the kernel proves AMX, and `begin` has configured the tiles. The
        // loop reads 2 KiB a step from either operand, and reads and writes 32 rows
        // of 128 bytes of the sums; the slices hold them. All of the tiles' state
        // lives within this one block.
        unsafe {
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
                // All loads first took 5 % less than each before its use.
                "prefetcht1 [{p}]",
                "prefetcht1 [{p} + 64]",
                "prefetcht1 [{p} + 128]",
                "prefetcht1 [{p} + 192]",
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm5, [{a} + {line} + 1024]",
                "tileloadd tmm6, [{b} + {line}]",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 2048",
                "add {b}, 2048",
                "add {p}, 256",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {row}], tmm0",
                "tilestored [{out} + {row} + 64], tmm1",
                "tilestored [{out} + {row} + 2048], tmm2",
                "tilestored [{out} + {row} + 2112], tmm3",
                a = inout(reg) left.as_ptr() => _,
                b = inout(reg) right.as_ptr() => _,
                p = inout(reg) soon(ahead, right) => _,
                steps = inout(reg) steps.len() => _,
                fresh = in(reg) usize::from(fresh),
                out = in(reg) sums.as_mut_ptr(),
                line = in(reg) 64usize,
                row = in(reg) 128usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// From Linux' `asm/prctl.h` and the manuals' list of state components.
const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
const XFEATURE_XTILEDATA: libc::c_long = 18;

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
    // Linux grants tile state to a process on request only, for all its threads.
    // SAFETY: with this code, arch_prctl touches no memory of the process.
    let permitted = || unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    };
    bf16 == 1 && tile == 1 && bytes == 1 && permitted()
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

/// Where a loop of products begins to ask the cache for what is ahead: a hint, which
/// reads nothing, so that it may run on beyond the end.
#[inline(always)]
pub(super) fn soon(ahead: &[f32], otherwise: &[f32]) -> *const f32 {
    match ahead {
        [] => otherwise.as_ptr(),
        _ => ahead.as_ptr(),
    }
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

/// `$loops` times four products of zeros by the instruction.
macro_rules! on_registers {
    ($product:literal, $loops:expr) => {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tilezero tmm4",
            "tilezero tmm5",
            "tilezero tmm6",
            "tilezero tmm7",
            "test {loops}, {loops}",
            "jz 3f",
            "2:",
            concat!($product, " tmm0, tmm4, tmm6"),
            concat!($product, " tmm1, tmm4, tmm7"),
            concat!($product, " tmm2, tmm5, tmm6"),
            concat!($product, " tmm3, tmm5, tmm7"),
            "dec {loops}",
            "jnz 2b",
            "3:",
            loops = inout(reg) $loops => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        )
    };
}
pub(super) use on_registers;

impl MicroKernel for Rounded {
    bf16::rounded!();

    const AT_HAND: usize = 8;
    const BLOCK: usize = 320 * 1024;

    #[inline(always)]
    fn begin(self) {
        // SAFETY: the kernel proves AMX.
        unsafe { configure() }
    }

    #[inline(always)]
    fn end(self) {
        // SAFETY: the kernel proves AMX.
        unsafe { release() }
    }

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
        let steps = terms.start / SIDE..terms.end.div_ceil(SIDE);
        for (left, sums) in each(left, right.len(), sums) {
            self.product(left, right, steps.clone(), fresh, ahead, sums);
        }
    }

    fn peak(self, loops: usize) -> f64 {
        // SAFETY: the kernel proves AMX, and `begin` has configured the tiles.
        unsafe { on_registers!("tdpbf16ps", loops) }
        (4 * 2 * 16 * 16 * 32 * loops) as f64
    }
}
