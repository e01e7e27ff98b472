//! Linear layers on panels of tiles.
//!
//! The result is cut into tasks of some left panels by some right panels. A task
//! goes over the inner dimension in runs of steps whose left panels stay in the
//! second-level cache, and over a run in parts whose right panel stays in the first;
//! the sums of all but the last wait in memory. Runs and parts follow from the inner
//! dimension alone, so that results do not depend on how the tasks are cut.

use std::arch::x86_64::*;
use std::ops::Range;

use rayon::prelude::*;

use super::{COLS, Packed, Target};
use crate::buffer::Buffer;
use crate::format::{Factors, Format, Operand, with_engine};
#[cfg(target_os = "linux")]
use crate::format::{Kind, OperandMut};
use crate::gelu;
use crate::lanes::Avx512;
use crate::matrix::MatRef;
use crate::product::Rectangle;
use crate::scratch;
use crate::tiles::{Engine, SIDE, SUMS, mask};

/// Left panels that are multiplied by a right panel while it is at hand: their
/// run is to fit the second-level cache.
const PANELS: usize = 13;

/// Terms whose sums stay in registers; then they go to memory, so that a block of
/// left panels fits the second-level cache. `f32` as three digits:
const DIGITS_RUN: usize = 1024;
/// bf16:
const RUN: usize = 1536;

