//! The backward of attention, in tiles of P and dS (Dao et al., 2022, arXiv 2205.14135,
//! algorithm 4), transposed as the forward is.
//!
//! A task has some keys of one head, in blocks whose operands and gradients fit the
//! second-level cache. For each block it goes over the queries in groups: Sᵀ = K·Qᵀ
//! gives Pᵀ again by what the forward has saved of the softmax, dPᵀ = V·gradᵀ gives
//! dSᵀ = Pᵀ∘(dPᵀ − D)·scale with D = rowsum(grad∘O), and then dQᵀ += Kᵀ·dSᵀ,
//! dV += Pᵀ·grad and dK += dSᵀ·Q. What the tasks of a head give for dQ is added at the
//! end. How many tasks a head has follows from the shapes alone, so that no sum's order
//! depends on the threads.

use std::ops::Range;

use rayon::prelude::*;

use super::bias;
use super::softmax::{saved, unit as logit_unit};
use super::{Dims, Operands, Rows};
use crate::fetch::fetch;
use crate::format::{Kind, with_kernel};
use crate::lanes::Lanes;
use crate::matrix::{MatRef, size};
use crate::micro::{Left, MOST_COLS, MicroKernel};
use crate::product::rectangle::Rectangle;
use crate::product::schedule;
use crate::scratch;

/// What the backward takes beside the operands.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// The forward's result (B, N, H·d), its softmax (B, H, 2, N), and the gradient of
    /// the result (B, N, H·d).
    pub(super) out: Rows<'a>,
    pub(super) norms: &'a [f32],
    pub(super) grad: Rows<'a>,
}

/// Tasks that all heads together are cut into, if they are fewer.
const TASKS: usize = 24;
/// Tasks that a head is cut into at most: each gives a dQ of its own.
const PARTS: usize = 8;
/// `f32` of a block's operands and gradients.
const BLOCK: usize = 320 * 1024;
/// Queries in a group: its P and dS are the left operands of products with as many terms.
const GROUP: usize = 64;

