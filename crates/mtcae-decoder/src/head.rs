//! Task heads.

use candle_core::{DType, Module, Result, Tensor};
use mtcae_nn::{LayerNorm, Linear, VarBuilder, linear};

use crate::{Config, Stage, Task};

/// FC(Pool(Norm(Y))): equations 7 to 9. The pool is the mean over tokens.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Absent where the head reads F itself: there it is the linear layer alone.
    pub norm: Option<LayerNorm>,
    pub fc: Linear,
}

impl Head {
    /// The head of a task on a stage: `norm` (w) and `fc` (outputs, w) below `vb`, or
    /// `fc` (outputs, D) on F itself.
    pub fn new(cfg: &Config, stage: &Stage, task: &Task, vb: VarBuilder<'_>) -> Result<Self> {
        let (norm, width) = match stage.decoder {
            Some(_) => {
                let norm = LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm"))?;
                (Some(norm), cfg.width)
            }
            None => (None, cfg.features),
        };
        Ok(Self {
            norm,
            fc: linear(width, task.outputs, vb.pp("fc"))?,
        })
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
