//! LayerNorm on `mtcae_kernels::layer_norm`.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use mtcae_kernels::layer_norm;

#[cfg(feature = "cuda")]
use super::cuda;
use super::slice;

/// LayerNorm of x (…, D) with γ and β (D) → (…, D). On a GPU γ and β are `f32`
/// whatever the type of x.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || gamma.dims() != [width] || beta.dims() != [width] {
        candle_core::bail!(
            "layer_norm: x {:?} needs gamma and beta of shape [{width}], not {:?} and {:?}",
            x.dims(),
            gamma.dims(),
            beta.dims()
        );
    }
    let op = LayerNorm { eps: eps as f32 };
    x.contiguous()?
        .apply_op3(&gamma.contiguous()?, &beta.contiguous()?, op)
}

/// x + branch, and its LayerNorm, for x and branch (…, D). No gradient passes: for
/// inference. On a GPU both come of one pass.
pub fn residual_layer_norm(
    x: &Tensor,
    branch: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() && x.dims() == branch.dims() && x.dtype() == branch.dtype() {
        let (x, branch) = (x.contiguous()?.detach(), branch.contiguous()?.detach());
        let width = x.dims().last().copied().unwrap_or(0);
        if gamma.dims() == [width] && beta.dims() == [width] && x.elem_count() > 0 {
            let both = cuda::residual_layer_norm(&x, &branch, gamma, beta, eps as f32)?;
            return Ok((both.get(0)?, both.get(1)?));
        }
    }
    let sum = (x + branch)?;
    let normed = layer_norm(&sum, gamma, beta, eps)?;
    Ok((sum, normed))
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), x, lx)?;
        let (gamma, beta) = (
            slice(self.name(), gamma, lg)?,
            slice(self.name(), beta, lb)?,
        );
        let mut out = vec![0.0; x.len()];
        layer_norm::forward(x, gamma, beta, self.eps, &mut out);
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        gamma: &candle_core::CudaStorage,
        lg: &Layout,
        beta: &candle_core::CudaStorage,
        lb: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::layer_norm_forward((x, lx), (gamma, lg), (beta, lb), self.eps)
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _beta: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let grads = cuda::layer_norm_backward(x, gamma, &grad.contiguous()?, self.eps)?;
            let [dx, dgamma, dbeta] = grads.map(Some);
            return Ok((dx, dgamma, dbeta));
        }
        let op = LayerNormBackward { eps: self.eps };
        let packed = x.apply_op3_no_bwd(gamma, &grad.contiguous()?, &op)?;
        let (n, d) = (x.elem_count(), gamma.elem_count());
        Ok((
            Some(packed.narrow(0, 0, n)?.reshape(x.shape())?),
            Some(packed.narrow(0, n, d)?),
            Some(packed.narrow(0, n + d, d)?),
        ))
    }
}

/// (dx ‖ dγ ‖ dβ) as one flat tensor.
struct LayerNormBackward {
    eps: f32,
}

impl CustomOp3 for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer-norm-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        grad: &CpuStorage,
        lgrad: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), x, lx)?;
        let (gamma, grad) = (
            slice(self.name(), gamma, lg)?,
            slice(self.name(), grad, lgrad)?,
        );
        let mut packed = vec![0.0; x.len() + 2 * gamma.len()];
        let (dx, params) = packed.split_at_mut(x.len());
        let (dgamma, dbeta) = params.split_at_mut(gamma.len());
        layer_norm::backward(x, gamma, grad, self.eps, dx, dgamma, dbeta);
        let shape = Shape::from(packed.len());
        Ok((CpuStorage::F32(packed), shape))
    }
}
