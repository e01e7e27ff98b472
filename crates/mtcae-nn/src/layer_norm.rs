//! LayerNorm with a backward and two-pass statistics.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::{ops, plan};

/// y = (x − μ)/√(σ² + ε)·γ + β over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Tensor,
    beta: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `weight` (γ) and `bias` (β), both (D), below `vb`.
    pub fn new(width: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            gamma: vb.get_with_hints(width, "weight", Init::Const(1.0))?,
            beta: vb.get_with_hints(width, "bias", Init::Const(0.0))?,
            eps,
        })
    }

    /// This layer for inference on the CPU.
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn plan(&self) -> Result<plan::Norm> {
        Ok(plan::Norm {
            gamma: plan::values(&self.gamma)?,
            beta: plan::values(&self.beta)?,
            eps: self.eps as f32,
        })
    }

    /// γ, β and ε.
    pub(crate) fn parts(&self) -> (&Tensor, &Tensor, f64) {
        (&self.gamma, &self.beta, self.eps)
    }
}

impl Module for LayerNorm {
    /// (…, D) → (…, D).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.gamma, &self.beta, self.eps)
    }
}
