//! The VideoMAE encoder (Tong et al., 2022, arXiv 2203.12602;
//! MCG-NJU/VideoMAE, `modeling_finetune.py`): a plain ViT over tubes.
//!
//! Tensor names below the encoder's prefix mirror the original checkpoints; they
//! and their shapes are those of [`VideoMaeConfig`]'s groups.

use candle_nn::Init;
use mtcae_nn::candle_core::{self, Module, Tensor};
use mtcae_nn::{
    DropPath, LayerNorm, Mlp, Pass, SelfAttention, TubeEmbedding, VarBuilder, sin_cos_table,
};

use super::config::{Position, VideoMaeConfig};
use crate::error::Error;
use crate::seam::EncoderConfig;

/// x + attn(norm1(x)), then x + mlp(norm2(x)).
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) norm1: LayerNorm,
    pub(super) attn: SelfAttention,
    pub(super) norm2: LayerNorm,
    pub(super) mlp: Mlp,
    drop_path: DropPath,
}

impl Block {
    pub(super) fn new(
        config: &VideoMaeConfig,
        drop_path: f64,
        vb: VarBuilder<'_>,
    ) -> candle_core::Result<Self> {
        let (width, eps) = (config.width, config.eps);
        Ok(Self {
            norm1: LayerNorm::new(width, eps, vb.pp("norm1"))?,
            attn: SelfAttention::new(width, config.heads, vb.pp("attn"))?,
            norm2: LayerNorm::new(width, eps, vb.pp("norm2"))?,
            mlp: Mlp::new(width, config.hidden, vb.pp("mlp"))?,
            drop_path: DropPath::new(drop_path)?,
        })
    }

    /// (B, N, D) → (B, N, D).
    fn forward(&self, x: &Tensor, pass: &mut Pass) -> candle_core::Result<Tensor> {
        let norms = [&self.norm1, &self.norm2];
        self.attn.block(x, norms, &self.mlp, &self.drop_path, pass)
    }
}

/// The encoder: tubes in, features F (B, N, D) out.
#[derive(Clone, Debug)]
pub struct VideoMae {
    pub(super) config: VideoMaeConfig,
    pub(super) parts: Parts,
    pub(super) blocks: Vec<Block>,
}

/// What stands before and after the blocks.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) patch_embed: TubeEmbedding,
    /// (N, D)
    pub(super) positions: Tensor,
    pub(super) norm: Option<LayerNorm>,
}

impl Parts {
    pub(super) fn new(config: &VideoMaeConfig, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let (tokens, width) = (config.tokens(), config.width);
        let patch_embed = TubeEmbedding::new(
            config.channels,
            config.tubelet,
            config.patch,
            width,
            vb.pp("patch_embed"),
        )?;
        let positions = match config.position {
            Position::SinCos => sin_cos_table(tokens, width, vb.device())?.to_dtype(vb.dtype())?,
            Position::Stored => {
                let init = Init::Randn {
                    mean: 0.0,
                    stdev: mtcae_nn::INIT_STD,
                };
                vb.get_with_hints((tokens, width), "pos_embed", init)?
            }
        };
        let norm = match config.final_norm {
            true => Some(LayerNorm::new(width, config.eps, vb.pp("norm"))?),
            false => None,
        };
        Ok(Self {
            patch_embed,
            positions,
            norm,
        })
    }
}

impl VideoMae {
    /// Asks `vb` for the tensors of the config's groups.
    ///
    /// # Errors
    /// When the configuration is not valid or `vb` refuses a tensor.
    pub fn new(config: &VideoMaeConfig, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        // torch.linspace(0, drop_path, depth) of the original.
        let step = config.drop_path / (config.depth - 1).max(1) as f64;
        let blocks = (0..config.depth)
            .map(|i| Block::new(config, step * i as f64, vb.pp("blocks").pp(i)))
            .collect::<candle_core::Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            parts: Parts::new(config, &vb)?,
            blocks,
        })
    }

    /// The first half of `run`: tubes (B, N, C·t·p·p) → tokens with
    /// their positions (B, N, D). Masked pre-training drops tokens after it.
    ///
    /// # Errors
    /// [`Error::Input`] when there are more or fewer tubes, or of another size.
    pub fn embed(&self, tubes: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        self.config.input().check(tubes)?;
        let x = self.parts.patch_embed.forward(tubes)?;
        pass.record(|| "patch_embed".to_owned(), &x);
        let x = x.broadcast_add(&self.parts.positions.to_dtype(x.dtype())?)?;
        pass.record(|| "embeddings".to_owned(), &x);
        Ok(x)
    }

    /// The second half of `run`: any number M of embedded tokens
    /// (B, M, D) → (B, M, D).
    ///
    /// # Errors
    /// [`Error::Candle`] when the tokens are of another width.
    pub fn encode(&self, tokens: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        let mut x = tokens.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, pass)?;
            pass.record(|| format!("encoder.blocks.{i}"), &x);
        }
        if let Some(norm) = &self.parts.norm {
            x = norm.forward(&x)?;
        }
        pass.record(|| "F".to_owned(), &x);
        Ok(x)
    }
}
