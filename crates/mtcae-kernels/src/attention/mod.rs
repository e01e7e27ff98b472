//! Multi-head scaled dot-product attention (Vaswani et al., 2017, arXiv
//! 1706.03762, equation 1): O = softmax(Q·Kᵀ·scale)·V for every head, for self
//! attention (N = M) and cross attention (N×M), with any head dimension.
//!
//! Q, K and V are read where the projections left them: the heads of one token
//! lie side by side in its row, so no transposition or copy is needed, and one
//! row may hold Q, K and V of a packed projection. The N×M matrix never exists, in the
//! forward or in the backward.

mod backward;
mod bias;
mod forward;
mod softmax;
pub mod window;

use self::backward::Given;
pub use self::bias::Bias;
use crate::format::{Format, Kind};
use crate::isa::Isa;
use crate::matrix::{MatRef, extent, size};

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

    /// Numbers that [`forward_with`] saves of the softmax (B, H, 2, N): for each head and
    /// query its largest logit before scaling (times the scale's sign), and
    /// log₂ Σ 2^((logit − largest)·|scale|·log₂e) over the keys.
    pub fn norms(&self) -> usize {
        size([self.batch, self.heads, 2, self.queries])
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

/// Q, K and V of every head.
#[derive(Clone, Copy)]
struct Operands<'a> {
    dims: Dims,
    q: Rows<'a>,
    k: Rows<'a>,
    v: Rows<'a>,
    scale: f32,
    bias: Option<Bias<'a>>,
}

impl<'a> Operands<'a> {
    /// A problem's queries (N, d) of one head.
    fn queries(&self, b: usize, h: usize) -> MatRef<'a> {
        let n = self.dims.queries;
        self.q.head(b * n, n, h, self.dims.head_dim)
    }

    /// Its keys (M, d).
    fn keys(&self, b: usize, h: usize) -> MatRef<'a> {
        let m = self.dims.keys;
        self.k.head(b * m, m, h, self.dims.head_dim)
    }

    /// Its values (M, d).
    fn values(&self, b: usize, h: usize) -> MatRef<'a> {
        let m = self.dims.keys;
        self.v.head(b * m, m, h, self.dims.head_dim)
    }
}

/// out (B, N, H·d) = softmax(Q·Kᵀ·scale)·V per head.
///
/// # Panics
/// When an operand is shorter than `dims` says or a dimension is 0.
pub fn forward(dims: Dims, q: Rows<'_>, k: Rows<'_>, v: Rows<'_>, scale: f32, out: &mut [f32]) {
    forward_with(Isa::best(), dims, q, k, v, scale, out, None);
}

/// [`forward`] with a given instruction set, which saves what [`backward`] needs of the
/// softmax into `norms` ([`Dims::norms`]).
///
/// # Panics
/// As [`forward`], and when `norms` has another length.
#[expect(clippy::too_many_arguments)]
pub fn forward_with(
    isa: Isa,
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    scale: f32,
    out: &mut [f32],
    norms: Option<&mut [f32]>,
) {
    forward_on(Kind::of(isa), dims, [q, k, v], scale, None, out, norms);
}

/// [`forward_with`] of softmax(Q·Kᵀ·scale + bias)·V.
///
/// # Panics
/// As [`forward_with`], and when the bias has not the length that `dims` says or the scale
/// is 0.
#[expect(clippy::too_many_arguments)]
pub fn biased_forward_with(
    isa: Isa,
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    scale: f32,
    bias: Bias<'_>,
    out: &mut [f32],
    norms: Option<&mut [f32]>,
) {
    assert!(scale != 0.0, "attention: a bias needs a scale");
    bias.check(dims);
    forward_on(
        Kind::of(isa),
        dims,
        [q, k, v],
        scale,
        Some(bias),
        out,
        norms,
    );
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
    forward_on(format.0, dims, [q, k, v], scale, None, out, None);
}

