//! The encoder for inference on the CPU: weights packed once, memory used again.

use mtcae_nn::candle_core::Result;
use mtcae_nn::plan::{Arena, Format, Norm, Workspace};
use mtcae_nn::{VarBuilder, on_pool};

use super::config::VideoMaeConfig;
use super::model::{Parts, VideoMae};
use crate::block::{Block, BlockPlan};
use crate::embedding::EmbeddingPlan;
use crate::error::Error;
use crate::seam::{EncoderConfig, EncoderPlan};

/// The encoder's blocks, packed for one [`Format`]: what [`VideoMae`] computes for
/// one clip after the other, without a tensor in between.
#[derive(Debug)]
pub struct Plan {
    config: VideoMaeConfig,
    format: Format,
    embedding: EmbeddingPlan,
    blocks: Vec<BlockPlan>,
    norm: Option<Norm>,
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
        let (parts, sizes) = (Parts::new(config, &vb)?, config.sizes());
        let blocks = (0..config.depth)
            .map(|i| Block::new(&sizes, 0.0, vb.pp("blocks").pp(i))?.plan(format))
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
            embedding: parts.embedding.plan(format)?,
            blocks,
            norm: parts.norm.as_ref().map(|norm| norm.plan()).transpose()?,
        })
    }

    fn compute(&self, tubes: &[f32], arena: &mut Arena, features: &mut [f32]) {
        let c = &self.config;
        let (tokens, width) = (c.tokens(), c.width);
        let [operand, wide] =
            Workspace::lengths(self.format, tokens, width, width, 3 * width, c.hidden);
        let operand = operand.max(self.embedding.operand_len());
        let [y, operand, wide] = arena.split([tokens * width, operand, wide]);
        self.embedding.forward(tubes, operand, y);
        let mut room = Workspace { operand, wide };
        for block in &self.blocks {
            block.forward(y, &mut room);
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
