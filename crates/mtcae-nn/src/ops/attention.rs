//! Self and cross attention on `mtcae_kernels::attention`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use mtcae_kernels::attention::{Dims, Rows, backward, forward};

#[cfg(feature = "cuda")]
use super::cuda;
use super::slice;

/// softmax(Q·Kᵀ/√d)·V per head, from packed rows: (B, N, 3·H·d) → (B, N, H·d).
/// A row holds q, then k, then v, each with its heads side by side.
pub fn self_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let dims = dims("self_attention", batch, heads, tokens, tokens, packed, 3)?;
    qkv.contiguous()?.apply_op1(SelfAttention::new(dims))
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
    #[cfg(feature = "cuda")]
    if kv.device().is_cuda() && cuda::is_rows(kv.layout()) {
        // Keys and values may be columns of a wider product.
        return q.contiguous()?.apply_op2(kv, CrossAttention::new(dims));
    }
    q.contiguous()?
        .apply_op2(&kv.contiguous()?, CrossAttention::new(dims))
}

/// Sizes from `packed` channels that hold `parts` of H·d.
fn dims(
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

/// Part `index` of rows that hold `parts` of H·d.
pub(super) fn part(data: &[f32], dims: Dims, parts: usize, index: usize) -> Rows<'_> {
    Rows::columns(data, parts * dims.width(), index * dims.width())
}

struct SelfAttention {
    dims: Dims,
    #[cfg(feature = "cuda")]
    log_sums: cuda::LogSums,
}

impl SelfAttention {
    fn new(dims: Dims) -> Self {
        Self {
            dims,
            #[cfg(feature = "cuda")]
            log_sums: cuda::LogSums::default(),
        }
    }
}

impl CustomOp1 for SelfAttention {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (qkv, d) = (slice(self.name(), qkv, layout)?, self.dims);
        let [q, k, v] = [0, 1, 2].map(|i| part(qkv, d, 3, i));
        let mut out = vec![0.0; d.batch * d.queries * d.width()];
        forward(d, q, k, v, scale(d), &mut out);
        Ok((
            CpuStorage::F32(out),
            Shape::from((d.batch, d.queries, d.width())),
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        qkv: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::self_forward(self.dims, qkv, layout, &self.log_sums)
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if qkv.device().is_cuda() {
            let grad = grad.contiguous()?;
            return cuda::self_backward(self.dims, qkv, _out, &grad, &self.log_sums).map(Some);
        }
        let op = SelfAttentionBackward { dims: self.dims };
        qkv.apply_op2_no_bwd(&grad.contiguous()?, &op).map(Some)
    }
}

struct SelfAttentionBackward {
    dims: Dims,
}

impl CustomOp2 for SelfAttentionBackward {
    fn name(&self) -> &'static str {
        "self-attention-backward"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        lq: &Layout,
        grad: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (qkv, grad, d) = (
            slice(self.name(), qkv, lq)?,
            slice(self.name(), grad, lg)?,
            self.dims,
        );
        let [q, k, v] = [0, 1, 2].map(|i| part(qkv, d, 3, i));
        let width = d.width();
        let (mut dq, mut dkv) = (vec![0.0; grad.len()], vec![0.0; 2 * grad.len()]);
        backward(d, q, k, v, grad, scale(d), &mut dq, &mut dkv);
        let mut packed = Vec::with_capacity(qkv.len());
        for (dq, dkv) in dq.chunks_exact(width).zip(dkv.chunks_exact(2 * width)) {
            packed.extend_from_slice(dq);
            packed.extend_from_slice(dkv);
        }
        Ok((CpuStorage::F32(packed), lq.shape().clone()))
    }
}

struct CrossAttention {
    dims: Dims,
    #[cfg(feature = "cuda")]
    log_sums: cuda::LogSums,
}

impl CrossAttention {
    fn new(dims: Dims) -> Self {
        Self {
            dims,
            #[cfg(feature = "cuda")]
            log_sums: cuda::LogSums::default(),
        }
    }
}

impl CustomOp2 for CrossAttention {
    fn name(&self) -> &'static str {
        "cross-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        kv: &CpuStorage,
        lkv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, kv, d) = (
            slice(self.name(), q, lq)?,
            slice(self.name(), kv, lkv)?,
            self.dims,
        );
        let mut out = vec![0.0; q.len()];
        forward(
            d,
            part(q, d, 1, 0),
            part(kv, d, 2, 0),
            part(kv, d, 2, 1),
            scale(d),
            &mut out,
        );
        Ok((CpuStorage::F32(out), lq.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        q: &candle_core::CudaStorage,
        lq: &Layout,
        kv: &candle_core::CudaStorage,
        lkv: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::cross_forward(self.dims, (q, lq), (kv, lkv), &self.log_sums)
    }

    fn bwd(
        &self,
        q: &Tensor,
        kv: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if q.device().is_cuda() {
            let grad = grad.contiguous()?;
            let (dq, dkv) = cuda::cross_backward(self.dims, q, kv, _out, &grad, &self.log_sums)?;
            return Ok((Some(dq), Some(dkv)));
        }
        let op = CrossAttentionBackward { dims: self.dims };
        let packed = q.apply_op3_no_bwd(kv, &grad.contiguous()?, &op)?;
        let (n, m) = (q.elem_count(), kv.elem_count());
        Ok((
            Some(packed.narrow(0, 0, n)?.reshape(q.shape())?),
            Some(packed.narrow(0, n, m)?.reshape(kv.shape())?),
        ))
    }
}

/// (dQ ‖ dK‖dV) as one flat tensor.
struct CrossAttentionBackward {
    dims: Dims,
}

impl CustomOp3 for CrossAttentionBackward {
    fn name(&self) -> &'static str {
        "cross-attention-backward"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        kv: &CpuStorage,
        lkv: &Layout,
        grad: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, kv, d) = (
            slice(self.name(), q, lq)?,
            slice(self.name(), kv, lkv)?,
            self.dims,
        );
        let grad = slice(self.name(), grad, lg)?;
        let mut packed = vec![0.0; q.len() + kv.len()];
        let (dq, dkv) = packed.split_at_mut(q.len());
        backward(
            d,
            part(q, d, 1, 0),
            part(kv, d, 2, 0),
            part(kv, d, 2, 1),
            grad,
            scale(d),
            dq,
            dkv,
        );
        let shape = Shape::from(packed.len());
        Ok((CpuStorage::F32(packed), shape))
    }
}
