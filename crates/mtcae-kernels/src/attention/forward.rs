//! Attention with the softmax taken online (Milakov and Gimelshein, 2018, arXiv
//! 1805.02867; Dao et al., 2022, arXiv 2205.14135), transposed: Sᵀ = K·Qᵀ, and
//! Oᵀ = Vᵀ·Pᵀ, so that the weights are the right operand that the second product takes
//! and the softmax works on whole rows.
//!
//! A task has some queries of one head. It goes over the keys in blocks that fit the
//! second-level cache once they are packed, for each block over its queries, a panel at
//! a time, and over the block's keys in runs whose logits fit the first: their logits,
//! the weights that these become, and the sums of weighted values, which are scaled
//! down whenever a larger logit turns up.

use std::ops::Range;

use rayon::prelude::*;

use super::bias;
use super::softmax::{Columns, rescale, saved, weigh};
use super::{Dims, Operands};
use crate::format::{Kind, with_kernel};
use crate::lanes::Lanes;
use crate::micro::{Left, MicroKernel};
use crate::product::rectangle::Rectangle;
use crate::product::schedule;
use crate::scratch;

/// Attention on a micro-kernel, and what [`backward`](super::backward) needs of the
/// softmax, if that is asked for.
pub(super) fn forward(kind: Kind, of: Operands<'_>, out: &mut [f32], save: Option<&mut [f32]>) {
    let dims = of.dims;
    let columns = kind.layout().cols;
    let panels = dims.queries.div_ceil(columns);
    let problems = dims.batch * dims.heads;
    // Each task packs the keys and values of its head.
    let parts = parts(problems, panels, rayon::current_num_threads());
    let width = dims.width();
    let whole = Rectangle::new(out, width, dims.batch * dims.queries, width);
    let mut none = [];
    let saving = save.is_some();
    let save = save.unwrap_or(&mut none);
    let norms = match saving {
        true => Some(Rectangle::new(
            save,
            dims.queries,
            problems * 2,
            dims.queries,
        )),
        false => None,
    };
    let tasks = (0..problems * parts).into_par_iter().with_max_len(1);
    tasks.for_each(|i| {
        let (problem, part) = (i / parts, schedule::part(panels, parts, i % parts));
        let (b, h) = (problem / dims.heads, problem % dims.heads);
        let rows = part.start * columns..(part.end * columns).min(dims.queries);
        // SAFETY: each task has rows of its own in the columns of its head.
        let out = unsafe {
            whole.part(b * dims.queries + rows.start, rows.len(), h * dims.head_dim, dims.head_dim)
        };
        let norms = norms.as_ref().map(|all| {
            let first = saved(dims, b, h)[0].start / dims.queries;
            // SAFETY: each task has columns of its own in the rows of its head.
            unsafe { all.part(first, 2, rows.start, rows.len()) }
        });
        let room = room(kind, dims, rows.len());
        // A micro-kernel's code takes on its features as long as no closure lies
        // between, so the memory is had out here.
        scratch::with(room, |buffer| {
            with_kernel!(kind, task(of: Operands<'_>, b: usize, h: usize, rows: Range<usize>, out: Rectangle<'_>, norms: Option<Rectangle<'_>>, buffer: &mut [f32]));
        });
    });
}

/// Into how many parts the queries of each problem are cut: the fewest that leave
/// threads idle for less than a fiftieth of the time, else the least idle.
fn parts(problems: usize, panels: usize, threads: usize) -> usize {
    let least = match threads {
        1 => 1,
        _ => (2 * threads).div_ceil(problems).min(panels),
    };
    let idle = |&parts: &usize| schedule::idle(panels, problems, (parts, problems), threads);
    let most = (least + threads).min(panels);
    let mut best = (f64::INFINITY, least);
    for parts in least..=most.max(least) {
        let idle = idle(&parts);
        if idle < best.0 {
            best = (idle, parts);
        }
        if idle < 0.02 {
            break;
        }
    }
    best.1
}

/// What a task needs room for.
#[derive(Clone, Copy)]
struct Sizes {
    /// Blocks of keys.
    blocks: usize,
    /// Keys of the largest run.
    run: usize,
    /// Panels of queries, of a block's keys and of channels.
    queries: usize,
    keys: usize,
    channels: usize,
    /// `f32` of a panel of queries, of keys, of a block's values and of a run's weights.
    query: usize,
    key: usize,
    value: usize,
    weights: usize,
}

impl Sizes {
    fn of<K: MicroKernel>(dims: Dims, rows: usize) -> Self {
        let unit = unit::<K>();
        let key = K::left_panel(dims.head_dim);
        // Values take about what keys take.
        let most = K::BLOCK * K::ROWS / (2 * key) / unit;
        let units = dims.keys.div_ceil(unit);
        let blocks = units.div_ceil(most.max(1));
        let block = (units.div_ceil(blocks) * unit).min(dims.keys);
        let run = block.min(K::KEYS);
        Self {
            blocks,
            run,
            queries: rows.div_ceil(K::COLS),
            keys: block.div_ceil(K::ROWS),
            channels: dims.head_dim.div_ceil(K::ROWS),
            query: K::right_panel(dims.head_dim),
            key,
            value: K::left_panel(block),
            weights: match K::PLAIN {
                true => 0,
                false => K::right_panel(run),
            },
        }
    }

    /// Of one panel's queries; a block's keys and values; a run's logits and weights;
    /// all queries' weighted values, and what is known of their softmax.
    fn lengths<K: MicroKernel>(self) -> [usize; 7] {
        [
            self.query,
            self.keys * self.key,
            self.channels * self.value,
            logits::<K>(self.run),
            self.weights,
            self.queries * self.channels * K::ROWS * K::COLS,
            (2 * self.queries + 1) * K::COLS,
        ]
    }
}

/// Keys that fill both panels and steps.
const fn unit<K: MicroKernel>() -> usize {
    let mut keys = K::ROWS;
    while !keys.is_multiple_of(K::TERMS) {
        keys += K::ROWS;
    }
    keys
}

/// `f32` of the logits of a run, as right panels have steps and left ones rows.
#[inline(always)]
fn logits<K: MicroKernel>(run: usize) -> usize {
    let panels = run.div_ceil(K::ROWS) * K::ROWS;
    let steps = run.div_ceil(K::TERMS) * K::TERMS;
    panels.max(steps) * K::COLS
}

fn room(kind: Kind, dims: Dims, rows: usize) -> usize {
    #[inline(always)]
    fn add<K: MicroKernel>(_: K, dims: Dims, rows: usize, sum: &mut usize) {
        let lengths = Sizes::of::<K>(dims, rows).lengths::<K>();
        *sum = lengths.iter().map(|n| n.next_multiple_of(16)).sum();
    }
    let mut all = 0;
    let sum = &mut all;
    with_kernel!(kind, add(dims: Dims, rows: usize, sum: &mut usize));
    all
}

#[inline(always)]
#[expect(clippy::too_many_arguments)]
fn task<K: MicroKernel>(
    kernel: K,
    of: Operands<'_>,
    b: usize,
    h: usize,
    rows: Range<usize>,
    mut out: Rectangle<'_>,
    norms: Option<Rectangle<'_>>,
    buffer: &mut [f32],
) {
    let Dims { keys, head_dim, .. } = of.dims;
    let sizes = Sizes::of::<K>(of.dims, rows.len());
    let (q, k, v) = (
        of.queries(b, h).part(rows.start, rows.len(), 0, head_dim),
        of.keys(b, h),
        of.values(b, h),
    );
    let [queries, packed_k, packed_v, logits, weights, sums, state] =
        scratch::split(buffer, sizes.lengths::<K>());
    let (factors, state) = state.split_at_mut(K::COLS);
    for state in state.chunks_exact_mut(2 * K::COLS) {
        state[..K::COLS].fill(f32::NEG_INFINITY);
        state[K::COLS..].fill(0.0);
    }
    let added = of.bias.map(|bias| bias.of(of.dims, b, h));
    let tile = sizes.channels * K::ROWS * K::COLS;
    let units = keys.div_ceil(unit::<K>());
    kernel.begin();
    for i in 0..sizes.blocks {
        let some = schedule::part(units, sizes.blocks, i);
        let from = some.start * unit::<K>();
        let here = (some.end * unit::<K>()).min(keys) - from;
        for (j, out) in packed_k.chunks_exact_mut(sizes.key).enumerate() {
            let first = j * K::ROWS;
            if first < here {
                let some = K::ROWS.min(here - first);
                kernel.pack_rows(k.part(from + first, some, 0, head_dim), out);
            }
        }
        // Transposed: a row for each channel.
        let value = K::left_panel(here);
        for (c, out) in packed_v.chunks_exact_mut(sizes.value).enumerate() {
            let first = c * K::ROWS;
            let some = K::ROWS.min(head_dim - first);
            kernel.pack_rows(v.part(from, here, first, some).t(), &mut out[..value]);
        }
        for p in 0..sizes.queries {
            let first = p * K::COLS;
            let some = K::COLS.min(rows.len() - first);
            kernel.pack_columns(q.part(first, some, 0, head_dim), queries);
            let sums = &mut sums[p * tile..(p + 1) * tile];
            let (tops, totals) =
                state[p * 2 * K::COLS..(p + 1) * 2 * K::COLS].split_at_mut(K::COLS);
            let mut columns = Columns {
                tops,
                totals,
                factors,
            };
            for start in (0..here).step_by(K::KEYS) {
                let run = K::KEYS.min(here - start);
                let fresh = i == 0 && start == 0;
                let left = Left {
                    data: &packed_k[start / K::ROWS * sizes.key..],
                    panel: sizes.key,
                    step: K::LEFT,
                    rows: run,
                };
                kernel.multiply(left, queries, 0..head_dim, true, &[], logits);
                if let Some(added) = added {
                    let (key, query) = (from + start, rows.start + first);
                    bias::add(kernel, added, logits, key, run, query, some, of.scale);
                }
                weigh(kernel, logits, run, of.scale, &mut columns);
                if added.is_some_and(|bias| bias.masks()) {
                    bias::settle(kernel, logits, &mut [], run);
                }
                if !fresh {
                    rescale(kernel, sums, columns.factors);
                }
                let right = match K::PLAIN {
                    true => &*logits,
                    false => packed(kernel, logits, run, weights),
                };
                let left = Left {
                    data: &packed_v[start / K::TERMS * K::LEFT..],
                    panel: sizes.value,
                    step: K::LEFT,
                    rows: head_dim,
                };
                kernel.multiply(left, right, 0..run, fresh, &[], sums);
            }
            if i + 1 == sizes.blocks {
                // Nothing that could be weighed.
                for (total, top) in columns.totals.iter_mut().zip(&*columns.tops) {
                    if *top == f32::NEG_INFINITY {
                        *total = f32::NAN;
                    }
                }
                store(kernel, sums, columns.totals, first, some, &mut out);
            }
        }
    }
    kernel.end();
    if let Some(mut norms) = norms {
        for (p, state) in state.chunks_exact(2 * K::COLS).enumerate() {
            let first = p * K::COLS;
            let some = K::COLS.min(rows.len() - first);
            norms.row(0, first, some).copy_from_slice(&state[..some]);
            let logs = norms.row(1, first, some);
            for (log, total) in logs.iter_mut().zip(&state[K::COLS..]) {
                *log = total.log2();
            }
        }
    }
}

/// A run's weights as a right panel.
#[inline(always)]
fn packed<'a, K: MicroKernel>(
    kernel: K,
    cells: &mut [f32],
    keys: usize,
    panel: &'a mut [f32],
) -> &'a [f32] {
    let steps = keys.div_ceil(K::TERMS);
    cells[keys * K::COLS..steps * K::TERMS * K::COLS].fill(0.0);
    let panel = &mut panel[..K::right_panel(keys)];
    let cells = cells.chunks_exact(K::TERMS * K::COLS);
    for (step, cells) in panel.chunks_exact_mut(K::RIGHT).zip(cells).take(steps) {
        kernel.put_weights(cells, step);
    }
    kernel.finish_weights(panel);
    panel
}

