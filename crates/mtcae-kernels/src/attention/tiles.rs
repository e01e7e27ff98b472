//! Attention on panels of tiles, with the softmax taken online (Milakov and
//! Gimelshein, 2018, arXiv 1805.02867; Dao et al., 2022, arXiv 2205.14135).
//!
//! A task has some queries of one head. It goes over the keys in blocks that fit
//! the second-level cache once they are packed, and for each block over its
//! queries, 32 at a time: their logits, the weights that become a left operand on
//! the way, and the sums of weighted values, which are scaled down whenever a
//! larger logit turns up.

use std::arch::x86_64::*;
use std::ops::Range;

use rayon::prelude::*;

use super::{Dims, Rows};
use crate::format::{Format, Kind, with_engine};
use crate::product::Rectangle;
use crate::scratch;
use crate::tiles::{Engine, SIDE, SUMS};

/// `f32` that packed keys and values of a block may take, of a second-level cache
/// of 2 MiB.
const BLOCK: usize = 320 * 1024;

#[derive(Clone, Copy)]
struct Job<'a> {
    dims: Dims,
    q: Rows<'a>,
    k: Rows<'a>,
    v: Rows<'a>,
    scale: f32,
}

/// Attention in the format of `kind`, which has an engine.
pub(super) fn forward(
    kind: Kind,
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    scale: f32,
    out: &mut [f32],
) {
    let job = Job {
        dims,
        q,
        k,
        v,
        scale,
    };
    let panels = dims.queries.div_ceil(SIDE);
    let problems = dims.batch * dims.heads;
    // Three tasks a thread; each packs the keys and values of its head.
    let parts = (3 * rayon::current_num_threads())
        .div_ceil(problems)
        .min(panels);
    let width = dims.width();
    let whole = Rectangle::new(out, width, dims.batch * dims.queries, width);
    (0..problems * parts).into_par_iter().for_each(|i| {
        let (problem, part) = (i / parts, i % parts);
        let (b, h) = (problem / dims.heads, problem % dims.heads);
        let from = panels * part / parts * SIDE;
        let to = (panels * (part + 1) / parts * SIDE).min(dims.queries);
        // SAFETY: each task has rows of its own in the columns of its head.
        let out = unsafe {
            whole.part(b * dims.queries + from, to - from, h * dims.head_dim, dims.head_dim)
        };
        let rows = from..to;
        let sizes = Sizes::new(kind, dims, rows.len());
        // The engines' code takes on their features as long as no closure lies
        // between, so the memory is had out here.
        scratch::with(sizes.lengths().iter().sum(), |buffer| {
            with_engine!(kind, task(job: Job<'_>, sizes: Sizes, b: usize, h: usize, rows: Range<usize>, out: Rectangle<'_>, buffer: &mut [f32]));
        });
    });
}

/// What a task needs room for.
#[derive(Clone, Copy)]
struct Sizes {
    /// `f32` of a panel of queries or keys.
    narrow: usize,
    /// `f32` of a panel of a block's weights or values.
    long: usize,
    /// Panels of queries.
    panels: usize,
    /// Panels of the values' columns.
    wide: usize,
    /// Panels of all keys.
    keys: usize,
    /// Blocks of keys, and panels of the largest.
    blocks: usize,
    block: usize,
}

impl Sizes {
    fn new(kind: Kind, dims: Dims, rows: usize) -> Self {
        let format = Format(kind);
        let narrow = format.panel_len(dims.head_dim);
        let keys = dims.keys.div_ceil(SIDE);
        // Values take about what keys take.
        let most = (BLOCK / (2 * narrow)).max(4);
        let blocks = keys.div_ceil(most);
        let block = keys.div_ceil(blocks);
        Self {
            narrow,
            long: format.panel_len(block * SIDE),
            panels: rows.div_ceil(SIDE),
            wide: dims.head_dim.div_ceil(SIDE),
            keys,
            blocks,
            block,
        }
    }

