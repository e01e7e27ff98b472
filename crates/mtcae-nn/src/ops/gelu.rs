//! GELU (erf form) on `mtcae_kernels::gelu`, with the bias before it or without.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use mtcae_kernels::gelu;

#[cfg(feature = "cuda")]
use super::cuda;
use super::slice;

/// x·Φ(x), element by element; any shape.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

/// gelu(x + b) for x (…, D) and b (D): what a linear layer without its bias is
/// followed by. On a GPU it is one pass; elsewhere the sum and [`gelu`].
pub(crate) fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if x.dims().last() != Some(&bias.elem_count()) || bias.rank() != 1 || x.elem_count() == 0 {
        candle_core::bail!("bias_gelu: x {:?} and bias {:?}", x.dims(), bias.dims());
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return x.contiguous()?.apply_op2(&bias.contiguous()?, BiasGelu);
    }
    gelu(&x.broadcast_add(bias)?)
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), x, layout)?;
        let mut out = vec![0.0; x.len()];
        gelu::forward(x, &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::gelu_forward(x, layout, None)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::gelu_backward(x, None, &grad.contiguous()?).map(|(dx, _)| Some(dx));
        }
        x.apply_op2_no_bwd(&grad.contiguous()?, &GeluBackward)
            .map(Some)
    }
}

struct GeluBackward;

impl CustomOp2 for GeluBackward {
    fn name(&self) -> &'static str {
        "gelu-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        grad: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, grad) = (slice(self.name(), x, lx)?, slice(self.name(), grad, lg)?);
        let mut dx = vec![0.0; x.len()];
        gelu::backward(x, grad, &mut dx);
        Ok((CpuStorage::F32(dx), lx.shape().clone()))
    }
}

/// [`bias_gelu`] on a GPU.
#[cfg(feature = "cuda")]
struct BiasGelu;

#[cfg(feature = "cuda")]
impl CustomOp2 for BiasGelu {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("bias_gelu: this half is the GPU's")
    }

    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        bias: &candle_core::CudaStorage,
        lb: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::gelu_forward(x, lx, Some((bias, lb)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, db) = cuda::gelu_backward(x, Some(bias), &grad.contiguous()?)?;
        Ok((Some(dx), db))
    }
}
