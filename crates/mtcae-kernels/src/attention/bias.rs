//! What is added to the logits before the softmax: a number for each head, key and query,
//! the same for every problem; and regions, beyond which tokens attend to nothing.

use crate::lanes::Lanes;
use crate::matrix::size;
use crate::micro::MicroKernel;

use super::Dims;

/// What is added to logits once they are scaled.
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    /// (H, M, N): a number for each head, key and query.
    pub values: &'a [f32],
    /// (W, N), where N = M: a token attends only to those with its own number. Problem b
    /// has row b mod W; none where all attend to all.
    pub regions: &'a [f32],
}

impl HeadBias<'_> {
    /// Whether some tokens attend to some others not at all.
    pub(super) fn masks(&self) -> bool {
        !self.regions.is_empty()
    }
}

impl<'a> Bias<'a> {
    pub(super) fn check(&self, dims: Dims) {
        assert_eq!(
            self.values.len(),
            size([dims.heads, dims.keys, dims.queries]),
            "attention: bias"
        );
        assert!(
            self.regions.is_empty()
                || (dims.keys == dims.queries && self.regions.len().is_multiple_of(dims.queries)),
            "attention: regions"
        );
    }

    /// What problem `b` has of it for head `h`.
    pub(super) fn of(&self, dims: Dims, b: usize, h: usize) -> HeadBias<'a> {
        let one = dims.keys * dims.queries;
        let rows = self.regions.len() / dims.queries;
        let regions = match rows {
            0 => &[],
            _ => &self.regions[b % rows * dims.queries..][..dims.queries],
        };
        HeadBias {
            values: &self.values[h * one..(h + 1) * one],
            // Of one region all attend to all.
            regions: match regions.iter().all(|r| *r == regions[0]) {
                true => &[],
                false => regions,
            },
            queries: dims.queries,
        }
    }
}

/// The bias of one head of one problem.
#[derive(Clone, Copy)]
pub(super) struct HeadBias<'a> {
    /// (M, N).
    values: &'a [f32],
    /// (N), or none.
    regions: &'a [f32],
    queries: usize,
}

/// Numbers of a region that none is.
const NOWHERE: f32 = -1.0;

/// Adds a bias to logits that are not scaled yet, a row for each of `keys` keys from the
/// `key`th on, for `some` queries from `query` on.
#[inline(always)]
#[expect(clippy::too_many_arguments)]
pub(super) fn add<K: MicroKernel>(
    kernel: K,
    bias: HeadBias<'_>,
    logits: &mut [f32],
    key: usize,
    keys: usize,
    query: usize,
    some: usize,
    scale: f32,
) {
    let simd = kernel.simd();
    let unit = simd.splat(1.0 / scale);
    let none = simd.splat(f32::NEG_INFINITY * scale.signum());
    let half = simd.splat(0.5);
    let rows = logits.chunks_exact_mut(K::COLS).take(keys);
    for (r, row) in rows.enumerate() {
        let values = &bias.values[(key + r) * bias.queries + query..][..some];
        let here = bias.regions.get(key + r).map(|r| simd.splat(*r));
        let (row, _) = row.as_chunks_mut::<16>();
        for (v, row) in row.iter_mut().enumerate() {
            let lanes = v * 16..(v * 16 + 16).min(some);
            if lanes.is_empty() {
                break;
            }
            let mut x = simd.load(row);
            x = simd.mul_add(lanes_of(simd, &values[lanes.clone()], 0.0), unit, x);
            if let Some(here) = here {
                let regions = &bias.regions[query + lanes.start..query + lanes.end];
                // Beyond the queries nothing is kept: any number will do.
                let apart = simd.sub(lanes_of(simd, regions, NOWHERE), here);
                x = simd.if_below(half, simd.mul(apart, apart), none, x);
            }
            simd.store(x, row);
        }
    }
}

/// What weights may be without a trace in a sum that holds a 1: numbers as small as those
/// that 2ˣ leaves of −∞ have products below the normal ones, which take a CPU a hundred
/// times as long.
const NOTHING: f32 = 1e-30;

/// Sets weights of nothing to 0, and `others` at their places.
#[inline(always)]
pub(super) fn settle<K: MicroKernel>(
    kernel: K,
    weights: &mut [f32],
    others: &mut [f32],
    keys: usize,
) {
    let simd = kernel.simd();
    let (nothing, zero) = (simd.splat(NOTHING), simd.splat(0.0));
    let (weights, _) = weights[..keys * K::COLS].as_chunks_mut::<16>();
    let (others, _) = others.as_chunks_mut::<16>();
    for (i, cells) in weights.iter_mut().enumerate() {
        let weight = simd.load(cells);
        if let Some(other) = others.get_mut(i) {
            simd.store(
                simd.if_below(weight, nothing, zero, simd.load(other)),
                other,
            );
        }
        simd.store(simd.if_below(weight, nothing, zero, weight), cells);
    }
}

/// Sixteen numbers, of which there may be fewer.
#[inline(always)]
fn lanes_of<L: Lanes>(simd: L, some: &[f32], rest: f32) -> L::F {
    match some.first_chunk::<16>() {
        Some(all) => simd.load(all),
        None => {
            let mut all = [rest; 16];
            all[..some.len()].copy_from_slice(some);
            simd.load(&all)
        }
    }
}

/// Adds dS, a row for each of `keys` keys, to the gradient (M, N) of a head's bias.
#[inline(always)]
#[expect(clippy::too_many_arguments)]
pub(super) fn collect<K: MicroKernel>(
    kernel: K,
    ds: &[f32],
    key: usize,
    keys: usize,
    query: usize,
    some: usize,
    queries: usize,
    scale: f32,
    sums: &mut [f32],
) {
    let simd = kernel.simd();
    let unit = 1.0 / scale;
    let units = simd.splat(unit);
    for (r, row) in ds.chunks_exact(K::COLS).enumerate().take(keys) {
        let sums = &mut sums[(key + r) * queries + query..][..some];
        let ((row, last), (sums, rest)) =
            (row[..some].as_chunks::<16>(), sums.as_chunks_mut::<16>());
        for (row, sums) in row.iter().zip(sums) {
            simd.store(simd.mul_add(simd.load(row), units, simd.load(sums)), sums);
        }
        for (row, sum) in last.iter().zip(rest) {
            *sum += row * unit;
        }
    }
}
