//! One layer of a decoder.

use candle_core::{Module, Result, Tensor};
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

    /// Y (B, N, w) and X (B, M, w) → Y (B, N, w); `drop_path` is of both residual
    /// branches.
    pub fn forward(
        &self,
        y: &Tensor,
        x: &Tensor,
        drop_path: DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        if y.device().is_cuda() {
            let attended = self.attn.forward(&self.norm1.forward(y)?, x)?;
            return self.mlp.after(y, &attended, drop_path, pass);
        }
        let y = self.attn.residual(y, x, &self.norm1, &drop_path, pass)?;
        self.mlp.forward(&y, drop_path, pass)
    }

    /// As [`Self::forward`], over keys and values (B, M, 2·H·d) that were computed before.
    pub fn attend(
        &self,
        y: &Tensor,
        kv: &Tensor,
        drop_path: DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let attended = self.attn.attend(&self.norm1.forward(y)?, kv)?;
        self.mlp.after(y, &attended, drop_path, pass)
    }

    /// The keys and values of each layer over `x` (B, M, w) in one product; nothing where
    /// a gradient is asked for.
    pub fn keys_and_values(layers: &[Self], x: &Tensor) -> Result<Option<Vec<Tensor>>> {
        if x.track_op() || layers.iter().any(|l| l.attn.trains_keys()) {
            return Ok(None);
        }
        let layers: Vec<_> = layers.iter().map(|l| &l.attn).collect();
        CrossAttention::keys_and_values(&layers, x).map(Some)
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

    /// Y + branch, and then this layer: Y (B, N, w) and a branch like it → (B, N, w).
    fn after(
        &self,
        y: &Tensor,
        branch: &Tensor,
        drop_path: DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let branch = drop_path.forward(branch, pass)?;
        let (y, normed) = self.norm2.residual(y, &branch)?;
        &y + drop_path.forward(&self.mlp.forward(&normed)?, pass)?
    }

    /// (B, N, w) → (B, N, w); `drop_path` is of the residual branch.
    pub fn forward(&self, y: &Tensor, drop_path: DropPath, pass: &mut Pass) -> Result<Tensor> {
        self.mlp.residual(y, &self.norm2, &drop_path, pass)
    }
}
