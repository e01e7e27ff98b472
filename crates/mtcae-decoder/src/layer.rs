//! One layer of a decoder.

use candle_core::{Result, Tensor};
use mtcae_nn::{CrossAttention, DropPath, LayerNorm, Mlp, Pass, VarBuilder};

use crate::Config;

/// Lines 4 to 8 of Algorithm 1: attention to the stage's constant X, then the MLP.
#[derive(Clone, Debug)]
pub struct VitLayer {
    norm1: LayerNorm,
    attn: CrossAttention,
    mlp: MlpLayer,
}

impl VitLayer {
    /// `norm1`, `attn`, `norm2` and `mlp` below `vb`.
    pub fn new(cfg: &Config, drop_path: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm1"))?,
            attn: CrossAttention::new(cfg.width, cfg.heads, cfg.head_dim, vb.pp("attn"))?,
            mlp: MlpLayer::new(cfg, drop_path, vb)?,
        })
    }

    pub(crate) fn attention(&self) -> &CrossAttention {
        &self.attn
    }

    /// The first norm, attention, and the rest.
    pub(crate) fn parts(&self) -> (&LayerNorm, &CrossAttention, &MlpLayer) {
        (&self.norm1, &self.attn, &self.mlp)
    }

    /// Y (B, N, w) and X (B, M, w) → Y (B, N, w).
    pub fn forward(&self, y: &Tensor, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let drop_path = &self.mlp.drop_path;
        let y = self.attn.residual(y, x, &self.norm1, drop_path, pass)?;
        self.mlp.forward(&y, pass)
    }
}

/// Lines 7 and 8 alone: Y + MLP(Norm(Y)). The layer of the MLP decoders.
#[derive(Clone, Debug)]
pub struct MlpLayer {
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path: DropPath,
}

impl MlpLayer {
    /// `norm2` and `mlp` below `vb`.
    pub fn new(cfg: &Config, drop_path: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm2: LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm2"))?,
            mlp: Mlp::new(cfg.width, cfg.hidden(), vb.pp("mlp"))?,
            drop_path: DropPath::new(drop_path)?,
        })
    }

    /// Norm and MLP.
    pub(crate) fn parts(&self) -> (&LayerNorm, &Mlp) {
        (&self.norm2, &self.mlp)
    }

    /// (B, N, w) → (B, N, w).
    pub fn forward(&self, y: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.mlp.residual(y, &self.norm2, &self.drop_path, pass)
    }
}