pub(super) fn backward(
    kind: Kind,
    of: Operands<'_>,
    given: Given<'_>,
    dq: &mut [f32],
    dkv: &mut [f32],
) {
    let dims = of.dims;
    let (width, problems) = (dims.width(), dims.batch * dims.heads);
    let dkv = Rectangle::new(dkv, 2 * width, dims.batch * dims.keys, 2 * width);
    let dq = Rectangle::new(dq, width, dims.batch * dims.queries, width);
    let sizes = sizes(kind, dims);
    let (parts, units) = (sizes.parts, dims.keys.div_ceil(sizes.unit));
    // Some heads at a time: each part of each has a dQ of its own.
    let tasks = TASKS.max(4 * rayon::current_num_threads());
    let at_once = tasks.div_ceil(parts).min(problems);
    for first in (0..problems).step_by(at_once) {
        let problems = at_once.min(problems - first);
        let share = size([sizes.queries, sizes.channels * sizes.tile]);
        scratch::with(size([problems, parts, share]), |partial| {
            let tasks = partial.par_chunks_exact_mut(share.max(1)).with_max_len(1);
            tasks.enumerate().for_each(|(i, dq)| {
                let problem = first + i / parts;
                let (b, h) = (problem / dims.heads, problem % dims.heads);
                let some = schedule::part(units, parts, i % parts);
                let keys = some.start * sizes.unit..(some.end * sizes.unit).min(dims.keys);
                let (from, d) = (b * dims.keys + keys.start, dims.head_dim);
                // SAFETY: each task has keys of its own in the columns of its head.
                let [dk, dv] = [0, width]
                    .map(|half| unsafe { dkv.part(from, keys.len(), half + h * d, d) });
                let gradients = [dk, dv];
                let share = Share { b, h, keys };
                let sums = [dq, &mut []];
                scratch::with(sizes.room, |buffer| {
                    with_kernel!(kind, task(of: Operands<'_>, given: Given<'_>, sizes: Sizes, share: Share, sums: [&mut [f32]; 2], gradients: [Rectangle<'_>; 2], buffer: &mut [f32]));
                });
            });
            let partial = &*partial;
            let panels = (0..problems * sizes.queries).into_par_iter();
            panels.for_each(|i| {
                let (problem, panel) = (first + i / sizes.queries, i % sizes.queries);
                let (b, h) = (problem / dims.heads, problem % dims.heads);
                let from = panel * sizes.cols;
                let some = sizes.cols.min(dims.queries - from);
                // SAFETY: each task has queries of its own in the columns of its head.
                let out = unsafe {
                    dq.part(b * dims.queries + from, some, h * dims.head_dim, dims.head_dim)
                };
                let tile = sizes.channels * sizes.tile;
                let partial = &partial[i / sizes.queries * parts * share..][..parts * share];
                let at = panel * tile;
                with_kernel!(kind, add_up(partial: &[f32], share: usize, at: usize, out: Rectangle<'_>));
            });
        });
    }
}

/// Tasks that a head's problems are cut into where its bias has a gradient: each sums one
/// of its own.
const SHARES: usize = 4;

/// [`backward`] with a bias, whose gradient is added to `dbias` (H, M, N). A task has some
/// problems of one head, one after the other, so that it sums their gradients alone.
pub(super) fn biased(
    kind: Kind,
    of: Operands<'_>,
    given: Given<'_>,
    dq: &mut [f32],
    dkv: &mut [f32],
    dbias: &mut [f32],
) {
    let dims = of.dims;
    let (width, d) = (dims.width(), dims.head_dim);
    let dkv = Rectangle::new(dkv, 2 * width, dims.batch * dims.keys, 2 * width);
    let dq_all = Rectangle::new(dq, width, dims.batch * dims.queries, width);
    // As if there were problems enough for a task to have all keys.
    let sizes = sizes(
        kind,
        Dims {
            batch: usize::MAX / dims.heads,
            ..dims
        },
    );
    let one = size([dims.keys, dims.queries]);
    let shares = SHARES.min(dims.batch);
    let share = size([sizes.queries, sizes.channels * sizes.tile]);
    let tile = sizes.channels * sizes.tile;
    scratch::with(size([dims.heads, shares, one]), |sums| {
        let tasks = sums.par_chunks_exact_mut(one).with_max_len(1);
        tasks.enumerate().for_each(|(i, dbias)| {
            let (h, part) = (i / shares, schedule::part(dims.batch, shares, i % shares));
            dbias.fill(0.0);
            for b in part {
                // SAFETY: each task has problems of its own in the columns of its head.
                let [dk, dv] = [0, width].map(|half| unsafe {
                    dkv.part(b * dims.keys, dims.keys, half + h * d, d)
                });
                let keys = 0..dims.keys;
                scratch::with(share, |partial| {
                    let (gradients, share) = ([dk, dv], Share { b, h, keys });
                    let sums = [&mut *partial, &mut *dbias];
                    scratch::with(sizes.room, |buffer| {
                        with_kernel!(kind, task(of: Operands<'_>, given: Given<'_>, sizes: Sizes, share: Share, sums: [&mut [f32]; 2], gradients: [Rectangle<'_>; 2], buffer: &mut [f32]));
                    });
                    let (partial, share) = (&*partial, partial.len());
                    for panel in 0..sizes.queries {
                        let (from, at) = (panel * sizes.cols, panel * tile);
                        let some = sizes.cols.min(dims.queries - from);
                        // SAFETY: as above.
                        let out = unsafe { dq_all.part(b * dims.queries + from, some, h * d, d) };
                        with_kernel!(kind, add_up(partial: &[f32], share: usize, at: usize, out: Rectangle<'_>));
                    }
                });
            }
        });
        for (dbias, sums) in dbias
            .chunks_exact_mut(one)
            .zip(sums.chunks_exact(shares * one))
        {
            for sums in sums.chunks_exact(one) {
                dbias.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
            }
        }
    });
}

/// What a task has: some keys of one head of one problem.
struct Share {
    b: usize,
    h: usize,
    keys: Range<usize>,
}

/// What a task needs room for.
#[derive(Clone, Copy, Default)]
struct Sizes {
    /// Keys of a panel, and tasks that a head's keys are cut into.
    unit: usize,
    parts: usize,
    /// Columns of a panel of queries, and `f32` of a tile.
    cols: usize,
    tile: usize,
    /// Panels of all queries, and of channels as rows and as columns.
    queries: usize,
    channels: usize,
    columns: usize,
    /// Keys of a block, and their panels.
    block: usize,
    keys: usize,
    /// Panels of queries in a group.
    group: usize,
    /// `f32` of a panel of keys or values, of a block's transposed keys, of queries, and
    /// of a group's queries whose columns are channels.
    key: usize,
    turned: usize,
    query: usize,
    wide: usize,
    /// `f32` of a panel's logits.
    cells: usize,
    /// `f32` of right and left panels of cells, where they are packed.
    right: usize,
    left: usize,
    /// `f32` of it all.
    room: usize,
}

impl Sizes {
    fn of<K: MicroKernel>(dims: Dims) -> Self {
        let units = dims.keys.div_ceil(K::ROWS);
        let parts = TASKS
            .div_ceil(dims.batch * dims.heads)
            .clamp(1, PARTS)
            .min(units);
        let group = GROUP.div_ceil(K::COLS);
        let key = K::left_panel(dims.head_dim);
        // Keys, values, transposed keys and two gradients.
        let most = (BLOCK / (5 * key)).max(1);
        let panels = units.div_ceil(parts);
        let block = (panels.div_ceil(panels.div_ceil(most)) * K::ROWS).min(dims.keys);
        let keys = block.div_ceil(K::ROWS);
        let steps = block.div_ceil(K::TERMS);
        let packed = |n: usize| if K::PLAIN { 0 } else { n };
        let sizes = Self {
            unit: K::ROWS,
            parts,
            cols: K::COLS,
            tile: K::ROWS * K::COLS,
            queries: dims.queries.div_ceil(K::COLS),
            channels: dims.head_dim.div_ceil(K::ROWS),
            columns: dims.head_dim.div_ceil(K::COLS),
            block,
            keys,
            group,
            key,
            turned: K::left_panel(block),
            query: K::right_panel(dims.head_dim),
            wide: K::right_panel(group * K::COLS),
            cells: (keys * K::ROWS).max(steps * K::TERMS) * K::COLS,
            right: packed(K::right_panel(block)),
            left: packed(K::left_panel(group * K::COLS) + group * K::COLS),
            room: 0,
        };
        let room = sizes.lengths().iter().map(|n| n.next_multiple_of(16)).sum();
        Self { room, ..sizes }
    }

    /// Of a block's keys, values and transposed keys; their gradients; a panel's queries
    /// and gradient; a group's, with channels as columns; its P and dS; panels of cells;
    /// D of a panel.
    fn lengths(self) -> [usize; 14] {
        let gradient = self.columns * self.keys * self.tile;
        [
            self.keys * self.key,
            self.keys * self.key,
            self.channels * self.turned,
            gradient,
            gradient,
            self.query,
            self.query,
            self.columns * self.wide,
            self.columns * self.wide,
            self.group * self.cells,
            self.group * self.cells,
            self.right,
            self.left,
            self.cols,
        ]
    }
}

fn sizes(kind: Kind, dims: Dims) -> Sizes {
    #[inline(always)]
    fn of<K: MicroKernel>(_: K, dims: Dims, out: &mut Sizes) {
        *out = Sizes::of::<K>(dims);
    }
    let mut sizes = Sizes::default();
    let out = &mut sizes;
    with_kernel!(kind, of(dims: Dims, out: &mut Sizes));
    sizes
}

#[inline(always)]
#[expect(clippy::too_many_arguments)]
fn task<K: MicroKernel>(
    kernel: K,
    of: Operands<'_>,
    given: Given<'_>,
    sizes: Sizes,
    Share { b, h, keys }: Share,
    [dq, dbias]: [&mut [f32]; 2],
    gradients: [Rectangle<'_>; 2],
    buffer: &mut [f32],
) {
    let Dims {
        queries, head_dim, ..
    } = of.dims;
    let [
        packed_k,
        packed_v,
        turned_k,
        dk,
        dv,
        q_panel,
        grad_panel,
        q_wide,
        grad_wide,
        p,
        ds,
        right,
        left,
        dots,
    ] = scratch::split(buffer, sizes.lengths());
    let (q, k, v) = (of.queries(b, h), of.keys(b, h), of.values(b, h));
    let grad = given.grad.head(b * queries, queries, h, head_dim);
    let out = given.out.head(b * queries, queries, h, head_dim);
    let norms = saved(of.dims, b, h).map(|some| &given.norms[some]);
    let added = of.bias.map(|bias| bias.of(of.dims, b, h));
    let mut gradients = gradients;
    kernel.begin();
    for from in (0..keys.len()).step_by(sizes.block) {
        let here = sizes.block.min(keys.len() - from);
        let (k, v) = (
            k.part(keys.start + from, here, 0, head_dim),
            v.part(keys.start + from, here, 0, head_dim),
        );
        for (j, (k_out, v_out)) in packed_k
            .chunks_exact_mut(sizes.key)
            .zip(packed_v.chunks_exact_mut(sizes.key))
            .enumerate()
        {
            let first = j * K::ROWS;
            if first < here {
                let some = K::ROWS.min(here - first);
                kernel.pack_rows(k.part(first, some, 0, head_dim), k_out);
                kernel.pack_rows(v.part(first, some, 0, head_dim), v_out);
            }
        }
        for (c, out) in turned_k.chunks_exact_mut(sizes.turned).enumerate() {
            let first = c * K::ROWS;
            let some = K::ROWS.min(head_dim - first);
            let out = &mut out[..K::left_panel(here)];
            kernel.pack_rows(k.part(0, here, first, some).t(), out);
        }
        let key_panels = here.div_ceil(K::ROWS);
        for start in (0..queries).step_by(sizes.group * K::COLS) {
            let group = (sizes.group * K::COLS).min(queries - start);
            if !K::PLAIN {
                let room = K::right_panel(group);
                widen(
                    kernel,
                    q.part(start, group, 0, head_dim),
                    sizes.wide,
                    0..room,
                    q_wide,
                );
                widen(
                    kernel,
                    grad.part(start, group, 0, head_dim),
                    sizes.wide,
                    0..room,
                    grad_wide,
                );
            }
            for (g, first) in (start..start + group).step_by(K::COLS).enumerate() {
                let some = K::COLS.min(queries - first);
                for m in [q, grad, out] {
                    for r in first + some..(first + some + K::COLS).min(queries) {
                        fetch(&m.data[r * m.row_stride..][..head_dim]);
                    }
                }
                let (q, grad) = (
                    q.part(first, some, 0, head_dim),
                    grad.part(first, some, 0, head_dim),
                );
                kernel.pack_columns(q, q_panel);
                kernel.pack_columns(grad, grad_panel);
                if K::PLAIN {
                    // While its rows are at hand.
                    let room = g * K::RIGHT..(g + 1) * K::RIGHT;
                    widen(kernel, q, sizes.wide, room.clone(), q_wide);
                    widen(kernel, grad, sizes.wide, room, grad_wide);
                }
                let p = &mut p[g * sizes.cells..(g + 1) * sizes.cells];
                let ds = &mut ds[g * sizes.cells..(g + 1) * sizes.cells];
                let all = |data| Left {
                    data,
                    panel: sizes.key,
                    step: K::LEFT,
                    rows: here,
                };
                kernel.multiply(all(&*packed_k), q_panel, 0..head_dim, true, &[], p);
                if let Some(added) = added {
                    bias::add(
                        kernel,
                        added,
                        p,
                        keys.start + from,
                        here,
                        first,
                        some,
                        of.scale,
                    );
                }
                kernel.multiply(all(&*packed_v), grad_panel, 0..head_dim, true, &[], ds);
                dots.fill(0.0);
                for (r, dot) in dots.iter_mut().enumerate().take(some) {
                    let o = &out.data[(first + r) * out.row_stride..][..head_dim];
                    let g = &grad.data[r * grad.row_stride..][..head_dim];
                    *dot = dot_product(kernel, o, g);
                }
                let mut known = [[0.0; MOST_COLS]; 2];
                for (known, norms) in known.iter_mut().zip(norms) {
                    kernel
                        .simd()
                        .copy(&norms[first..first + some], &mut known[..some]);
                }
                differentiate(kernel, p, ds, here, of.scale, &known, dots);
                if added.is_some_and(|bias| bias.masks()) {
                    bias::settle(kernel, p, ds, here);
                }
                if !dbias.is_empty() {
                    let key = keys.start + from;
                    bias::collect(kernel, ds, key, here, first, some, queries, of.scale, dbias);
                }
                let panel = first / K::COLS;
                let sums = sizes.channels * sizes.tile;
                let sums = &mut dq[panel * sums..(panel + 1) * sums];
                let all = Left {
                    data: &*turned_k,
                    panel: sizes.turned,
                    step: K::LEFT,
                    rows: head_dim,
                };
                let weights = match K::PLAIN {
                    true => &*ds,
                    false => {
                        let right = &mut right[..K::right_panel(here)];
                        let cells = MatRef::new(ds, here, K::COLS, K::COLS);
                        kernel.pack_columns(cells.t(), right);
                        &*right
                    }
                };
                kernel.multiply(all, weights, 0..here, from == 0, &[], sums);
            }
            for (cells, wide, sums) in [(&*p, &*grad_wide, &mut *dv), (&*ds, &*q_wide, &mut *dk)] {
                for c in 0..sizes.columns {
                    let wide = &wide[c * sizes.wide..][..K::right_panel(group)];
                    let sums = &mut sums[c * sizes.keys * sizes.tile..];
                    let fresh = start == 0;
                    if K::PLAIN {
                        // Rows of a tile of P or dS are keys, and its columns the terms.
                        let all = Left {
                            data: cells,
                            panel: sizes.tile,
                            step: sizes.cells,
                            rows: here,
                        };
                        kernel.multiply(all, wide, 0..group, fresh, &[], sums);
                        continue;
                    }
                    for j in 0..key_panels {
                        let some = K::ROWS.min(here - j * K::ROWS);
                        gather(
                            kernel,
                            cells,
                            sizes,
                            j * K::ROWS..j * K::ROWS + some,
                            group,
                            left,
                        );
                        let one = Left {
                            data: &left[..K::left_panel(group)],
                            panel: 0,
                            step: K::LEFT,
                            rows: some,
                        };
                        let sums = &mut sums[j * sizes.tile..(j + 1) * sizes.tile];
                        kernel.multiply(one, wide, 0..group, fresh, &[], sums);
                    }
                }
            }
        }
        for (out, sums) in gradients.iter_mut().zip([&*dk, &*dv]) {
            for r in 0..here {
                for c in 0..sizes.columns {
                    let first = c * K::COLS;
                    let some = K::COLS.min(head_dim - first);
                    let at = c * sizes.keys * sizes.tile + r * K::COLS;
                    kernel
                        .simd()
                        .copy(&sums[at..at + some], out.row(from + r, first, some));
                }
            }
        }
    }
    kernel.end();
}

/// Packs rows (·, d) as right panels whose columns are channels: `room` of each panel of
/// `wide` numbers.
#[inline(always)]
fn widen<K: MicroKernel>(
    kernel: K,
    rows: MatRef<'_>,
    wide: usize,
    room: Range<usize>,
    panels: &mut [f32],
) {
    for (c, panel) in panels.chunks_exact_mut(wide).enumerate() {
        let first = c * K::COLS;
        let some = K::COLS.min(rows.cols - first);
        let columns = rows.part(0, rows.rows, first, some).t();
        kernel.pack_columns(columns, &mut panel[room.clone()]);
    }
}

/// Rows of keys of a group's cells, as a left panel at the beginning of `panel`.
#[inline(always)]
fn gather<K: MicroKernel>(
    kernel: K,
    cells: &[f32],
    sizes: Sizes,
    keys: Range<usize>,
    group: usize,
    panel: &mut [f32],
) {
    let (panel, row) = panel.split_at_mut(panel.len() - sizes.group * K::COLS);
    let panel = &mut panel[..K::left_panel(group)];
    for (r, key) in keys.enumerate() {
        for (g, row) in row.chunks_exact_mut(K::COLS).enumerate() {
            let from = g * sizes.cells + key * K::COLS;
            kernel.simd().copy(&cells[from..from + K::COLS], row);
        }
        kernel.pack_row(&row[..group], r, panel);
    }
}

#[inline(always)]
fn dot_product<K: MicroKernel>(kernel: K, a: &[f32], b: &[f32]) -> f32 {
    let simd = kernel.simd();
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = simd.splat(0.0);
    for (a, b) in a.iter().zip(b) {
        sums = simd.mul_add(simd.load(a), simd.load(b), sums);
    }
    let mut lanes = [0.0; 16];
    simd.store(sums, &mut lanes);
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Turns the logits of a panel into Pᵀ, and dPᵀ into dSᵀ: `keys` rows each.
#[inline(always)]
fn differentiate<K: MicroKernel>(
    kernel: K,
    p: &mut [f32],
    dp: &mut [f32],
    keys: usize,
    scale: f32,
    [tops, logs]: &[[f32; MOST_COLS]; 2],
    dots: &[f32],
) {
    let simd = kernel.simd();
    let (p, _) = p[..keys * K::COLS].as_chunks_mut::<16>();
    let (dp, _) = dp[..keys * K::COLS].as_chunks_mut::<16>();
    let (tops, _) = tops.as_chunks::<16>();
    let (logs, _) = logs.as_chunks::<16>();
    let (dots, _) = dots.as_chunks::<16>();
    let (sign, unit) = (
        simd.splat(if scale < 0.0 { -1.0 } else { 1.0 }),
        simd.splat(logit_unit(scale)),
    );
    let scale = simd.splat(scale);
    let minus = simd.splat(-1.0);
    for v in 0..K::COLS / 16 {
        let top = simd.mul(simd.load(&tops[v]), minus);
        let log = simd.mul(simd.load(&logs[v]), minus);
        let dot = simd.load(&dots[v]);
        let rows = p
            .chunks_exact_mut(K::COLS / 16)
            .zip(dp.chunks_exact_mut(K::COLS / 16));
        for (p, dp) in rows {
            let x = simd.mul_add(simd.load(&p[v]), sign, top);
            let weight = simd.exp2(simd.mul_add(x, unit, log));
            let change = simd.mul(simd.sub(simd.load(&dp[v]), dot), scale);
            simd.store(weight, &mut p[v]);
            simd.store(simd.mul(weight, change), &mut dp[v]);
        }
    }
}

/// dQ of a panel of queries: what the tasks of its head give, each `share` numbers, from
/// `at` on, a row for each channel.
#[inline(always)]
fn add_up<K: MicroKernel>(
    kernel: K,
    partial: &[f32],
    share: usize,
    at: usize,
    mut out: Rectangle<'_>,
) {
    let simd = kernel.simd();
    let (queries, head_dim) = (out.rows(), out.cols());
    for half in (0..queries).step_by(16) {
        for channel in (0..head_dim).step_by(16) {
            let here = (head_dim - channel).min(16);
            let mut square = [[0.0; 16]; 16];
            for (c, row) in square.iter_mut().take(here).enumerate() {
                let from = at + (channel + c) * K::COLS + half;
                let mut sum = simd.splat(0.0);
                for partial in partial.chunks_exact(share) {
                    if let Some(some) = partial[from..].first_chunk::<16>() {
                        sum = simd.add(sum, simd.load(some));
                    }
                }
                simd.store(sum, row);
            }
            simd.transpose(&mut square);
            for (r, row) in square.iter().enumerate().take(queries - half) {
                out.row(half + r, channel, here)
                    .copy_from_slice(&row[..here]);
            }
        }
    }
}
