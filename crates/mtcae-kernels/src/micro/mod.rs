//! The seam between what all products share (packing, blocks, tasks, what follows a
//! sum) and what an instruction set does: a [`MicroKernel`] multiplies some panels of
//! rows by one panel of columns, and says how it wants them to lie in memory.
//!
//! | kernel | instructions | tile | operands |
//! |---|---|---|---|
//! | [`digits::Digits`] | AMX on bytes | 32×32 | `f32` as three digits |
//! | [`amx::Rounded`] | AMX on bf16 | 32×32 | bf16 |
//! | [`dots::Dots`] | AVX512-BF16 | 32×32 | bf16 |
//! | [`fma::Wide`] | AVX-512 | 14×32 | `f32` |
//! | [`fma::Narrow`] | AVX2 and FMA | 6×16 | `f32` |
//! | [`fma::Small`] | whatever there is | 2×16, 6×16 on ARM | `f32` |
//!
//! A panel is a row of *steps*, each [`TERMS`](MicroKernel::TERMS) terms of the inner
//! dimension. Rows and columns beyond the operand are computed, or not, and left out of
//! what is written.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod digits;
#[cfg(target_arch = "x86_64")]
pub(crate) mod dots;
pub(crate) mod fma;
#[cfg(target_arch = "x86_64")]
mod squares;

use std::ops::Range;

use crate::lanes::Lanes;
use crate::matrix::MatRef;

/// The most columns that a right panel has.
pub(crate) const MOST_COLS: usize = 32;

/// How panels are laid out and multiplied. Holding one proves that the CPU has its
/// instructions.
///
/// The methods are to be inlined into functions that enable those instructions.
pub(crate) trait MicroKernel: Copy {
    /// What everything beside products runs on.
    type Simd: Lanes;

    /// Rows of a left panel.
    const ROWS: usize;
    /// Columns of a right panel: a multiple of sixteen.
    const COLS: usize;
    /// Terms of a step.
    const TERMS: usize;
    /// `f32` that a step of a left panel takes.
    const LEFT: usize;
    /// `f32` that a step of a right panel takes.
    const RIGHT: usize;
    /// `f32` that stand behind the steps of a panel.
    const TAIL: usize = 0;
    /// `f32` of the square that [`put`](Self::put) writes.
    const PUT: usize = Self::LEFT;
    /// Whether numbers as they are, `TERMS` rows of `COLS`, are a step of a right panel,
    /// and `ROWS` rows of `COLS` a step of a left one.
    const PLAIN: bool = false;
    /// Left panels that a task multiplies by a right panel while it is at hand: a run of
    /// them is to fit the second-level cache.
    const PANELS: usize;
    /// Terms whose sums stay in registers; then they wait in memory, so that `PANELS`
    /// left panels fit the cache.
    const RUN: usize;
    /// Steps of a right panel that are to be multiplied by several left panels, one
    /// after the other, while the first-level cache holds them.
    const AT_HAND: usize = usize::MAX;
    /// Whether the memory of a result is asked for before it is computed: products of
    /// few terms wait for it otherwise.
    const FETCH: bool = false;
    /// `f32` that the packed keys and values of a block of attention may take.
    const BLOCK: usize;
    /// Keys whose logits, for a panel of queries, are worked on at a time.
    const KEYS: usize = usize::MAX;

    /// The lanes.
    fn simd(self) -> Self::Simd;

    /// `f32` of a left panel.
    #[inline(always)]
    fn left_panel(terms: usize) -> usize {
        terms.div_ceil(Self::TERMS) * Self::LEFT + Self::TAIL
    }
    /// `f32` of a right panel.
    #[inline(always)]
    fn right_panel(terms: usize) -> usize {
        terms.div_ceil(Self::TERMS) * Self::RIGHT + Self::TAIL
    }
    /// `f32` from one left panel of an operand to the next: a panel, or the squares that
    /// it is made of.
    #[inline(always)]
    fn operand_panel(terms: usize) -> usize {
        Self::left_panel(terms).max(terms.div_ceil(Self::COLS) * Self::PUT)
    }

    /// Readies the calling thread for [`multiply`](Self::multiply).
    fn begin(self) {}
    /// Undoes [`begin`](Self::begin).
    fn end(self) {}
    /// Packs a row of a left panel from its terms.
    fn pack_row(self, terms: &[f32], row: usize, panel: &mut [f32]);
    /// Packs at most `ROWS` rows (·, k) as a left panel.
    fn pack_rows(self, rows: MatRef<'_>, panel: &mut [f32]);
    /// Packs at most `COLS` columns as a right panel. They are given as rows (·, k).
    fn pack_columns(self, columns: MatRef<'_>, panel: &mut [f32]);
    /// Writes the `COLS` terms of row `row`, a square of the next layer's operand, which
    /// becomes a panel by [`settle`](Self::settle).
    fn put(self, terms: &[f32], row: usize, square: &mut [f32]);
    /// Makes a panel, in place, of the squares that [`put`](Self::put) has written.
    /// `copy` has the same length.
    #[inline(always)]
    fn settle(self, _terms: usize, _panel: &mut [f32], _copy: &mut [f32]) {}
    /// Writes numbers between 0 and 1, `TERMS` rows of `COLS`, as a step of a right
    /// panel; not for [`PLAIN`](Self::PLAIN) kernels.
    fn put_weights(self, weights: &[f32], step: &mut [f32]);
    /// Completes a panel whose steps are written by [`put_weights`](Self::put_weights).
    #[inline(always)]
    fn finish_weights(self, _panel: &mut [f32]) {}
    /// The products of left panels with a right panel over a range of terms that begins
    /// at a step: `ROWS`×`COLS` sums for each, row by row, added to `sums` or in their
    /// place when they are `fresh`. What is `ahead` is read next: a kernel may ask the
    /// second-level cache for it. (On multiply-adds that took longer than to leave it to
    /// the CPU's own prefetching.)
    fn multiply(
        self,
        left: Left<'_>,
        right: &[f32],
        terms: Range<usize>,
        fresh: bool,
        ahead: &[f32],
        sums: &mut [f32],
    );
    /// Products of registers alone: gives the floating-point operations of a product
    /// that `loops` of them stand for.
    fn peak(self, loops: usize) -> f64;
}

/// Left panels.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    /// `f32` from one panel to the next.
    pub(crate) panel: usize,
    /// `f32` from one step to the next: [`MicroKernel::LEFT`] but for
    /// [`MicroKernel::PLAIN`] kernels.
    pub(crate) step: usize,
    /// Rows of all panels.
    pub(crate) rows: usize,
}
