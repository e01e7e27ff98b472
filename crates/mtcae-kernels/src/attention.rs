//! Multi-head scaled dot-product attention (Vaswani et al., 2017, arXiv
//! 1706.03762, equation 1): O = softmax(Q·Kᵀ·scale)·V for every head, for self
//! attention (N = M) and cross attention (N×M), with any head dimension.
//!
//! Q, K and V are read where the projections left them: the heads of one token
//! lie side by side in its row, so no transposition or copy is needed, and one
//! row may hold Q, K and V of a packed projection. Head by head, keys and values
//! are packed for the matrix product once, and queries are worked on in blocks
//! of 128 rows: a block's logits (128×M) stay in the second-level cache. The N×M
//! matrix never exists in the forward; the backward keeps that of one head.

#[cfg(target_arch = "x86_64")]
mod tiles;

use rayon::prelude::*;

use crate::format::{Format, Kind};
use crate::isa::{Isa, dispatch};
use crate::math::{exp, max, sum};
use crate::matrix::{MatMut, MatRef, extent, size};
use crate::product::{Finish, Initial, pack, packed_len, product_packed, product_with};
use crate::scratch;

/// Query rows in a block.
const BLOCK: usize = 128;

/// The size of an attention problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// B: problems in the batch.
    pub batch: usize,
    /// H: heads.
    pub heads: usize,
    /// N: query tokens of each problem.
    pub queries: usize,
    /// M: key and value tokens of each problem.
    pub keys: usize,
    /// d: channels of one head.
    pub head_dim: usize,
}

impl Dims {
    /// H·d, the width of a token over all heads; more than any slice holds where that
    /// is no number.
    pub fn width(&self) -> usize {
        size([self.heads, self.head_dim])
    }

    /// 1/√d (Vaswani et al., 2017).
    pub fn scale(&self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }
}

/// A (tokens, H·d) operand inside rows that may hold more than it: head h of
/// token t starts at `data[t * stride + h * head_dim]`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The elements, from the first token's first head on.
    pub data: &'a [f32],
    /// Elements from one token to the next.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Columns `from..` of rows of `stride` elements.
    ///
    /// # Panics
    /// When `from` is past the end of `data`.
    pub fn columns(data: &'a [f32], stride: usize, from: usize) -> Self {
        Self {
            data: &data[from..],
            stride,
        }
    }

    /// `count` tokens from `first` on, of one head.
    fn head(&self, first: usize, count: usize, head: usize, head_dim: usize) -> MatRef<'a> {
        MatRef::new(
            &self.data[first * self.stride + head * head_dim..],
            count,
            head_dim,
            self.stride,
        )
    }

    fn check(&self, tokens: usize, width: usize, what: &str) {
        assert!(
            self.stride >= width,
            "attention: {what} rows of {} hold no {width} channels",
            self.stride
        );
        let needed = extent(tokens, width, self.stride);
        assert!(
            self.data.len() >= needed,
            "attention: {what} needs {needed} elements, not {}",
            self.data.len()
        );
    }
}

/// out (B, N, H·d) = softmax(Q·Kᵀ·scale)·V per head.
///
/// # Panics
/// When an operand is shorter than `dims` says or a dimension is 0.
pub fn forward(dims: Dims, q: Rows<'_>, k: Rows<'_>, v: Rows<'_>, scale: f32, out: &mut [f32]) {
    forward_with(Isa::best(), dims, q, k, v, scale, out);
}

/// [`forward`] with a given instruction set.
pub fn forward_with(
    isa: Isa,
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    scale: f32,
    out: &mut [f32],
) {
    check(dims, q, k, v);
    let Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim,
    } = dims;
    let width = dims.width();
    assert_eq!(
        out.len(),
        size([batch, queries, width]),
        "attention: output length"
    );
    for (b, out) in out.chunks_exact_mut(queries * width).enumerate() {
        for h in 0..heads {
            let (k, v) = (
                k.head(b * keys, keys, h, head_dim),
                v.head(b * keys, keys, h, head_dim),
            );
            with_packed(isa, [k.t(), v], |[k, v]| {
                out.par_chunks_mut(BLOCK * width)
                    .enumerate()
                    .for_each(|(i, out)| {
                        let rows = out.len() / width;
                        let q = q.head(b * queries + i * BLOCK, rows, h, head_dim);
                        let out = &mut out[h * head_dim..];
                        forward_block(isa, q, k, v, scale, keys, out, width);
                    });
            });
        }
    }
}

/// [`forward`] of inference, multiplying in a given format. Sums, logits and
/// weights before they are multiplied are `f32`.
///
/// # Panics
/// As [`forward`].
pub fn forward_in(
    format: Format,
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    scale: f32,
    out: &mut [f32],
) {
    match format.0 {
        Kind::Plain(isa) => forward_with(isa, dims, q, k, v, scale, out),
        #[cfg(target_arch = "x86_64")]
        kind => {
            check(dims, q, k, v);
            let needed = size([dims.batch, dims.queries, dims.width()]);
            assert_eq!(out.len(), needed, "attention: output length");
            tiles::forward(kind, dims, q, k, v, scale, out);
        }
    }
}

