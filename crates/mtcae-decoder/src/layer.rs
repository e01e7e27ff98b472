//! One layer of a decoder.

use candle_core::{Result, Tensor};
use mtcae_nn::{CrossAttention, DropPath, LayerNorm, Mlp, Over, Pass, VarBuilder};

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
    pub fn new(cfg: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm1"))?,
            attn: CrossAttention::new(cfg.width, cfg.heads, cfg.head_dim, vb.pp("attn"))?,
            mlp: MlpLayer::new(cfg, vb)?,
        })
    }

    pub(crate) fn attention(&self) -> &CrossAttention {
        &self.attn
    }

    /// The first norm, attention, and the rest.
    pub(crate) fn parts(&self) -> (&LayerNorm, &CrossAttention, &MlpLayer) {
        (&self.norm1, &self.attn, &self.mlp)
    }

    /// Y (B, N, w) over X (B, M, w), or the keys and values of it → Y (B, N, w);
    /// `drop_path` is of both residual branches.
    pub fn forward(
        &self,
        y: &Tensor,
        over: Over<'_>,
        drop_path: DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let norms = [&self.norm1, &self.mlp.norm2];
        self.attn
            .block(y, over, norms, &self.mlp.mlp, &drop_path, pass)
    }

    /// The keys and values of each layer over `x` (B, M, w) in one product, where that is
    /// sooner.
    pub fn keys_and_values(layers: &[Self], x: &Tensor) -> Result<Option<Vec<Tensor>>> {
        let layers: Vec<_> = layers.iter().map(|l| &l.attn).collect();
        CrossAttention::shared_keys_and_values(&layers, x)
    }
}

/// Lines 7 and 8 alone: Y + MLP(Norm(Y)). The layer of the MLP decoders.
#[derive(Clone, Debug)]
pub struct MlpLayer {
    norm2: LayerNorm,
    mlp: Mlp,
}

impl MlpLayer {
    /// `norm2` and `mlp` below `vb`.
    pub fn new(cfg: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm2: LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm2"))?,
            mlp: Mlp::new(cfg.width, cfg.hidden(), vb.pp("mlp"))?,
        })
    }

    /// Norm and MLP.
    pub(crate) fn parts(&self) -> (&LayerNorm, &Mlp) {
        (&self.norm2, &self.mlp)
    }

    /// (B, N, w) → (B, N, w); `drop_path` is of the residual branch.
    pub fn forward(&self, y: &Tensor, drop_path: DropPath, pass: &mut Pass) -> Result<Tensor> {
        self.mlp.residual(y, &self.norm2, &drop_path, pass)
    }
}