/// Weights (out, in), given row by row, as right panels.
pub(super) fn pack(format: Format, inputs: usize, rows: &[&[f32]]) -> Buffer {
    #[inline(always)]
    fn pack_columns<E: Engine>(engine: E, columns: MatRef<'_>, out: &mut [f32]) {
        engine.pack_columns(columns, out);
    }
    let panel = format.panel_len(inputs);
    let mut data = Buffer::zeroed(rows.len().div_ceil(COLS) * panel);
    data.par_chunks_mut(panel)
        .zip(rows.par_chunks(COLS))
        .for_each(|(out, rows)| {
            let columns = rows.concat();
            let columns = MatRef::new(&columns, rows.len(), inputs, inputs);
            with_engine!(format.0, pack_columns(columns: MatRef<'_>, out: &mut [f32]));
        });
    data
}

pub(super) fn linear(x: Operand<'_>, w: &Packed, target: Target<'_>) {
    let kind = w.format.0;
    let mut hidden = None;
    let sink = match target {
        Target::Store(out) => {
            Sink::Store(Rectangle::new(out.data, out.row_stride, out.rows, out.cols))
        }
        Target::Add(out) => Sink::Add(Rectangle::new(out.data, out.row_stride, out.rows, out.cols)),
        Target::Gelu(out) => {
            let out = hidden.insert(out);
            Sink::Gelu(Squares {
                data: out.data.as_mut_ptr(),
                stride: out.format.operand_len(1, w.outputs),
                len: out.data.len(),
            })
        }
    };
    let job = Job {
        left: x.data,
        right: &w.data,
        bias: &w.bias,
        rows: x.rows,
        cols: w.outputs,
        terms: w.inputs,
        runs: w.inputs.div_ceil(match w.format.factors() {
            Factors::F32 => DIGITS_RUN,
            Factors::Bf16 => RUN,
        }),
        sink: &sink,
    };
    let (panels, columns) = (x.rows.div_ceil(SIDE), w.outputs.div_ceil(COLS));
    let down = panels.div_ceil(PANELS);
    // Four tasks a thread, of four right panels at least.
    let across = (4 * rayon::current_num_threads())
        .div_ceil(down)
        .clamp(1, columns.div_ceil(4));
    let part = |n: usize, parts: usize, i: usize| n * i / parts..n * (i + 1) / parts;
    (0..down * across).into_par_iter().for_each(|i| {
        let rows = part(panels, down, i % down);
        let cols = part(columns, across, i / down);
        let tiles = if job.runs > 1 { rows.len() * cols.len() } else { rows.len() };
        // The engines' code takes on their features as long as no closure lies
        // between, so the memory is had out here.
        scratch::with(tiles * SUMS, |sums| {
            with_engine!(kind, task(job: Job<'_>, rows: Range<usize>, cols: Range<usize>, sums: &mut [f32]));
        });
    });
    #[cfg(target_os = "linux")]
    if let (Some(hidden), Kind::Digits) = (hidden, kind) {
        settle(hidden);
    }
}

/// Packs the squares of all panels.
#[cfg(target_os = "linux")]
fn settle(hidden: OperandMut<'_>) {
    #[inline(always)]
    fn settle<E: Engine>(engine: E, terms: usize, panel: &mut [f32], copy: &mut [f32]) {
        engine.settle(terms, panel, copy);
    }
    let (kind, terms) = (hidden.format.0, hidden.cols);
    let len = hidden.format.operand_len(1, terms);
    hidden.data.par_chunks_mut(len).for_each(|panel| {
        scratch::with(len, |copy| {
            with_engine!(kind, settle(terms: usize, panel: &mut [f32], copy: &mut [f32]));
        });
    });
}

/// What the tasks of one layer share.
#[derive(Clone, Copy)]
struct Job<'a> {
    left: &'a [f32],
    right: &'a [f32],
    bias: &'a [f32],
    rows: usize,
    cols: usize,
    terms: usize,
    /// Into how many runs the terms are cut.
    runs: usize,
    sink: &'a Sink<'a>,
}

/// Where sums go.
enum Sink<'a> {
    Store(Rectangle<'a>),
    Add(Rectangle<'a>),
    Gelu(Squares),
}

/// The squares of a left operand that is being written: 32 rows by 32 terms each.
struct Squares {
    data: *mut f32,
    /// `f32` from one panel to the next.
    stride: usize,
    len: usize,
}

// SAFETY: it stands for an exclusive borrow of the operand, which the caller of
// `linear` holds meanwhile.
unsafe impl Send for Squares {}
// SAFETY: through a shared reference only `square` is reachable, which is unsafe.
unsafe impl Sync for Squares {}

impl Squares {
    /// The square `i` of a panel.
    ///
    /// # Safety
    /// No square may be lent twice at a time.
    #[expect(
        clippy::mut_from_ref,
        reason = "distinct squares, as the caller promises"
    )]
    unsafe fn square(&self, panel: usize, i: usize, size: usize) -> &mut [f32] {
        assert!(i < self.stride / size && panel < self.len / self.stride);
        let from = panel * self.stride + i * size;
        // SAFETY: within the operand, and lent once, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(from), size) }
    }
}

/// A rectangle of the result, in panels.
#[inline(always)]
fn task<E: Engine>(
    engine: E,
    job: Job<'_>,
    rows: Range<usize>,
    cols: Range<usize>,
    sums: &mut [f32],
) {
    let (panel, stride) = (E::panel(job.terms), E::operand(job.terms));
    let steps = job.terms.div_ceil(E::TERMS);
    let runs = job.runs;
    engine.begin();
    for run in 0..runs {
        let some = steps * run / runs..steps * (run + 1) / runs;
        // The same of a right panel, factors behind its steps included.
        let share = panel * some.start / steps..panel * some.end / steps;
        let parts = some.len().div_ceil(E::AT_HAND).max(1);
        for (j, col) in cols.clone().enumerate() {
            let right = &job.right[col * panel..(col + 1) * panel];
            let next = match col + 1 < cols.end {
                true => &job.right[(col + 1) * panel..][share.clone()],
                false => &[],
            };
            let mut ahead = next.chunks(next.len().div_ceil(parts * rows.len()).max(1));
            for part in 0..parts {
                let at = |i: usize| some.start + some.len() * i / parts;
                for (i, row) in rows.clone().enumerate() {
                    let left = &job.left[row * stride..row * stride + panel];
                    let tile = match (runs, parts) {
                        (1, 1) => 0,
                        (1, _) => i,
                        _ => j * rows.len() + i,
                    };
                    let sums = &mut sums[tile * SUMS..(tile + 1) * SUMS];
                    let soon = ahead.next().unwrap_or_default();
                    let (steps, fresh) = (at(part)..at(part + 1), run + part == 0);
                    engine.multiply(left, right, steps, fresh, soon, sums);
                    if run + 1 == runs && part + 1 == parts {
                        finish(engine, job, row, col, sums);
                    }
                }
            }
        }
    }
    engine.end();
}

/// Adds the bias to the sums of two panels and passes them on.
#[inline(always)]
fn finish<E: Engine>(engine: E, job: Job<'_>, row: usize, col: usize, sums: &[f32]) {
    let (first_row, first_col) = (row * SIDE, col * COLS);
    let (rows, cols) = (
        SIDE.min(job.rows - first_row),
        COLS.min(job.cols - first_col),
    );
    let bias = &job.bias[first_col..first_col + COLS];
    // SAFETY: an engine proves AVX-512; the slice holds 32 elements.
    let bias = unsafe {
        [
            _mm512_loadu_ps(bias.as_ptr()),
            _mm512_loadu_ps(bias.as_ptr().add(16)),
        ]
    };
    let (sums, _) = sums.as_chunks::<COLS>();
    let masks = [mask(cols), mask(cols.saturating_sub(16))];
    match job.sink {
        Sink::Gelu(squares) => {
            // SAFETY: each task has squares of its own.
            let square = unsafe { squares.square(row, col, E::PUT) };
            // SAFETY: as above.
            let simd = unsafe { Avx512::new() };
            for (r, sums) in sums.iter().enumerate().take(rows) {
                let [a, b] = biased(sums, bias);
                let (a, b) = (gelu::gelu(simd, a), gelu::gelu(simd, b));
                engine.put(a, b, r, square);
            }
        }
        Sink::Store(out) => {
            // SAFETY: each task has a rectangle of its own.
            let mut out = unsafe { out.part(first_row, rows, first_col, cols) };
            for (r, sums) in sums.iter().enumerate().take(rows) {
                let (y, out) = (biased(sums, bias), out.row(r, 0, cols).as_mut_ptr());
                // SAFETY: the masks write the `cols` elements of the row alone.
                unsafe {
                    _mm512_mask_storeu_ps(out, masks[0], y[0]);
                    _mm512_mask_storeu_ps(out.wrapping_add(16), masks[1], y[1]);
                }
            }
        }
        Sink::Add(out) => {
            // SAFETY: each task has a rectangle of its own.
            let mut out = unsafe { out.part(first_row, rows, first_col, cols) };
            for (r, sums) in sums.iter().enumerate().take(rows) {
                let (y, out) = (biased(sums, bias), out.row(r, 0, cols).as_mut_ptr());
                for h in 0..2 {
                    let out = out.wrapping_add(16 * h);
                    // SAFETY: as for `Store`, and the masks read no more.
                    unsafe {
                        let x = _mm512_maskz_loadu_ps(masks[h], out);
                        _mm512_mask_storeu_ps(out, masks[h], _mm512_add_ps(x, y[h]));
                    }
                }
            }
        }
    }
}

/// A row of sums, plus the bias. Callers hold an engine.
#[inline(always)]
fn biased(sums: &[f32; COLS], bias: [__m512; 2]) -> [__m512; 2] {
    // SAFETY: the caller's engine proves AVX-512; the row holds 32 elements.
    unsafe {
        [
            _mm512_add_ps(_mm512_loadu_ps(sums.as_ptr()), bias[0]),
            _mm512_add_ps(_mm512_loadu_ps(sums.as_ptr().add(16)), bias[1]),
        ]
    }
}
