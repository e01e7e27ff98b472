//! Task heads.

use candle_core::{Module, Result, Tensor};
use mtcae_nn::{LayerNorm, Linear, Pool, VarBuilder, linear};

use crate::{Config, Stage, Task};

/// FC(Pool(Norm(Y))): equations 7 to 9, whose pool is the mean over tokens; or, of F
/// itself, FC(Norm(Pool(F))), with a norm where the config asks for one.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub norm: Norm,
    pub pool: Pool,
    pub fc: Linear,
}

/// The norm of a head, and where it is.
#[derive(Clone, Debug)]
pub(crate) enum Norm {
    /// There is none.
    None,
    /// Of every token.
    Tokens(LayerNorm),
    /// Of what the pool gives.
    Pooled(LayerNorm),
}

impl Head {
    /// The head of a task on a stage: `norm` (w) and `fc` (outputs, w) below `vb`, or
    /// `fc` (outputs, D), with `norm` (D) where F is normalised after the pool, on F itself.
    pub fn new(cfg: &Config, stage: &Stage, task: &Task, vb: VarBuilder<'_>) -> Result<Self> {
        let norm = |width, eps| LayerNorm::new(width, eps, vb.pp("norm"));
        let (norm, pool, width) = match (stage.decoder, cfg.pooled_norm) {
            (Some(_), _) => {
                let norm = Norm::Tokens(norm(cfg.width, cfg.eps)?);
                (norm, Pool::Mean, cfg.width)
            }
            (None, Some(eps)) => {
                let norm = Norm::Pooled(norm(cfg.features, eps)?);
                (norm, cfg.pool, cfg.features)
            }
            (None, None) => (Norm::None, cfg.pool, cfg.features),
        };
        Ok(Self {
            norm,
            pool,
            fc: linear(width, task.outputs, vb.pp("fc"))?,
        })
    }
}

impl Module for Head {
    /// (B, N, w) → (B, outputs), in `f32` from the pool on.
    fn forward(&self, y: &Tensor) -> Result<Tensor> {
        let row = match &self.norm {
            Norm::None => self.pool.forward(y)?,
            Norm::Tokens(norm) => self.pool.forward(&norm.forward(y)?)?,
            Norm::Pooled(norm) => norm.forward(&self.pool.forward(y)?)?,
        };
        self.fc.forward(&row)
    }
}