/// A block of one head's queries, against its packed keys and values.
#[expect(clippy::too_many_arguments)]
fn forward_block(
    isa: Isa,
    q: MatRef<'_>,
    k: &[f32],
    v: &[f32],
    scale: f32,
    keys: usize,
    out: &mut [f32],
    width: usize,
) {
    let (rows, head_dim) = (q.rows, q.cols);
    scratch::with(rows * keys, |logits| {
        let into = MatMut::new(logits, rows, keys, keys);
        product_packed(isa, q, k, scale, Initial::Zero, Finish::None, into, false);
        let mut norms = [0.0; BLOCK];
        let totals = &mut norms[..rows];
        let cells = &mut *logits;
        dispatch!(isa, exponentiate(cells: &mut [f32], keys: usize, totals: &mut [f32]));
        let weights = MatRef::new(logits, rows, keys, keys);
        let into = MatMut::new(out, rows, head_dim, width);
        product_packed(
            isa,
            weights,
            v,
            1.0,
            Initial::Zero,
            Finish::None,
            into,
            false,
        );
        for (row, total) in out.chunks_mut(width).zip(totals) {
            row[..head_dim].iter_mut().for_each(|o| *o /= *total);
        }
    });
}

/// Packs right operands for `f`.
fn with_packed<const N: usize, R>(
    isa: Isa,
    operands: [MatRef<'_>; N],
    f: impl FnOnce([&[f32]; N]) -> R,
) -> R {
    let lengths = operands.map(|m| packed_len(isa, m.rows, m.cols).next_multiple_of(16));
    scratch::with(lengths.iter().sum(), |mut buffer| {
        let mut packed: [&[f32]; N] = [&[]; N];
        for i in 0..N {
            let (now, rest) = buffer.split_at_mut(lengths[i]);
            buffer = rest;
            let now = &mut now[..packed_len(isa, operands[i].rows, operands[i].cols)];
            pack(isa, operands[i], now, true);
            packed[i] = now;
        }
        f(packed)
    })
}

/// The gradients of attention for grad (B, N, H·d): dq (B, N, H·d), and dkv
/// (B, M, 2·H·d) whose rows hold dK and then dV.
///
/// With P = softmax(Q·Kᵀ·scale): dV = Pᵀ·grad, dP = grad·Vᵀ,
/// dS = P∘(dP − rowsum(P∘dP))·scale, dQ = dS·K, dK = dSᵀ·Q. P is computed again,
/// block by block, from the same operands as in the forward.
///
/// # Panics
/// When an operand is shorter than `dims` says or a dimension is 0.
#[expect(clippy::too_many_arguments)]
pub fn backward(
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    grad: &[f32],
    scale: f32,
    dq: &mut [f32],
    dkv: &mut [f32],
) {
    backward_with(Isa::best(), dims, q, k, v, grad, scale, dq, dkv);
}

/// [`backward`] with a given instruction set.
#[expect(clippy::too_many_arguments)]
pub fn backward_with(
    isa: Isa,
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    grad: &[f32],
    scale: f32,
    dq: &mut [f32],
    dkv: &mut [f32],
) {
    check(dims, q, k, v);
    let Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim,
    } = dims;
    let width = dims.width();
    assert_eq!(
        grad.len(),
        size([batch, queries, width]),
        "attention: gradient length"
    );
    assert_eq!(dq.len(), grad.len(), "attention: dq length");
    assert_eq!(
        dkv.len(),
        size([batch, keys, 2, width]),
        "attention: dkv length"
    );

    let grad = Rows {
        data: grad,
        stride: width,
    };
    let problems = dq
        .chunks_exact_mut(queries * width)
        .zip(dkv.chunks_exact_mut(keys * 2 * width));
    for (b, (dq, dkv)) in problems.enumerate() {
        for h in 0..heads {
            let operands = Head {
                q: q.head(b * queries, queries, h, head_dim),
                k: k.head(b * keys, keys, h, head_dim),
                v: v.head(b * keys, keys, h, head_dim),
                grad: grad.head(b * queries, queries, h, head_dim),
            };
            let column = h * head_dim;
            backward_head(
                isa,
                operands,
                scale,
                &mut dq[column..],
                &mut dkv[column..],
                width,
            );
        }
    }
}

/// The operands of one head of one problem.
#[derive(Clone, Copy)]
struct Head<'a> {
    q: MatRef<'a>,
    k: MatRef<'a>,
    v: MatRef<'a>,
    grad: MatRef<'a>,
}

