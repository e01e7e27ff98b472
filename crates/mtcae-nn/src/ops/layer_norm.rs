//! LayerNorm over the last dimension.

use candle_core::{DType, Result, Tensor};

use super::backend::{Backend, Fresh, Norm};
use super::kernels;
use super::operation::{Each, Gradients, Operands, Operation, Slot, apply};
use crate::pass::Way;

/// LayerNorm of x (…, D) with γ and β (D) of `f32` → (…, D).
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    check("layer_norm", width, gamma, beta)?;
    let mut operands = Operands::default();
    let op = LayerNorm {
        x: operands.activation(x.contiguous()?),
        norm: NormSlots::list(&mut operands, gamma, beta, eps)?,
    };
    apply(op, operands, x.shape(), &Way::default())
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

/// Where γ and β are among the operands, and ε.
#[derive(Clone, Copy)]
pub(super) struct NormSlots {
    gamma: Slot,
    beta: Slot,
    eps: f32,
}

impl NormSlots {
    pub(super) fn list(
        operands: &mut Operands,
        gamma: &Tensor,
        beta: &Tensor,
        eps: f64,
    ) -> Result<Self> {
        Ok(Self {
            gamma: operands.parameter(gamma)?,
            beta: operands.parameter(beta)?,
            eps: eps as f32,
        })
    }

    pub(super) fn of<'a>(&self, inputs: &'a Each<Tensor>) -> Norm<'a> {
        Norm {
            gamma: &inputs[self.gamma],
            beta: &inputs[self.beta],
            eps: self.eps,
        }
    }

    /// Sets the gradients of γ and β; gives that of x, to which `residual` is added.
    pub(super) fn backward(
        &self,
        k: &dyn Backend,
        inputs: &Each<Tensor>,
        x: &Tensor,
        grads: &mut Gradients,
        grad: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let [dx, d_gamma, d_beta] = k.norm_backward(x, self.of(inputs), grad, residual)?;
        grads.set(self.gamma, d_gamma);
        grads.set(self.beta, d_beta);
        Ok(dx)
    }
}

struct LayerNorm {
    x: Slot,
    norm: NormSlots,
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn forward(&self, inputs: &Each<Tensor>, _: bool) -> Result<Fresh> {
        let x = &inputs[self.x];
        kernels::of(self.name(), x)?.norm(x, self.norm.of(inputs))
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let x = &inputs[self.x];
        let k = kernels::of(self.name(), x)?;
        let dx = self.norm.backward(k, inputs, x, grads, grad, None)?;
        grads.set(self.x, dx);
        Ok(())
    }
}