fn forward_on(
    kind: Kind,
    dims: Dims,
    [q, k, v]: [Rows<'_>; 3],
    scale: f32,
    bias: Option<Bias<'_>>,
    out: &mut [f32],
    norms: Option<&mut [f32]>,
) {
    check(dims, q, k, v);
    let needed = size([dims.batch, dims.queries, dims.width()]);
    assert_eq!(out.len(), needed, "attention: output length");
    if let Some(norms) = &norms {
        assert_eq!(norms.len(), dims.norms(), "attention: norms");
    }
    let of = Operands {
        dims,
        q,
        k,
        v,
        scale,
        bias,
    };
    forward::forward(kind, of, out, norms);
}

/// The gradients of attention for grad (B, N, H·d): dq (B, N, H·d), and dkv
/// (B, M, 2·H·d) whose rows hold dK and then dV; `out` and `norms` are what
/// [`forward_with`] gave.
///
/// With P = softmax(Q·Kᵀ·scale): dV = Pᵀ·grad, dP = grad·Vᵀ,
/// dS = P∘(dP − rowsum(P∘dP))·scale, dQ = dS·K, dK = dSᵀ·Q, where rowsum(P∘dP) is
/// rowsum(grad∘out).
///
/// # Panics
/// When an operand is shorter than `dims` says, another slice has not the length that it
/// says, or a dimension is 0.
#[expect(clippy::too_many_arguments)]
pub fn backward(
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    out: &[f32],
    norms: &[f32],
    grad: &[f32],
    scale: f32,
    dq: &mut [f32],
    dkv: &mut [f32],
) {
    let isa = Isa::best();
    backward_with(isa, dims, q, k, v, out, norms, grad, scale, dq, dkv);
}

/// [`backward`] with a given instruction set.
#[expect(clippy::too_many_arguments)]
pub fn backward_with(
    isa: Isa,
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    out: &[f32],
    norms: &[f32],
    grad: &[f32],
    scale: f32,
    dq: &mut [f32],
    dkv: &mut [f32],
) {
    let of = Operands {
        dims,
        q,
        k,
        v,
        scale,
        bias: None,
    };
    let given = given(of, out, norms, grad, [dq, dkv]);
    backward::backward(Kind::of(isa), of, given, dq, dkv);
}

/// [`backward_with`] of [`biased_forward_with`], and the gradient of the bias's values:
/// `dbias` (H, M, N), to which it is added.
///
/// # Panics
/// As [`backward_with`] and [`biased_forward_with`].
#[expect(clippy::too_many_arguments)]
pub fn biased_backward_with(
    isa: Isa,
    dims: Dims,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    bias: Bias<'_>,
    out: &[f32],
    norms: &[f32],
    grad: &[f32],
    scale: f32,
    dq: &mut [f32],
    dkv: &mut [f32],
    dbias: &mut [f32],
) {
    assert!(scale != 0.0, "attention: a bias needs a scale");
    bias.check(dims);
    assert_eq!(dbias.len(), bias.values.len(), "attention: dbias length");
    let of = Operands {
        dims,
        q,
        k,
        v,
        scale,
        bias: Some(bias),
    };
    let given = given(of, out, norms, grad, [dq, dkv]);
    backward::biased(Kind::of(isa), of, given, dq, dkv, dbias);
}

/// Checks what a backward is given.
fn given<'a>(
    of: Operands<'_>,
    out: &'a [f32],
    norms: &'a [f32],
    grad: &'a [f32],
    [dq, dkv]: [&[f32]; 2],
) -> Given<'a> {
    let dims = of.dims;
    check(dims, of.q, of.k, of.v);
    let width = dims.width();
    let needed = size([dims.batch, dims.queries, width]);
    assert_eq!(grad.len(), needed, "attention: gradient length");
    assert_eq!(out.len(), needed, "attention: output length");
    assert_eq!(norms.len(), dims.norms(), "attention: norms");
    assert_eq!(dq.len(), needed, "attention: dq length");
    assert_eq!(
        dkv.len(),
        size([dims.batch, dims.keys, 2, width]),
        "attention: dkv length"
    );
    let rows = |data| Rows {
        data,
        stride: width,
    };
    Given {
        out: rows(out),
        norms,
        grad: rows(grad),
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
