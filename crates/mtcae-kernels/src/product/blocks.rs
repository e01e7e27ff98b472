//! What all products share: tasks of some left panels by some right panels, runs of
//! terms whose left panels stay in the second-level cache, and what becomes of the sums.
//!
//! A task goes over the inner dimension in runs, and over a run in parts whose right
//! panel stays in the first-level cache where the micro-kernel asks for it; the sums of
//! all but the last wait in memory. Runs and parts follow from the inner dimension
//! alone, so that results do not depend on how the tasks are cut.

use std::ops::Range;

use rayon::prelude::*;

use super::rectangle::Rectangle;
use super::schedule;
use crate::fetch::fetch;
use crate::format::{Kind, OperandMut, with_kernel};
use crate::gelu;
use crate::lanes::Lanes;
use crate::matrix::MatRef;
use crate::micro::{Left, MOST_COLS, MicroKernel};
use crate::scratch;

/// A product: `rows`×`cols` sums of `terms` products.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) terms: usize,
    pub(crate) left: Rows<'a>,
    /// Right panels.
    pub(crate) right: &'a [f32],
    /// What sums are multiplied by.
    pub(crate) alpha: f32,
    /// What is added to the sums of each column; empty for nothing.
    pub(crate) bias: &'a [f32],
    /// Whether what is below zero becomes zero before it is stored.
    pub(crate) relu: bool,
    pub(crate) sink: &'a Sink<'a>,
}

