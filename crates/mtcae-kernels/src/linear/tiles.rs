//! Linear layers on panels of tiles.
//!
//! The result is cut into tasks of some left panels by some right panels. A task
//! goes over the inner dimension in runs of steps whose left panels stay in the
//! second-level cache; the sums of all but the last run wait in memory. Runs
//! follow from the inner dimension alone, so that results do not depend on how
//! the tasks are cut.

use std::arch::x86_64::*;
use std::ops::Range;

use rayon::prelude::*;

use super::{COLS, Packed, Target};
use crate::buffer::Buffer;
use crate::format::{Format, Kind, Operand, with_engine};
use crate::gelu;
use crate::lanes::Avx512;
use crate::matrix::MatRef;
use crate::product::Rectangle;
use crate::scratch;
use crate::tiles::{Engine, SIDE, SUMS, mask, pack_columns, pack_terms};

/// Left panels that are multiplied by a right panel while it is at hand: their
/// run is to fit the second-level cache, and the right panel is split once for
/// all of them.
const PANELS: usize = 13;

/// Steps whose sums stay in registers; then they go to memory, so that a block of
/// left panels fits the second-level cache. Of three parts:
const SPLIT_RUN: usize = 16;
/// The same of one.
const RUN: usize = 48;

/// Weights (out, in), given row by row, as right panels of whole steps: `f32` for
/// three parts, which are split when they are read; tiles of bf16 for one.
pub(super) fn pack(format: Format, inputs: usize, rows: &[&[f32]]) -> Buffer {
    let steps = inputs.div_ceil(SIDE);
    let step = stored_step(format);
    let panel = steps * step;
    let mut data = Buffer::zeroed(rows.len().div_ceil(COLS) * panel);
    data.par_chunks_mut(panel)
        .zip(rows.par_chunks(COLS))
        .for_each(|(out, rows)| {
            if split_when_read(format) {
                for (c, row) in rows.iter().enumerate() {
                    for (k, &w) in row.iter().enumerate() {
                        out[k * COLS + c] = w;
                    }
                }
                return;
            }
            let columns = rows.concat();
            let columns = MatRef::new(&columns, rows.len(), inputs, inputs);
            with_engine!(format.0, pack_columns(columns: MatRef<'_>, out: &mut [f32]), ());
        });
    data
}

/// Whether panels are kept as `f32`.
fn split_when_read(format: Format) -> bool {
    #[cfg(target_os = "linux")]
    return format.0 == Kind::Split;
    #[cfg(not(target_os = "linux"))]
    false
}

/// `f32` that a step of packed weights takes.
fn stored_step(format: Format) -> usize {
    match split_when_read(format) {
        true => SIDE * COLS,
        false => format.step().unwrap_or(0),
    }
}

pub(super) fn linear(x: Operand<'_>, w: &Packed, target: Target<'_>) {
    let (split, step) = (split_when_read(w.format), stored_step(w.format));
    let sink = match target {
        Target::Store(out) => {
            Sink::Store(Rectangle::new(out.data, out.row_stride, out.rows, out.cols))
        }
        Target::Add(out) => Sink::Add(Rectangle::new(out.data, out.row_stride, out.rows, out.cols)),
        Target::Gelu(out) => Sink::Gelu(Squares {
            data: out.data.as_mut_ptr(),
            steps: w.outputs.div_ceil(SIDE),
            len: out.data.len(),
        }),
    };
    let steps = w.inputs.div_ceil(SIDE);
    let runs = steps.div_ceil(if split { SPLIT_RUN } else { RUN });
    let packed = match (split, w.format.step()) {
        (true, Some(step)) => steps.div_ceil(runs) * step,
        _ => 0,
    };
    let job = Job {
        left: x.data,
        right: &w.data,
        right_step: step,
        bias: &w.bias,
        rows: x.rows,
        cols: w.outputs,
        steps,
        runs,
        sink: &sink,
    };
    let (panels, columns) = (x.rows.div_ceil(SIDE), w.outputs.div_ceil(COLS));
    let down = panels.div_ceil(PANELS);
    // Four tasks a thread, of four right panels at least.
    let across = (4 * rayon::current_num_threads())
        .div_ceil(down)
        .clamp(1, columns.div_ceil(4));
    let part = |n: usize, parts: usize, i: usize| n * i / parts..n * (i + 1) / parts;
    let kind = w.format.0;
    (0..down * across).into_par_iter().for_each(|i| {
        let rows = part(panels, down, i % down);
        let cols = part(columns, across, i / down);
        let tiles = if job.runs > 1 { rows.len() * cols.len() } else { 1 };
        // The engines' code takes on their features as long as no closure lies
        // between, so the memory is had out here.
        scratch::with(tiles * SUMS + packed, |buffer| {
            with_engine!(kind, task(job: Job<'_>, rows: Range<usize>, cols: Range<usize>, buffer: &mut [f32]), ());
        });
    });
}

/// What the tasks of one layer share.
#[derive(Clone, Copy)]
struct Job<'a> {
    left: &'a [f32],
    right: &'a [f32],
    /// `f32` that a step of `right` takes as it is stored.
    right_step: usize,
    bias: &'a [f32],
    rows: usize,
    cols: usize,
    steps: usize,
    /// Into how many runs the steps are cut.
    runs: usize,
    sink: &'a Sink<'a>,
}

impl<'a> Job<'a> {
    /// Some steps of a panel of weights.
    #[inline(always)]
    fn stored(&self, panel: usize, steps: Range<usize>) -> &'a [f32] {
        let first = panel * self.steps;
        &self.right[(first + steps.start) * self.right_step..(first + steps.end) * self.right_step]
    }
}

/// Where sums go.
enum Sink<'a> {
    Store(Rectangle<'a>),
    Add(Rectangle<'a>),
    Gelu(Squares),
}

/// The squares of a left operand that is being written: a step of a panel each.
struct Squares {
    data: *mut f32,
    /// Steps of a panel.
    steps: usize,
    len: usize,
}

// SAFETY: it stands for an exclusive borrow of the operand, which the caller of
// `linear` holds meanwhile.
unsafe impl Send for Squares {}
// SAFETY: through a shared reference only `square` is reachable, which is unsafe.
unsafe impl Sync for Squares {}

impl Squares {
    /// The square of a panel and a step.
    ///
    /// # Safety
    /// No square may be lent twice at a time.
    #[expect(
        clippy::mut_from_ref,
        reason = "distinct squares, as the caller promises"
    )]
    unsafe fn square(&self, panel: usize, step: usize, size: usize) -> &mut [f32] {
        let from = (panel * self.steps + step) * size;
        assert!(step < self.steps && from + size <= self.len);
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
    buffer: &mut [f32],
) {
    let left_panel = job.steps * E::STEP;
    let runs = job.runs;
    let tiles = if runs > 1 { rows.len() * cols.len() } else { 1 };
    let (sums, packed) = buffer.split_at_mut(tiles * SUMS);
    engine.begin();
    for run in 0..runs {
        let (first, end) = (job.steps * run / runs, job.steps * (run + 1) / runs);
        let steps = end - first;
        for (j, col) in cols.clone().enumerate() {
            let stored = job.stored(col, first..end);
            let next = match col + 1 < cols.end {
                true => job.stored(col + 1, first..end),
                false => &[],
            };
            let mut ahead = next.chunks(next.len().div_ceil(rows.len()).max(1));
            let right = if E::PARTS > 1 {
                let terms = MatRef::new(stored, steps * SIDE, COLS, COLS);
                let packed = &mut packed[..steps * E::STEP];
                pack_terms(engine, terms, packed);
                &*packed
            } else {
                stored
            };
            for (i, row) in rows.clone().enumerate() {
                fetch(engine, ahead.next().unwrap_or_default());
                let left = &job.left[row * left_panel..(row + 1) * left_panel];
                let left = &left[first * E::STEP..end * E::STEP];
                let tile = if runs > 1 { j * rows.len() + i } else { 0 };
                let sums = &mut sums[tile * SUMS..(tile + 1) * SUMS];
                engine.multiply(left, right, steps, run == 0, sums);
                if run + 1 == runs {
                    finish(engine, job, row, col, sums);
                }
            }
        }
    }
    engine.end();
}

/// Asks for `data` in the second-level cache: weights come from memory, and would
/// be waited for when their turn comes.
#[inline(always)]
fn fetch<E: Engine>(_: E, data: &[f32]) {
    for line in data.chunks(16) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
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
            let square = unsafe { squares.square(row, col, E::STEP) };
            // SAFETY: an engine proves AVX-512.
            let simd = unsafe { Avx512::new() };
            for (r, sums) in sums.iter().enumerate().take(rows) {
                let [a, b] = biased(sums, bias);
                let (a, b) = (gelu::gelu(simd, a), gelu::gelu(simd, b));
                engine.put_left(a, b, r, square);
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