    /// Of one panel's queries; a block's keys, values, logits and weights; all
    /// queries' weighted values, largest logits and sums of weights.
    fn lengths(self) -> [usize; 7] {
        [
            self.narrow,
            self.block * self.narrow,
            self.wide * self.long,
            self.block * SUMS,
            self.long,
            self.panels * self.wide * SUMS,
            self.panels * 2 * SIDE,
        ]
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments)]
fn task<E: Engine>(
    engine: E,
    job: Job<'_>,
    sizes: Sizes,
    b: usize,
    h: usize,
    rows: Range<usize>,
    mut out: Rectangle<'_>,
    buffer: &mut [f32],
) {
    let Dims {
        queries,
        keys,
        head_dim,
        ..
    } = job.dims;
    let Sizes {
        narrow,
        long,
        panels,
        wide,
        keys: key_panels,
        blocks,
        ..
    } = sizes;
    let steps = head_dim.div_ceil(E::TERMS);
    let q = job
        .q
        .head(b * queries + rows.start, rows.len(), h, head_dim);
    let k = job.k.head(b * keys, keys, h, head_dim);
    let v = job.v.head(b * keys, keys, h, head_dim);
    let lengths = sizes.lengths();
    let (queries, rest) = buffer.split_at_mut(lengths[0]);
    let (packed_k, rest) = rest.split_at_mut(lengths[1]);
    let (packed_v, rest) = rest.split_at_mut(lengths[2]);
    let (logits, rest) = rest.split_at_mut(lengths[3]);
    let (weights, rest) = rest.split_at_mut(lengths[4]);
    let (sums, rows_state) = rest.split_at_mut(lengths[5]);
    for state in rows_state.chunks_exact_mut(2 * SIDE) {
        state[..SIDE].fill(f32::NEG_INFINITY);
        state[SIDE..].fill(0.0);
    }
    engine.begin();
    for i in 0..blocks {
        let first = key_panels * i / blocks;
        let count = key_panels * (i + 1) / blocks - first;
        let from = first * SIDE;
        let here = (count * SIDE).min(keys - from);
        for (j, out) in packed_k.chunks_exact_mut(narrow).take(count).enumerate() {
            let some = SIDE.min(here - j * SIDE);
            engine.pack_columns(k.part(from + j * SIDE, some, 0, head_dim), out);
        }
        let values = v.part(from, here, 0, head_dim);
        let block = here.div_ceil(E::TERMS);
        let weights = &mut weights[..E::panel(here)];
        for (c, out) in packed_v.chunks_exact_mut(long).enumerate() {
            let cols = SIDE.min(head_dim - c * SIDE);
            let out = &mut out[..E::panel(here)];
            engine.pack_terms(values.part(0, here, c * SIDE, cols), out);
        }
        for p in 0..panels {
            let some = SIDE.min(q.rows - p * SIDE);
            engine.pack_rows(q.part(p * SIDE, some, 0, head_dim), queries);
            let logits = &mut logits[..count * SUMS];
            for (j, logits) in logits.chunks_exact_mut(SUMS).enumerate() {
                let right = &packed_k[j * narrow..(j + 1) * narrow];
                engine.multiply(queries, right, 0..steps, true, &[], logits);
            }
            let state = &mut rows_state[p * 2 * SIDE..(p + 1) * 2 * SIDE];
            let sums = &mut sums[p * wide * SUMS..(p + 1) * wide * SUMS];
            let factors = softmax(engine, logits, here, job.scale, state, weights);
            if i > 0 {
                rescale(engine, sums, &factors);
            }
            for (c, sums) in sums.chunks_exact_mut(SUMS).enumerate() {
                let right = &packed_v[c * long..][..E::panel(here)];
                engine.multiply(weights, right, 0..block, i == 0, &[], sums);
            }
            if i + 1 == blocks {
                for r in 0..some {
                    let norm = 1.0 / state[SIDE + r];
                    for (c, sums) in sums.chunks_exact(SUMS).enumerate() {
                        let cols = SIDE.min(head_dim - c * SIDE);
                        let out = out.row(p * SIDE + r, c * SIDE, cols);
                        for (out, sum) in out.iter_mut().zip(&sums[r * SIDE..]) {
                            *out = sum * norm;
                        }
                    }
                }
            }
        }
    }
    engine.end();
}

