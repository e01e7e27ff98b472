//! The softmax of logits that lie transposed, a row for each key and a column for each
//! query of a panel: every step is one of whole rows.

use super::Dims;
use crate::lanes::Lanes;
use crate::micro::MicroKernel;

/// What logits are multiplied by for 2ˣ to be taken of them: |scale|·log₂e, not 0, by
/// which −∞ would become NaN.
pub(super) fn unit(scale: f32) -> f32 {
    match scale == 0.0 {
        true => f32::MIN_POSITIVE,
        false => scale.abs() * std::f32::consts::LOG2_E,
    }
}

/// What is known of the columns so far: `COLS` numbers each.
pub(super) struct Columns<'a> {
    /// The largest logit, with the sign of the scale.
    pub(super) tops: &'a mut [f32],
    /// Σ 2^((logit − top)·unit).
    pub(super) totals: &'a mut [f32],
    /// What sums of the keys before are to be multiplied by.
    pub(super) factors: &'a mut [f32],
}

/// Turns the first `keys` rows of logits into weights between 0 and 1 and brings the
/// columns up to date.
///
/// The largest is taken off before a logit is scaled: then its own weight is 1 and no
/// other is larger, whatever is rounded. Digits have no room for more than 1.
#[inline(always)]
pub(super) fn weigh<K: MicroKernel>(
    kernel: K,
    logits: &mut [f32],
    keys: usize,
    scale: f32,
    columns: &mut Columns<'_>,
) {
    let simd = kernel.simd();
    let vectors = K::COLS / 16;
    let unit = unit(scale);
    let (cells, _) = logits[..keys * K::COLS].as_chunks_mut::<16>();
    if scale < 0.0 {
        let minus = simd.splat(-1.0);
        for x in &mut *cells {
            simd.store(simd.mul(simd.load(x), minus), x);
        }
    }
    let (tops, _) = columns.tops.as_chunks_mut::<16>();
    let (totals, _) = columns.totals.as_chunks_mut::<16>();
    let (factors, _) = columns.factors.as_chunks_mut::<16>();
    for v in 0..vectors {
        let before = simd.load(&tops[v]);
        // Two, so that none waits for the one before.
        let (mut even, mut odd) = (before, before);
        let pairs = cells.chunks_exact(2 * vectors);
        for row in pairs.remainder().chunks_exact(vectors) {
            even = simd.max(even, simd.load(&row[v]));
        }
        for pair in pairs {
            even = simd.max(even, simd.load(&pair[v]));
            odd = simd.max(odd, simd.load(&pair[vectors + v]));
        }
        let top = simd.max(even, odd);
        // Where all are −∞ so far, what is taken off is not: −∞ less −∞ is no number.
        let off = simd.max(simd.splat(f32::MIN), top);
        // Nothing before: the least there is, whatever the difference to −∞ may be.
        let none = simd.splat(f32::NEG_INFINITY);
        let units = simd.splat(unit);
        let rest = simd.exp2(simd.mul(simd.sub(before, off), units));
        let factor = simd.if_below(none, before, rest, simd.splat(0.0));
        simd.store(factor, &mut factors[v]);
        simd.store(top, &mut tops[v]);
        let mut sum = simd.splat(0.0);
        for row in cells.chunks_exact_mut(vectors) {
            let x = simd.sub(simd.load(&row[v]), off);
            let weight = simd.exp2(simd.mul(x, units));
            sum = simd.add(sum, weight);
            simd.store(weight, &mut row[v]);
        }
        let total = simd.mul_add(simd.load(&totals[v]), factor, sum);
        simd.store(total, &mut totals[v]);
    }
}

/// Multiplies the columns of tiles by the factors.
#[inline(always)]
pub(super) fn rescale<K: MicroKernel>(kernel: K, sums: &mut [f32], factors: &[f32]) {
    if factors.iter().all(|&f| f == 1.0) {
        return;
    }
    let simd = kernel.simd();
    let (factors, _) = factors[..K::COLS].as_chunks::<16>();
    let (sums, _) = sums.as_chunks_mut::<16>();
    for row in sums.chunks_exact_mut(K::COLS / 16) {
        for (sums, factor) in row.iter_mut().zip(factors) {
            simd.store(simd.mul(simd.load(sums), simd.load(factor)), sums);
        }
    }
}

/// What the backward needs of the softmax: for each head and query the largest logit
/// (with the sign of the scale) and log₂ of the sum of weights that it leaves.
///
/// (B, H, 2, N), of [`Dims`].
pub(super) fn saved(dims: Dims, batch: usize, head: usize) -> [std::ops::Range<usize>; 2] {
    let from = (batch * dims.heads + head) * 2 * dims.queries;
    [
        from..from + dims.queries,
        from + dims.queries..from + 2 * dims.queries,
    ]
}
