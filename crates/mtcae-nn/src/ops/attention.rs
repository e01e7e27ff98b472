//! softmax(Q·Kᵀ/√d)·V of each head.

use candle_core::{Result, Shape, Tensor};
use mtcae_kernels::attention::Dims;

use super::backend::{self, Fresh, Heads};
use super::operation::{Operation, Saved, apply};
use crate::pass::Way;

/// softmax(Q·Kᵀ/√d)·V per head, from packed rows: (B, N, 3·H·d) → (B, N, H·d).
/// A row holds q, then k, then v, each with its heads side by side.
pub fn self_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let dims = dims("self_attention", batch, heads, tokens, tokens, packed, 3)?;
    attend(dims, &[&qkv.contiguous()?])
}

/// softmax(Q·Kᵀ/√d)·V per head: queries (B, N, H·d), packed keys and values
/// (B, M, 2·H·d) → (B, N, H·d). A row of the latter holds k, then v.
pub fn cross_attention(q: &Tensor, kv: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let (kv_batch, keys, packed) = kv.dims3()?;
    if kv_batch != batch || packed != 2 * width {
        candle_core::bail!(
            "cross_attention: queries {:?} need keys and values ({batch}, M, {}), not {:?}",
            q.dims(),
            2 * width,
            kv.dims()
        );
    }
    let dims = dims("cross_attention", batch, heads, queries, keys, packed, 2)?;
    attend(dims, &[&q.contiguous()?, &in_rows(kv)?])
}

fn attend(dims: Dims, operands: &[&Tensor]) -> Result<Tensor> {
    let op = Attention {
        dims,
        log_sums: Saved::default(),
    };
    let shape = Shape::from((dims.batch, dims.queries, dims.width()));
    apply(op, operands, &[], &shape, &Way::default())
}

/// Keys and values as the kernels read them: on a GPU they may be columns of a wider
/// product.
pub(super) fn in_rows(kv: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if kv.device().is_cuda() && super::cuda::is_rows(kv.layout()) {
        return Ok(kv.clone());
    }
    kv.contiguous()
}

/// Sizes from `packed` channels that hold `parts` of H·d.
pub(super) fn dims(
    op: &str,
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    packed: usize,
    parts: usize,
) -> Result<Dims> {
    if heads == 0 || packed == 0 || !packed.is_multiple_of(parts * heads) {
        candle_core::bail!("{op}: {packed} channels are not {parts} × {heads} heads of equal size");
    }
    if batch == 0 || queries == 0 || keys == 0 {
        candle_core::bail!(
            "{op}: an operand is empty ({batch} problems of {queries}×{keys} tokens)"
        );
    }
    Ok(Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim: packed / (parts * heads),
    })
}

/// 1/√d (Vaswani et al., 2017).
pub(crate) fn scale(dims: Dims) -> f32 {
    (1.0 / (dims.head_dim as f64).sqrt()) as f32
}

struct Attention {
    dims: Dims,
    log_sums: Saved<Option<Tensor>>,
}

fn heads(inputs: &[Tensor]) -> Heads<'_> {
    match inputs {
        [q, kv, ..] => Heads::Apart(q, kv),
        _ => Heads::Packed(&inputs[0]),
    }
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward(&self, inputs: &[Tensor], save: bool) -> Result<Fresh> {
        let k = backend::of(self.name(), &inputs[0])?;
        let attended = k.attention(self.dims, heads(inputs))?;
        if save {
            self.log_sums.keep(attended.log_sums);
        }
        Ok(attended.out)
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        _: &[bool],
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let k = backend::of(self.name(), &inputs[0])?;
        let of = heads(inputs);
        let log_sums = self
            .log_sums
            .take_or(|| Ok(k.attention(self.dims, of)?.log_sums))?;
        let (dq, dkv) = k.attention_backward(self.dims, of, result, log_sums.as_ref(), grad)?;
        Ok([Some(dq), dkv].into_iter().take(inputs.len()).collect())
    }
}