/// Divides the sums, a row for each channel, by the columns' totals and writes them as
/// a row for each query, `some` from `first` on.
#[inline(always)]
fn store<K: MicroKernel>(
    kernel: K,
    sums: &[f32],
    totals: &[f32],
    first: usize,
    some: usize,
    out: &mut Rectangle<'_>,
) {
    let simd = kernel.simd();
    let one = simd.splat(1.0);
    let head_dim = out.cols();
    for (half, totals) in totals.as_chunks::<16>().0.iter().enumerate() {
        let norms = simd.div(one, simd.load(totals));
        let queries = some.saturating_sub(half * 16).min(16);
        for channel in (0..head_dim).step_by(16) {
            let here = (head_dim - channel).min(16);
            let mut square = [[0.0; 16]; 16];
            for (c, row) in square.iter_mut().take(here).enumerate() {
                let from = (channel + c) * K::COLS + half * 16;
                if let Some(sums) = sums[from..].first_chunk::<16>() {
                    simd.store(simd.mul(simd.load(sums), norms), row);
                }
            }
            simd.transpose(&mut square);
            for (r, row) in square.iter().enumerate().take(queries) {
                simd.copy(&row[..here], out.row(first + half * 16 + r, channel, here));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads and queries of ViT-S, B and L and of the cascade, in panels of 16 and 32.
    #[test]
    fn threads_wait_little_where_there_are_panels_for_all() {
        for heads in [3, 6, 12, 16] {
            for columns in [16, 32] {
                let panels = 1568usize.div_ceil(columns);
                for threads in [1, 2, 4, 8, 16] {
                    let parts = parts(heads, panels, threads);
                    let idle = schedule::idle(panels, heads, (parts, heads), threads);
                    // What whole panels leave no other choice but.
                    let mean = panels as f64 * heads as f64 / threads as f64;
                    let least = 1.0 - mean / mean.ceil();
                    assert!(
                        idle <= least.max(0.02) + 0.06,
                        "{heads} heads in panels of {columns} on {threads} threads: {parts} parts leave {:.1} % idle",
                        100.0 * idle
                    );
                }
            }
        }
    }
}
