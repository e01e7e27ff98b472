//! softmax(Q·Kᵀ/√d)·V of each head.

use candle_core::{Result, Shape, Tensor};
use mtcae_kernels::attention::Dims;

use super::backend::{Fresh, Heads};
use super::kernels;
use super::operation::{Each, Gradients, Operands, Operation, Saved, Slot, apply};
use crate::pass::Way;

/// softmax(Q·Kᵀ/√d)·V per head, from packed rows: (B, N, 3·H·d) → (B, N, H·d).
/// A row holds q, then k, then v, each with its heads side by side.
pub fn self_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let dims = dims("self_attention", batch, heads, tokens, tokens, packed, 3)?;
    attend(dims, qkv.contiguous()?, None)
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
    attend(dims, q.contiguous()?, Some(in_rows(kv)?))
}

/// From packed rows, or from queries and from keys and values.
fn attend(dims: Dims, q: Tensor, kv: Option<Tensor>) -> Result<Tensor> {
    let mut operands = Operands::default();
    let op = Attention {
        dims,
        q: operands.activation(q),
        kv: kv.map(|kv| operands.activation(kv)),
        log_sums: Saved::default(),
    };
    let shape = Shape::from((dims.batch, dims.queries, dims.width()));
    apply(op, operands, &shape, &Way::default())
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

struct Attention {
    dims: Dims,
    /// Packed, or queries alone.
    q: Slot,
    kv: Option<Slot>,
    log_sums: Saved<Option<Tensor>>,
}

impl Attention {
    fn heads<'a>(&self, inputs: &'a Each<Tensor>) -> Heads<'a> {
        match self.kv {
            Some(kv) => Heads::Apart(&inputs[self.q], &inputs[kv]),
            None => Heads::Packed(&inputs[self.q]),
        }
    }
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward(&self, inputs: &Each<Tensor>, save: bool) -> Result<Fresh> {
        let k = kernels::of(self.name(), &inputs[self.q])?;
        let attended = k.attention(self.dims, self.heads(inputs))?;
        if save {
            self.log_sums.keep(attended.log_sums);
        }
        Ok(attended.out)
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let k = kernels::of(self.name(), &inputs[self.q])?;
        let of = self.heads(inputs);
        let log_sums = self
            .log_sums
            .take_or(|| Ok(k.attention(self.dims, of)?.log_sums))?;
        let (dq, dkv) = k.attention_backward(self.dims, of, result, log_sums.as_ref(), grad)?;
        grads.set(self.q, dq);
        if let (Some(kv), Some(dkv)) = (self.kv, dkv) {
            grads.set(kv, dkv);
        }
        Ok(())
    }
}
