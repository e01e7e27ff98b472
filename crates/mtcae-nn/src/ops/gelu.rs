//! GELU (erf form) on `mtcae_kernels::gelu`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use mtcae_kernels::gelu;

use super::slice;

/// x·Φ(x), element by element; any shape.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
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

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
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
