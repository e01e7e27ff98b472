//! LayerNorm over the last dimension.

use candle_core::{DType, Result, Tensor};

use super::backend::{self, Fresh, Norm};
use super::operation::{Operation, apply};
use crate::pass::Way;

/// LayerNorm of x (…, D) with γ and β (D) of `f32` → (…, D).
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    check("layer_norm", width, gamma, beta)?;
    let op = LayerNorm { eps: eps as f32 };
    let (x, gamma, beta) = (x.contiguous()?, gamma.contiguous()?, beta.contiguous()?);
    apply(op, &[&x], &[&gamma, &beta], x.shape(), &Way::default())
}

/// Refuses γ and β that are not those of rows of `width`.
pub(super) fn check(op: &str, width: usize, gamma: &Tensor, beta: &Tensor) -> Result<()> {
    let fits = |t: &Tensor| t.dims() == [width] && t.dtype() == DType::F32;
    if width == 0 || !fits(gamma) || !fits(beta) {
        candle_core::bail!(
            "{op}: rows of {width} need gamma and beta of shape [{width}] and f32, not {:?} {:?} and {:?} {:?}",
            gamma.dims(),
            gamma.dtype(),
            beta.dims(),
            beta.dtype()
        );
    }
    Ok(())
}

struct LayerNorm {
    eps: f32,
}

impl LayerNorm {
    fn norm<'a>(&self, inputs: &'a [Tensor]) -> Norm<'a> {
        Norm {
            gamma: &inputs[1],
            beta: &inputs[2],
            eps: self.eps,
        }
    }
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn forward(&self, inputs: &[Tensor], _: bool) -> Result<Fresh> {
        backend::of(self.name(), &inputs[0])?.norm(&inputs[0], self.norm(inputs))
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let k = backend::of(self.name(), &inputs[0])?;
        let grads = k.norm_backward(&inputs[0], self.norm(inputs), grad, None)?;
        Ok(grads.map(Some).into())
    }
}
