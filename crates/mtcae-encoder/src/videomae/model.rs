//! The VideoMAE encoder (Tong et al., 2022, arXiv 2203.12602;
//! MCG-NJU/VideoMAE, `modeling_finetune.py`): a plain ViT over tubes.
//!
//! Tensor names below the encoder's prefix mirror the original checkpoints; they
//! and their shapes are those of [`VideoMaeConfig`]'s groups.

use mtcae_nn::candle_core::{self, Module, Tensor};
use mtcae_nn::{LayerNorm, Pass, VarBuilder};

use super::config::VideoMaeConfig;
use crate::block::Block;
use crate::embedding::Embedding;
use crate::error::Error;
use crate::seam::EncoderConfig;

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
    pub(super) embedding: Embedding,
    pub(super) norm: Option<LayerNorm>,
}

impl Parts {
    pub(super) fn new(config: &VideoMaeConfig, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let norm = match config.final_norm {
            true => Some(LayerNorm::new(config.width, config.eps, vb.pp("norm"))?),
            false => None,
        };
        Ok(Self {
            embedding: Embedding::new(&config.sizes(), config.position, vb)?,
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
        let sizes = config.sizes();
        let blocks = (0..config.depth)
            .map(|i| Block::new(&sizes, sizes.drop_path(i), vb.pp("blocks").pp(i)))
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
        Ok(self.parts.embedding.forward(tubes, pass)?)
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
