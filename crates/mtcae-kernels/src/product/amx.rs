//! The micro-kernel on AMX: [`tiles::digits`](crate::tiles::digits) says what
//! becomes of an `f32` for it.

use super::{Job, Kernel, Rectangle, Tile, block_on};
use crate::lanes::Avx512;
use crate::matrix::MatRef;
use crate::tiles::digits::Digits;
use crate::tiles::{Engine, SIDE};

/// The token: holding it proves that AMX can be used.
#[derive(Clone, Copy)]
pub(super) struct Amx(Digits);

impl Kernel for Amx {
    const ROWS: usize = SIDE;
    const COLS: usize = SIDE;
    const STEP: usize = Digits::TERMS;
    const LEFT: usize = Digits::STEP;
    const RIGHT: usize = Digits::STEP;
    const TAIL: usize = Digits::TAIL;
    const RUN: usize = usize::MAX;
    const PANELS: usize = 7;

    #[inline(always)]
    fn begin(self) {
        self.0.begin();
    }

    #[inline(always)]
    fn end(self) {
        self.0.end();
    }

    #[inline(always)]
    fn pack_left(self, rows: MatRef<'_>, out: &mut [f32]) {
        self.0.pack_rows(rows, out);
    }

    #[inline(always)]
    fn pack_right(self, columns: MatRef<'_>, out: &mut [f32]) {
        match columns.col_stride {
            1 => self.0.pack_columns(columns, out),
            _ => self.0.pack_terms(columns.t(), out),
        }
    }

    #[inline(always)]
    fn gelu(self, row: &mut [f32]) {
        // SAFETY: the token proves the features that were probed with AMX.
        crate::gelu::in_place(unsafe { Avx512::new() }, row);
    }

    #[inline(always)]
    fn tile(self, left: &[f32], right: &[f32], steps: usize, ahead: &[f32], out: &mut Tile) {
        self.0
            .multiply(left, right, 0..steps, true, ahead, &mut out.0);
    }
}

/// As [`Kernel::pack_right`], for callers without a token: called only where an
/// `Isa` of the level AMX was matched.
pub(super) fn pack_right(columns: MatRef<'_>, out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn run(columns: MatRef<'_>, out: &mut [f32]) {
        // SAFETY: AMX was probed.
        Amx(unsafe { Digits::new() }).pack_right(columns, out);
    }
    // SAFETY: these features were probed with AMX.
    unsafe { run(columns, out) }
}

/// As [`Kernel::pack_left`], likewise.
pub(super) fn pack_left(rows: MatRef<'_>, out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn run(rows: MatRef<'_>, out: &mut [f32]) {
        // SAFETY: AMX was probed.
        Amx(unsafe { Digits::new() }).pack_left(rows, out);
    }
    // SAFETY: these features were probed with AMX.
    unsafe { run(rows, out) }
}

/// As [`block_on`], likewise.
pub(super) fn block(job: Job<'_>, out: Rectangle<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn run(job: Job<'_>, out: Rectangle<'_>) {
        // SAFETY: AMX was probed.
        block_on(Amx(unsafe { Digits::new() }), job, out);
    }
    // SAFETY: as above.
    unsafe { run(job, out) }
}
