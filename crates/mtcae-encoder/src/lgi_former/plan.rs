//! The encoder for inference on the CPU: weights packed once, memory used again.
//!
//! The tokens of a clip lie as in the model, (R·(1 + L), D). Step 3 is computed of the
//! messengers' rows too, which are one in a hundred, and these are put back after it.

use mtcae_nn::candle_core::Result;
use mtcae_nn::plan::{
    Arena, CrossAttention, Format, Mlp, Norm, Packed, SelfAttention, Workspace, project_normed,
};
use mtcae_nn::{CrossAttention as CandleAttention, VarBuilder, on_pool};

use super::config::{Features, LgiFormerConfig};
use super::model::{Block, LgiFormer, Parts};
use crate::embedding::EmbeddingPlan;
use crate::error::Error;
use crate::seam::{EncoderConfig, EncoderPlan};

/// The encoder, packed for one [`Format`]: what [`LgiFormer`] computes for one clip after
/// the other, without a tensor in between.
#[derive(Debug)]
pub struct Plan {
    config: LgiFormerConfig,
    format: Format,
    embedding: EmbeddingPlan,
    /// (R, D)
    region_tokens: Vec<f32>,
    /// As [`LgiFormerConfig::order`].
    order: Vec<usize>,
    blocks: Vec<BlockPlan>,
    norm: Option<Norm>,
}

#[derive(Debug)]
struct BlockPlan {
    first: (Norm, SelfAttention),
    second: (Norm, SelfAttention),
    /// None where nothing reads the tubes' tokens any more.
    third: Option<Third>,
    norm2: Norm,
    mlp: Mlp,
}

#[derive(Debug)]
struct Third {
    queries: Norm,
    keys: Norm,
    kv: Packed,
    attention: CrossAttention,
}

impl Block {
    fn plan(&self, format: Format, tubes: bool) -> Result<BlockPlan> {
        let third = || -> Result<Third> {
            let (queries, keys, attention) = &self.third;
            Ok(Third {
                queries: queries.plan()?,
                keys: keys.plan()?,
                kv: CandleAttention::plan_keys_and_values(format, &[attention])?,
                attention: attention.plan(format)?,
            })
        };
        Ok(BlockPlan {
            first: (self.first.0.plan()?, self.first.1.plan(format)?),
            second: (self.second.0.plan()?, self.second.1.plan(format)?),
            third: tubes.then(third).transpose()?,
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
    pub fn of(encoder: &LgiFormer, format: Format) -> Result<Self> {
        let config = &encoder.config;
        let blocks = encoder.blocks.iter().enumerate();
        let blocks = blocks.map(|(i, block)| block.plan(format, has_tubes(config, i)));
        let blocks = blocks.collect::<Result<_>>()?;
        Self::build(config, format, &encoder.parts, blocks)
    }

    /// Packs the tensors below `vb` a block at a time, so that no more than one
    /// block is held unpacked.
    ///
    /// # Errors
    /// As [`LgiFormer::new`].
    pub fn new(
        config: &LgiFormerConfig,
        format: Format,
        vb: VarBuilder<'_>,
    ) -> std::result::Result<Self, Error> {
        config.validate()?;
        let parts = Parts::new(config, &vb)?;
        let block = |i: usize| {
            let block = Block::new(config, 0.0, vb.pp("blocks").pp(i))?;
            block.plan(format, has_tubes(config, i))
        };
        let blocks = (0..config.depth).map(block).collect::<Result<_>>()?;
        Ok(Self::build(config, format, &parts, blocks)?)
    }

    fn build(
        config: &LgiFormerConfig,
        format: Format,
        parts: &Parts,
        blocks: Vec<BlockPlan>,
    ) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            format,
            embedding: parts.embedding.plan(format)?,
            region_tokens: parts.region_tokens.flatten_all()?.to_vec1()?,
            order: config.order(),
            blocks,
            norm: parts.norm.as_ref().map(|norm| norm.plan()).transpose()?,
        })
    }

    fn compute(&self, tubes: &[f32], arena: &mut Arena, features: &mut [f32]) {
        let c = &self.config;
        let (d, regions, within) = (c.width, c.region_count(), c.region_tokens());
        let row = (1 + within) * d;
        let rows = regions * (1 + within);
        let [operand, wide] = Workspace::lengths(self.format, rows, d, d, 3 * d, c.hidden);
        let operand = operand.max(self.embedding.operand_len());
        let lengths = [
            rows * d,
            regions * within * d,
            regions * d,
            regions * 2 * d,
            operand,
            wide,
        ];
        let [y, grid, m, kv, operand, wide] = arena.split(lengths);
        self.embedding.forward(tubes, operand, grid);
        for (region, y) in y.chunks_exact_mut(row).enumerate() {
            let (own, rest) = y.split_at_mut(d);
            own.copy_from_slice(&self.region_tokens[region * d..][..d]);
            let order = &self.order[region * within..];
            for (y, &from) in rest.chunks_exact_mut(d).zip(order) {
                y.copy_from_slice(&grid[from * d..][..d]);
            }
        }
        let mut room = Workspace { operand, wide };
        for block in &self.blocks {
            let (norm, attention) = &block.first;
            attention.residual_within(regions, norm, y, &mut room);
            for (m, y) in m.chunks_exact_mut(d).zip(y.chunks_exact(row)) {
                m.copy_from_slice(&y[..d]);
            }
            let (norm, attention) = &block.second;
            attention.residual(norm, m, &mut room);
            match &block.third {
                Some(third) => {
                    third.residual(self.format, m, kv, y, &mut room);
                    for (m, y) in m.chunks_exact(d).zip(y.chunks_exact_mut(row)) {
                        y[..d].copy_from_slice(m);
                    }
                    block.mlp.residual(&block.norm2, y, &mut room);
                }
                None => block.mlp.residual(&block.norm2, m, &mut room),
            }
        }
        let f: &[f32] = match c.features {
            Features::Regions => m,
            Features::Tokens => {
                for (region, y) in y.chunks_exact(row).enumerate() {
                    let order = &self.order[region * within..];
                    for (y, &to) in y[d..].chunks_exact(d).zip(order) {
                        grid[to * d..][..d].copy_from_slice(y);
                    }
                }
                grid
            }
        };
        match &self.norm {
            Some(norm) => norm.forward(f, features),
            None => features.copy_from_slice(f),
        }
    }
}

/// Whether F depends on the tokens of the tubes as block `i` leaves them.
fn has_tubes(config: &LgiFormerConfig, i: usize) -> bool {
    config.features == Features::Tokens || i + 1 < config.depth
}

impl Third {
    /// y (N, D) += attention of its tokens to the messengers m (R, D).
    fn residual(
        &self,
        format: Format,
        m: &[f32],
        kv: &mut [f32],
        y: &mut [f32],
        room: &mut Workspace<'_>,
    ) {
        let d = self.attention.inner();
        project_normed(format, m, d, &self.keys, &self.kv, room.operand, kv);
        self.attention
            .residual(&self.queries, y, kv, 2 * d, 0, room);
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
