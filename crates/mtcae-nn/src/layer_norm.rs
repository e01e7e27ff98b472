//! LayerNorm with a backward and two-pass statistics.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::{DropPath, Pass, ops, plan};

/// y = (x − μ)/√(σ² + ε)·γ + β over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Tensor,
    beta: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `weight` (γ) and `bias` (β), both (D), below `vb`; `f32` whatever its type.
    pub fn new(width: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            gamma: vb.get_with_hints_dtype(width, "weight", Init::Const(1.0), DType::F32)?,
            beta: vb.get_with_hints_dtype(width, "bias", Init::Const(0.0), DType::F32)?,
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
    pub(crate) fn parts(&self) -> ops::NormAfter<'_> {
        (&self.gamma, &self.beta, self.eps)
    }

    /// The branch of a block that begins with this norm: what `drop` draws for each of
    /// `samples` is part of it.
    pub(crate) fn branch(
        &self,
        drop: &DropPath,
        samples: usize,
        pass: &mut Pass,
    ) -> ops::Branch<'_> {
        ops::Branch {
            gamma: &self.gamma,
            beta: &self.beta,
            eps: self.eps,
            scales: drop.scales(samples, pass),
        }
    }
}

impl Module for LayerNorm {
    /// (…, D) → (…, D).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.gamma, &self.beta, self.eps)
    }
}