/// Turns the logits (32×32 tiles) of `keys` keys into weights, a left panel, and
/// brings each row's largest logit and sum of weights up to date. Gives what the
/// sums of earlier blocks are to be multiplied by.
///
/// The largest is taken off before a logit is scaled: then its own weight is 1 and no
/// other is larger, whatever is rounded. Digits have no room for more than 1.
#[inline(always)]
fn softmax<E: Engine>(
    engine: E,
    logits: &mut [f32],
    keys: usize,
    scale: f32,
    state: &mut [f32],
    weights: &mut [f32],
) -> [f32; SIDE] {
    let (tiles, _) = logits.as_chunks_mut::<SUMS>();
    let (tops, totals) = state.split_at_mut(SIDE);
    let sign = scale.signum();
    // Not 0, by which −∞ would become NaN.
    let unit = match scale == 0.0 {
        true => f32::MIN_POSITIVE,
        false => scale.abs() * std::f32::consts::LOG2_E,
    };
    let mut factors = [0.0; SIDE];
    // SAFETY: an engine proves AVX-512; the loads and stores lie within tiles of
    // 32 rows of 32, and within the arrays.
    unsafe {
        let last = keys % SIDE;
        if last > 0
            && let Some(tile) = tiles.last_mut()
        {
            // What stands for keys that do not exist gets no weight.
            let missing = sign * f32::NEG_INFINITY;
            for row in tile.chunks_exact_mut(SIDE) {
                row[last..].fill(missing);
            }
        }
        let (signs, units) = (_mm512_set1_ps(sign), _mm512_set1_ps(unit));
        let mut best = [_mm512_set1_ps(f32::NEG_INFINITY); SIDE];
        for tile in tiles.iter() {
            for (r, best) in best.iter_mut().enumerate() {
                let a = _mm512_mul_ps(_mm512_loadu_ps(tile.as_ptr().add(r * SIDE)), signs);
                let b = _mm512_mul_ps(_mm512_loadu_ps(tile.as_ptr().add(r * SIDE + 16)), signs);
                *best = _mm512_max_ps(*best, _mm512_max_ps(a, b));
            }
        }
        for r in 0..SIDE {
            let top = _mm512_reduce_max_ps(best[r]).max(tops[r]);
            // Nothing before: 0, whatever the difference to −∞ may be.
            factors[r] = match tops[r] == f32::NEG_INFINITY {
                true => 0.0,
                false => ((tops[r] - top) * unit).exp2(),
            };
            tops[r] = top;
        }
        let mut sums = [_mm512_setzero_ps(); SIDE];
        let steps = weights.chunks_exact_mut(E::STEP);
        for (tiles, step) in tiles.chunks(E::TERMS / SIDE).zip(steps) {
            for (r, sum) in sums.iter_mut().enumerate() {
                let top = _mm512_set1_ps(-tops[r]);
                let mut terms = [_mm512_setzero_ps(); 4];
                for (t, tile) in tiles.iter().enumerate() {
                    let a = _mm512_loadu_ps(tile.as_ptr().add(r * SIDE));
                    let b = _mm512_loadu_ps(tile.as_ptr().add(r * SIDE + 16));
                    let a = exp2(_mm512_mul_ps(_mm512_fmadd_ps(a, signs, top), units));
                    let b = exp2(_mm512_mul_ps(_mm512_fmadd_ps(b, signs, top), units));
                    *sum = _mm512_add_ps(*sum, _mm512_add_ps(a, b));
                    (terms[2 * t], terms[2 * t + 1]) = (a, b);
                }
                engine.put_weights(terms, r, step);
            }
        }
        engine.finish_weights(weights);
        for r in 0..SIDE {
            totals[r] = totals[r] * factors[r] + _mm512_reduce_add_ps(sums[r]);
        }
    }
    factors
}

/// Multiplies the rows of tiles.
#[inline(always)]
fn rescale<E: Engine>(_: E, sums: &mut [f32], factors: &[f32; SIDE]) {
    for tile in sums.chunks_exact_mut(SUMS) {
        for (row, factor) in tile.chunks_exact_mut(SIDE).zip(factors) {
            row.iter_mut().for_each(|sum| *sum *= factor);
        }
    }
}

/// 2ˣ for x ≤ 0, within 2e-7 of it relative to it; below −126 it stays 2⁻¹²⁶,
/// which adds nothing to a sum that holds a 1. The polynomial is a minimax fit of
/// (2ᶠ − 1)/f on |f| ≤ ½ with an error of 2e-8.
#[inline(always)]
unsafe fn exp2(x: __m512) -> __m512 {
    const P: [f32; 6] = [
        std::f32::consts::LN_2,
        0.240_226_48,
        0.055_503_324,
        0.009_618_437,
        0.001_339_887_5,
        0.000_153_533_62,
    ];
    // SAFETY: callers hold an engine, which proves AVX-512.
    unsafe {
        // NaN stays: `max` gives its second operand then.
        let x = _mm512_max_ps(_mm512_set1_ps(-126.0), x);
        let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        let f = _mm512_sub_ps(x, n);
        let mut p = _mm512_set1_ps(P[5]);
        let mut i = 5;
        while i > 0 {
            i -= 1;
            p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(P[i]));
        }
        let p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0));
        _mm512_scalef_ps(p, n)
    }
}
