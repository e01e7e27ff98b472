//! One layer of a decoder.

use candle_core::{Result, Tensor};
use mtcae_nn::{CrossAttention, DropPath, LayerNorm, Mlp, Over, Pass, VarBuilder};

use crate::{Config, Kind};

/// Lines 4 to 8 of Algorithm 1: attention to the stage's constant X, then the MLP. The
/// layers of MLP decoders are lines 7 and 8 alone: Y + MLP(Norm(Y)).
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Norm and attention; none in MLP decoders.
    pub attention: Option<(LayerNorm, CrossAttention)>,
    pub norm2: LayerNorm,
    pub mlp: Mlp,
}

impl Layer {
    /// `norm1` and `attn` (ViT alone), `norm2` and `mlp` below `vb`.
    pub fn new(cfg: &Config, kind: Kind, vb: VarBuilder<'_>) -> Result<Self> {
        let attention = match kind {
            Kind::Mlp => None,
            Kind::Vit => Some((
                LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm1"))?,
                CrossAttention::new(cfg.width, cfg.heads, cfg.head_dim, vb.pp("attn"))?,
            )),
        };
        Ok(Self {
            attention,
            norm2: LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm2"))?,
            mlp: Mlp::new(cfg.width, cfg.hidden(), vb.pp("mlp"))?,
        })
    }

    /// Y (B, N, w) → Y (B, N, w), over X (B, M, w) or the keys and values of it where the
    /// layer attends; `drop_path` is of each residual branch.
    pub fn forward(
        &self,
        y: &Tensor,
        over: Option<Over<'_>>,
        drop_path: DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        match (&self.attention, over) {
            (Some((norm1, attention)), Some(over)) => {
                let norms = [norm1, &self.norm2];
                attention.block(y, over, norms, &self.mlp, &drop_path, pass)
            }
            _ => self.mlp.residual(y, &self.norm2, &drop_path, pass),
        }
    }
}