/// All gradients of one head. P and dS of the head exist for this long: dV and dK
/// are products with their transposes, over blocks of keys, and so need no sums
/// of parts.
fn backward_head(
    isa: Isa,
    Head { q, k, v, grad }: Head<'_>,
    scale: f32,
    dq: &mut [f32],
    dkv: &mut [f32],
    width: usize,
) {
    let (queries, keys, head_dim) = (q.rows, k.rows, q.cols);
    let cells = size([queries, keys]);
    scratch::with(size([2, cells]), |buffer| {
        let (p, ds) = buffer.split_at_mut(cells);
        with_packed(isa, [k.t(), v.t(), k], |[k_t, v_t, k]| {
            p.par_chunks_mut(BLOCK * keys)
                .zip(ds.par_chunks_mut(BLOCK * keys))
                .zip(dq.par_chunks_mut(BLOCK * width))
                .enumerate()
                .for_each(|(i, ((p, ds), dq))| {
                    let rows = p.len() / keys;
                    let q = q.part(i * BLOCK, rows, 0, head_dim);
                    let grad = grad.part(i * BLOCK, rows, 0, head_dim);
                    let into = MatMut::new(p, rows, keys, keys);
                    product_packed(isa, q, k_t, scale, Initial::Zero, Finish::None, into, false);
                    let into = MatMut::new(ds, rows, keys, keys);
                    product_packed(isa, grad, v_t, 1.0, Initial::Zero, Finish::None, into, false);
                    let dp = &mut *ds;
                    dispatch!(isa, softmax_backward(p: &mut [f32], dp: &mut [f32], keys: usize, scale: f32));
                    let ds = MatRef::new(ds, rows, keys, keys);
                    let into = MatMut::new(dq, rows, head_dim, width);
                    product_packed(isa, ds, k, 1.0, Initial::Zero, Finish::None, into, false);
                });
        });
        let (p, ds) = (
            MatRef::new(p, queries, keys, keys),
            MatRef::new(ds, queries, keys, keys),
        );
        let into = MatMut::new(dkv, keys, head_dim, 2 * width);
        product_with(isa, ds.t(), q, 1.0, Initial::Zero, into);
        let into = MatMut::new(&mut dkv[width..], keys, head_dim, 2 * width);
        product_with(isa, p.t(), grad, 1.0, Initial::Zero, into);
    });
}

/// Turns each row of logits into exp(logit − max of the row), and gives the sums.
#[inline(always)]
fn exponentiate<const FMA: bool>(logits: &mut [f32], keys: usize, totals: &mut [f32]) {
    for (row, total) in logits.chunks_exact_mut(keys).zip(totals) {
        let top = max::<FMA>(row);
        for x in row.iter_mut() {
            *x = exp::<FMA>(*x - top);
        }
        *total = sum(keys, |i| row[i]);
    }
}

/// Turns logits into P, and dP into dS = P∘(dP − rowsum(P∘dP))·scale.
#[inline(always)]
fn softmax_backward<const FMA: bool>(p: &mut [f32], dp: &mut [f32], keys: usize, scale: f32) {
    for (p, dp) in p.chunks_exact_mut(keys).zip(dp.chunks_exact_mut(keys)) {
        let top = max::<FMA>(p);
        for p in p.iter_mut() {
            *p = exp::<FMA>(*p - top);
        }
        let norm = 1.0 / sum(keys, |i| p[i]);
        for p in p.iter_mut() {
            *p *= norm;
        }
        let dot = sum(keys, |i| p[i] * dp[i]);
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = *p * (*dp - dot) * scale;
        }
    }
}

fn check(dims: Dims, q: Rows<'_>, k: Rows<'_>, v: Rows<'_>) {
    let Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim,
    } = dims;
    assert!(
        batch > 0 && heads > 0 && queries > 0 && keys > 0 && head_dim > 0,
        "attention: every dimension must be at least 1: {dims:?}"
    );
    let (width, memory) = (dims.width(), size([batch, keys]));
    q.check(size([batch, queries]), width, "q");
    k.check(memory, width, "k");
    v.check(memory, width, "v");
}

/// The readable twin in f64 that defines the kernel.
pub mod reference {
    use super::Dims;

    /// Attention of q (B, N, H·d), k and v (B, M, H·d), as [`super::forward`].
    pub fn forward(dims: Dims, q: &[f64], k: &[f64], v: &[f64], scale: f64) -> Vec<f64> {
        let Dims {
            batch,
            heads,
            queries,
            keys,
            head_dim,
        } = dims;
        let width = dims.width();
        let mut out = vec![0.0; batch * queries * width];
        for b in 0..batch {
            for h in 0..heads {
                for n in 0..queries {
                    let row = |x: usize, tokens: usize| (b * tokens + x) * width + h * head_dim;
                    let logits: Vec<f64> = (0..keys)
                        .map(|m| {
                            let dot: f64 = (0..head_dim)
                                .map(|c| q[row(n, queries) + c] * k[row(m, keys) + c])
                                .sum();
                            dot * scale
                        })
                        .collect();
                    let top = logits.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                    let weights: Vec<f64> = logits.iter().map(|l| (l - top).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for (m, weight) in weights.iter().enumerate() {
                        for c in 0..head_dim {
                            out[row(n, queries) + c] += weight / total * v[row(m, keys) + c];
                        }
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
