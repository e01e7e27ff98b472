//! The transformer's MLP.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::plan::{self, Format};
use crate::{DropPath, LayerNorm, Linear, Pass, linear, ops};

/// fc2(gelu(fc1(x))) with GELU in its erf form.
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `fc1` (hidden, D) and `fc2` (D, hidden), with biases, below `vb`.
    pub fn new(width: usize, hidden: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            fc1: linear(width, hidden, vb.pp("fc1"))?,
            fc2: linear(hidden, width, vb.pp("fc2"))?,
        })
    }

    /// This layer for inference on the CPU, packed for `format`.
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn plan(&self, format: Format) -> Result<plan::Mlp> {
        Ok(plan::Mlp {
            format,
            fc1: plan::pack(format, &[&self.fc1])?,
            fc2: plan::pack(format, &[&self.fc2])?,
        })
    }

    /// y + drop(mlp(norm(y))) for y (B, N, D): a block's second half. On the CPU
    /// it is one operation that keeps the hidden layer alone for its backward.
    pub fn residual(
        &self,
        y: &Tensor,
        norm: &LayerNorm,
        drop: &DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let (gamma, beta, eps) = norm.parts();
        let (Some(b1), Some(b2)) = (self.fc1.bias(), self.fc2.bias()) else {
            candle_core::bail!("mlp: a layer has no bias");
        };
        let tensors = [gamma, beta, self.fc1.weight(), b1, self.fc2.weight(), b2];
        if !ops::on_cpu(&[y]) || !ops::on_cpu(&tensors) || y.elem_count() == 0 {
            return y + drop.forward(&self.forward(&norm.forward(y)?)?, pass)?;
        }
        ops::residual_mlp(y, tensors, eps, drop.scales(y.dim(0)?, pass))
    }
}

impl Module for Mlp {
    /// (…, D) → (…, D).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.fc1.bias() {
            // One pass over the hidden layer adds the bias and bends it.
            Some(bias) if x.device().is_cuda() => {
                let hidden = ops::linear(x, self.fc1.weight(), None)?;
                let bias = bias.to_dtype(x.dtype())?;
                self.fc2.forward(&ops::bias_gelu(&hidden, &bias)?)
            }
            _ => self.fc2.forward(&ops::gelu(&self.fc1.forward(x)?)?),
        }
    }
}
