//! Task heads.

use candle_core::{DType, Module, Result, Tensor};
use mtcae_nn::{LayerNorm, Linear, VarBuilder, linear};

use crate::Config;

/// FC(Pool(Norm(Y))): equations 7 to 9. The pool is the mean over tokens.
#[derive(Clone, Debug)]
pub struct Head {
    /// Absent in the single-task structure, whose head is the linear layer alone.
    norm: Option<LayerNorm>,
    fc: Linear,
}

impl Head {
    /// A head on local features: `norm` (w) and `fc` (outputs, w) below `vb`.
    pub fn new(cfg: &Config, outputs: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm: Some(LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm"))?),
            fc: linear(cfg.width, outputs, vb.pp("fc"))?,
        })
    }

    /// A head on F itself: `fc` (outputs, D) below `vb`.
    pub fn of_features(cfg: &Config, outputs: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm: None,
            fc: linear(cfg.features, outputs, vb.pp("fc"))?,
        })
    }

    /// Norm and linear layer.
    pub(crate) fn parts(&self) -> (Option<&LayerNorm>, &Linear) {
        (self.norm.as_ref(), &self.fc)
    }
}

impl Module for Head {
    /// (B, N, w) → (B, outputs), in `f32` from the mean over tokens on.
    fn forward(&self, y: &Tensor) -> Result<Tensor> {
        let y = match &self.norm {
            Some(norm) => norm.forward(y)?,
            None => y.clone(),
        };
        // A mean over a thousand tokens would lose most of bf16's eight bits. Nothing is
        // done where y is wide already.
        let y = match y.dtype() {
            DType::BF16 | DType::F16 => y.to_dtype(DType::F32)?,
            _ => y,
        };
        self.fc.forward(&y.mean(1)?)
    }
}
