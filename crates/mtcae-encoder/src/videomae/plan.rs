//! The encoder for inference on the CPU: weights packed once, memory used again.

use mtcae_nn::candle_core::Result;
use mtcae_nn::plan::{Arena, Format, Mlp, Norm, Packed, SelfAttention, Workspace, pack, project};
use mtcae_nn::{VarBuilder, on_pool};

use super::config::VideoMaeConfig;
use super::model::{Block, Parts, VideoMae};
use crate::error::Error;
use crate::seam::{EncoderConfig, EncoderPlan};

/// The encoder's blocks, packed for one [`Format`]: what [`VideoMae`] computes for
/// one clip after the other, without a tensor in between.
#[derive(Debug)]
pub struct Plan {
    config: VideoMaeConfig,
    format: Format,
    patch_embed: Packed,
    /// (N, D)
    positions: Vec<f32>,
    blocks: Vec<BlockPlan>,
    norm: Option<Norm>,
}

#[derive(Debug)]
struct BlockPlan {
    norm1: Norm,
    attn: SelfAttention,
    norm2: Norm,
    mlp: Mlp,
}

impl Block {
    fn plan(&self, format: Format) -> Result<BlockPlan> {
        Ok(BlockPlan {
            norm1: self.norm1.plan()?,
            attn: self.attn.plan(format)?,
            norm2: self.norm2.plan()?,
            mlp: self.mlp.plan(format)?,
        })
    }
}

impl Plan {
    /// This encoder, packed for `format`.
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn of(encoder: &VideoMae, format: Format) -> Result<Self> {
        let blocks = encoder.blocks.iter().map(|block| block.plan(format));
        let blocks = blocks.collect::<Result<_>>()?;
        Self::build(&encoder.config, format, &encoder.parts, blocks)
    }

    /// Packs the tensors below `vb` a block at a time, so that no more than one
    /// block is held unpacked.
    ///
    /// # Errors
    /// As [`VideoMae::new`].
    pub fn new(
        config: &VideoMaeConfig,
        format: Format,
        vb: VarBuilder<'_>,
    ) -> std::result::Result<Self, Error> {
        config.validate()?;
        let parts = Parts::new(config, &vb)?;
        let blocks = (0..config.depth)
            .map(|i| Block::new(config, 0.0, vb.pp("blocks").pp(i))?.plan(format))
            .collect::<Result<_>>()?;
        Ok(Self::build(config, format, &parts, blocks)?)
    }

    fn build(
        config: &VideoMaeConfig,
        format: Format,
        parts: &Parts,
        blocks: Vec<BlockPlan>,
    ) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            format,
            patch_embed: pack(format, &[parts.patch_embed.projection()])?,
            positions: parts.positions.flatten_all()?.to_vec1()?,
            blocks,
            norm: parts.norm.as_ref().map(|norm| norm.plan()).transpose()?,
        })
    }

    fn compute(&self, tubes: &[f32], arena: &mut Arena, features: &mut [f32]) {
        let c = &self.config;
        let (tokens, width) = (c.tokens(), c.width);
        let [operand, wide] =
            Workspace::lengths(self.format, tokens, width, width, 3 * width, c.hidden);
        let operand = operand.max(self.format.operand_len(tokens, c.tube_len()));
        let [y, operand, wide] = arena.split([tokens * width, operand, wide]);
        project(
            self.format,
            tubes,
            c.tube_len(),
            &self.patch_embed,
            operand,
            y,
        );
        for (y, position) in y.iter_mut().zip(&self.positions) {
            *y += position;
        }
        let mut room = Workspace { operand, wide };
        for block in &self.blocks {
            block.attn.residual(&block.norm1, y, &mut room);
            block.mlp.residual(&block.norm2, y, &mut room);
        }
        match &self.norm {
            Some(norm) => norm.forward(y, features),
            None => features.copy_from_slice(y),
        }
    }
}

impl EncoderPlan for Plan {
    fn forward(
        &self,
        tubes: &[f32],
        arena: &mut Arena,
        features: &mut [f32],
    ) -> std::result::Result<(), Error> {
        self.config.input().check_numbers(tubes)?;
        self.config.output().check_numbers(features)?;
        on_pool(|| self.compute(tubes, arena, features));
        Ok(())
    }
}