/// The left operand.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// Panels.
    Packed(&'a [f32]),
    /// Rows that each task packs for itself.
    Unpacked(MatRef<'a>),
}

/// Where sums go.
pub(crate) enum Sink<'a> {
    /// They are stored.
    Store(Rectangle<'a>),
    /// They are added to what is there.
    Add(Rectangle<'a>),
    /// Through GELU into the next product's left operand.
    Gelu(Squares<'a>),
}

/// The squares of a left operand that is being written, each of which one task alone
/// writes.
pub(crate) struct Squares<'a> {
    data: *mut f32,
    /// `f32` from one panel to the next, and of a square.
    stride: usize,
    square: usize,
    len: usize,
    lent: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for an exclusive borrow of the operand.
unsafe impl Send for Squares<'_> {}
// SAFETY: through a shared reference only `square` is reachable, which is unsafe.
unsafe impl Sync for Squares<'_> {}

impl<'a> Squares<'a> {
    pub(crate) fn new(out: &'a mut OperandMut<'_>) -> Self {
        let layout = out.format.0.layout();
        Self {
            stride: (layout.operand_panel)(out.cols),
            square: layout.square,
            len: out.data.len(),
            data: out.data.as_mut_ptr(),
            lent: std::marker::PhantomData,
        }
    }

    /// Square `i` of a panel.
    ///
    /// # Safety
    /// No square may be lent twice at a time.
    #[expect(
        clippy::mut_from_ref,
        reason = "distinct squares, as the caller promises"
    )]
    unsafe fn square(&self, panel: usize, i: usize) -> &mut [f32] {
        assert!(i < self.stride / self.square && panel < self.len / self.stride);
        let from = panel * self.stride + i * self.square;
        // SAFETY: within the operand, and lent once, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(from), self.square) }
    }
}

/// Computes the product, over rayon's current pool.
pub(crate) fn multiply(kind: Kind, job: Job<'_>) {
    let layout = kind.layout();
    let (panels, columns) = (
        job.rows.div_ceil(layout.rows),
        job.cols.div_ceil(layout.cols),
    );
    let threads = rayon::current_num_threads();
    let (down, across) = schedule::cut(panels, columns, layout.panels, threads);
    let left = match job.left {
        Rows::Packed(_) => 0,
        Rows::Unpacked(_) => (layout.left_panel)(job.terms),
    };
    let tasks = (0..down * across).into_par_iter().with_max_len(1);
    tasks.for_each(|i| {
        let rows = schedule::part(panels, down, i % down);
        let cols = schedule::part(columns, across, i / down);
        let tiles = match job.terms <= layout.run {
            true => rows.len(),
            false => rows.len() * cols.len(),
        };
        let room = [tiles * layout.rows * layout.cols, rows.len() * left];
        // A micro-kernel's code takes on its features as long as no closure lies
        // between, so the memory is had out here.
        scratch::with(room[0].next_multiple_of(16) + room[1], |buffer| {
            let (sums, packed) = buffer.split_at_mut(room[0].next_multiple_of(16));
            with_kernel!(kind, task(job: Job<'_>, rows: Range<usize>, cols: Range<usize>, sums: &mut [f32], packed: &mut [f32]));
        });
    });
}

/// A rectangle of the result, in panels.
#[inline(always)]
fn task<K: MicroKernel>(
    kernel: K,
    job: Job<'_>,
    rows: Range<usize>,
    cols: Range<usize>,
    sums: &mut [f32],
    packed: &mut [f32],
) {
    let panel = K::right_panel(job.terms);
    let (left, stride, first) = match job.left {
        Rows::Packed(panels) => (panels, K::operand_panel(job.terms), 0),
        Rows::Unpacked(matrix) => {
            let stride = K::left_panel(job.terms);
            if stride > 0 {
                for (i, out) in packed.chunks_exact_mut(stride).enumerate() {
                    let from = (rows.start + i) * K::ROWS;
                    let some = K::ROWS.min(job.rows - from);
                    kernel.pack_rows(matrix.part(from, some, 0, job.terms), out);
                }
            }
            (&*packed, stride, rows.start)
        }
    };
    let size = K::ROWS * K::COLS;
    let steps = job.terms.div_ceil(K::TERMS);
    let runs = job.terms.div_ceil(K::RUN).max(1);
    kernel.begin();
    for run in 0..runs {
        let some = steps * run / runs..steps * (run + 1) / runs;
        // The same of a right panel, what stands behind its steps included.
        let share = match steps {
            0 => 0..0,
            _ => panel * some.start / steps..panel * some.end / steps,
        };
        let parts = some.len().div_ceil(K::AT_HAND).max(1);
        for (j, col) in cols.clone().enumerate() {
            let right = &job.right[col * panel..(col + 1) * panel];
            let next = match col + 1 < cols.end {
                true => &job.right[(col + 1) * panel..][share.clone()],
                false => &[],
            };
            let mut ahead = next.chunks(next.len().div_ceil(parts * rows.len()).max(1));
            for part in 0..parts {
                let at = |i: usize| {
                    let step = some.start + some.len() * i / parts;
                    (step * K::TERMS).min(job.terms)
                };
                for (i, row) in rows.clone().enumerate() {
                    let tile = match (runs, parts) {
                        (1, 1) => 0,
                        (1, _) => i,
                        _ => j * rows.len() + i,
                    };
                    let sums = &mut sums[tile * size..(tile + 1) * size];
                    let last = run + 1 == runs && part + 1 == parts;
                    if K::FETCH && last {
                        ask::<K>(job, row, col);
                    }
                    let left = Left {
                        data: &left[(row - first) * stride..],
                        panel: stride,
                        step: K::LEFT,
                        rows: K::ROWS.min(job.rows - row * K::ROWS),
                    };
                    let soon = ahead.next().unwrap_or_default();
                    let (terms, fresh) = (at(part)..at(part + 1), run + part == 0);
                    kernel.multiply(left, right, terms, fresh, soon, sums);
                    if last {
                        finish(kernel, job, row, col, sums);
                    }
                }
            }
        }
    }
    kernel.end();
}

/// Rows and columns of the result from the tile of two panels on, and how many.
#[inline(always)]
fn place<K: MicroKernel>(job: Job<'_>, row: usize, col: usize) -> [usize; 4] {
    let (row, col) = (row * K::ROWS, col * K::COLS);
    [
        row,
        K::ROWS.min(job.rows - row),
        col,
        K::COLS.min(job.cols - col),
    ]
}

/// Asks for the memory of the result of two panels.
#[inline(always)]
fn ask<K: MicroKernel>(job: Job<'_>, row: usize, col: usize) {
    if let Sink::Store(out) | Sink::Add(out) = job.sink {
        let [row, rows, col, cols] = place::<K>(job, row, col);
        for r in 0..rows {
            // SAFETY: each task has a rectangle of its own.
            let mut out = unsafe { out.part(row + r, 1, col, cols) };
            fetch(out.row(0, 0, cols));
        }
    }
}

/// Adds the bias to the sums of two panels and passes them on.
#[inline(always)]
fn finish<K: MicroKernel>(kernel: K, job: Job<'_>, row: usize, col: usize, sums: &[f32]) {
    let simd = kernel.simd();
    let [first_row, rows, first_col, cols] = place::<K>(job, row, col);
    let mut bias = [simd.splat(0.0); MOST_COLS / 16];
    if !job.bias.is_empty() {
        for (v, some) in job.bias[first_col..first_col + cols].chunks(16).enumerate() {
            bias[v] = load(simd, some);
        }
    }
    let alpha = simd.splat(job.alpha);
    let (sums, _) = sums[..rows * K::COLS].as_chunks::<16>();
    let sums = sums.chunks_exact(K::COLS / 16);
    match job.sink {
        Sink::Gelu(squares) => {
            // SAFETY: each task has squares of its own.
            let square = unsafe { squares.square(row, col) };
            for (r, sums) in sums.enumerate() {
                let mut terms = [0.0; MOST_COLS];
                let (vectors, _) = terms.as_chunks_mut::<16>();
                for v in 0..K::COLS / 16 {
                    let y = simd.mul_add(alpha, simd.load(&sums[v]), bias[v]);
                    simd.store(gelu::gelu(simd, y), &mut vectors[v]);
                }
                kernel.put(&terms[..K::COLS], r, square);
            }
        }
        Sink::Store(out) | Sink::Add(out) => {
            let add = matches!(job.sink, Sink::Add(_));
            let zero = simd.splat(0.0);
            // SAFETY: each task has a rectangle of its own.
            let mut out = unsafe { out.part(first_row, rows, first_col, cols) };
            for (r, sums) in sums.enumerate() {
                let out = out.row(r, 0, cols);
                if cols == K::COLS {
                    // Of a known length: without a loop.
                    let (out, _) = out.as_chunks_mut::<16>();
                    for v in 0..K::COLS / 16 {
                        let y = simd.mul_add(alpha, simd.load(&sums[v]), bias[v]);
                        let y = match add {
                            true => simd.add(y, simd.load(&out[v])),
                            false => y,
                        };
                        let y = match job.relu {
                            true => simd.max(zero, y),
                            false => y,
                        };
                        simd.store(y, &mut out[v]);
                    }
                    continue;
                }
                for (v, out) in out.chunks_mut(16).enumerate() {
                    let mut y = simd.mul_add(alpha, simd.load(&sums[v]), bias[v]);
                    if add {
                        y = simd.add(y, load(simd, out));
                    }
                    if job.relu {
                        y = simd.max(zero, y);
                    }
                    let mut all = [0.0; 16];
                    simd.store(y, &mut all);
                    out.copy_from_slice(&all[..out.len()]);
                }
            }
        }
    }
}

/// At most sixteen numbers, zeros beyond them.
#[inline(always)]
fn load<L: Lanes>(simd: L, some: &[f32]) -> L::F {
    match some.first_chunk() {
        Some(all) => simd.load(all),
        None => {
            let mut all = [0.0; 16];
            all[..some.len()].copy_from_slice(some);
            simd.load(&all)
        }
    }
}
