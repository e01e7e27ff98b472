//! The encoder for inference on the CPU: weights packed once, memory used again.

use mtcae_nn::candle_core::Result;
use mtcae_nn::plan::{
    Arena, CrossAttention, Format, Mlp, Norm, Packed, Workspace, pack, project, project_normed,
};
use mtcae_nn::{CrossAttention as CandleAttention, VarBuilder, on_pool};

use super::config::TpsbtConfig;
use super::model::{CrossBlock, DownSampling, Tpsbt};
use crate::block::{Block, BlockPlan};
use crate::embedding::{Embedding, EmbeddingPlan, Position};
use crate::error::Error;
use crate::seam::{EncoderConfig, EncoderPlan};

/// The encoder, packed for one [`Format`]: what [`Tpsbt`] computes for one clip after the
/// other, without a tensor in between.
#[derive(Debug)]
pub struct Plan {
    config: TpsbtConfig,
    format: Format,
    embedding: EmbeddingPlan,
    blocks: Vec<BlockPlan>,
    stages: Vec<StagePlan>,
}

#[derive(Debug)]
struct StagePlan {
    /// The linear layer of pairs.
    time: Packed,
    norm: Norm,
    scores: Mlp,
    blocks: Vec<CrossPlan>,
}

#[derive(Debug)]
struct CrossPlan {
    norm1: Norm,
    norm2: Norm,
    kv: Packed,
    cross: CrossAttention,
    block: BlockPlan,
}

impl CrossBlock {
    fn plan(&self, format: Format) -> Result<CrossPlan> {
        Ok(CrossPlan {
            norm1: self.norm1.plan()?,
            norm2: self.norm2.plan()?,
            kv: CandleAttention::plan_keys_and_values(format, &[&self.cross])?,
            cross: self.cross.plan(format)?,
            block: self.block.plan(format)?,
        })
    }
}

impl DownSampling {
    fn plan(&self, format: Format, blocks: Vec<CrossPlan>) -> Result<StagePlan> {
        Ok(StagePlan {
            time: pack(format, &[&self.time])?,
            norm: self.norm.plan()?,
            scores: self.scores.plan(format)?,
            blocks,
        })
    }
}

impl Plan {
    /// This encoder, packed for `format`.
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn of(encoder: &Tpsbt, format: Format) -> Result<Self> {
        let blocks = encoder.blocks.iter().map(|block| block.plan(format));
        let stages = encoder.stages.iter().map(|stage| {
            let blocks = stage.blocks.iter().map(|block| block.plan(format));
            stage.down.plan(format, blocks.collect::<Result<_>>()?)
        });
        Ok(Self {
            config: encoder.config.clone(),
            format,
            embedding: encoder.embedding.plan(format)?,
            blocks: blocks.collect::<Result<_>>()?,
            stages: stages.collect::<Result<_>>()?,
        })
    }

    /// Packs the tensors below `vb` a block at a time, so that no more than one
    /// block is held unpacked.
    ///
    /// # Errors
    /// As [`Tpsbt::new`].
    pub fn new(
        config: &TpsbtConfig,
        format: Format,
        vb: VarBuilder<'_>,
    ) -> std::result::Result<Self, Error> {
        config.validate()?;
        let sizes = config.sizes();
        let below = |i: usize| vb.pp("blocks").pp(i);
        let blocks = (0..config.depths[0]).map(|i| Block::new(&sizes, 0.0, below(i))?.plan(format));
        let stages = config.later_stages().map(|(stage, places)| {
            let blocks = places.map(|i| CrossBlock::new(config, 0.0, below(i))?.plan(format));
            let blocks = blocks.collect::<Result<_>>()?;
            DownSampling::new(config, stage, &vb)?.plan(format, blocks)
        });
        Ok(Self {
            config: config.clone(),
            format,
            embedding: Embedding::new(&sizes, Position::SinCos, &vb)?.plan(format)?,
            blocks: blocks.collect::<Result<_>>()?,
            stages: stages.collect::<Result<_>>()?,
        })
    }

    fn compute(&self, tubes: &[f32], arena: &mut Arena, features: &mut [f32]) {
        let c = &self.config;
        let (d, places) = (c.width, c.places());
        let [tokens, halved, _] = c.slices().map(|slices| slices * places);
        // Where a slice has few places, its bottlenecks may be more than the tokens.
        let chosen = c.slices()[1] * c.bottlenecks;
        let rows = tokens.max(chosen);
        let hidden = c.hidden.max(c.bottleneck_hidden);
        let [operand, wide] = Workspace::lengths(self.format, rows, d, d, 3 * d, hidden);
        // Half the tokens have twice the channels.
        let pairs = self.format.operand_len(halved, 2 * d);
        let operand = operand.max(self.embedding.operand_len()).max(pairs);
        let lengths = [
            tokens * d,
            tokens * d,
            halved.max(chosen) * 2 * d,
            halved * c.bottlenecks,
            chosen * d,
            operand,
            wide,
        ];
        let [x, pairs, kv, scores, z, operand, wide] = arena.split(lengths);
        self.embedding.forward(tubes, operand, x);
        let mut room = Workspace { operand, wide };
        for block in &self.blocks {
            block.forward(x, &mut room);
        }
        let mut slices = c.slices()[0];
        for stage in &self.stages {
            slices /= 2;
            interleave(&x[..2 * slices * places * d], places * d, pairs);
            let pairs = &pairs[..2 * slices * places * d];
            let x = &mut x[..slices * places * d];
            project(self.format, pairs, 2 * d, &stage.time, room.operand, x);
            let z = &mut z[..slices * c.bottlenecks * d];
            let scores = &mut scores[..slices * places * c.bottlenecks];
            stage.scores.forward(&stage.norm, x, &mut room, scores);
            choose(x, scores, [places, c.bottlenecks], z);
            let Some((back, forth)) = stage.blocks.split_last() else {
                continue;
            };
            for block in forth {
                block.forward(self.format, z, x, kv, &mut room);
            }
            back.forward(self.format, x, z, kv, &mut room);
        }
        features.copy_from_slice(&x[..features.len()]);
    }
}

/// x, whose slices are `slice` long, to pairs of two slices each whose numbers alternate.
fn interleave(x: &[f32], slice: usize, pairs: &mut [f32]) {
    let two = x.chunks_exact(2 * slice);
    for (two, pairs) in two.zip(pairs.chunks_exact_mut(2 * slice)) {
        let (first, second) = two.split_at(slice);
        for ((a, b), pair) in first.iter().zip(second).zip(pairs.chunks_exact_mut(2)) {
            pair.copy_from_slice(&[*a, *b]);
        }
    }
}

/// X (T·P, D) and its scores (T·P, G) → Z (T·G, D), as the model's.
fn choose(x: &[f32], scores: &[f32], [places, chosen]: [usize; 2], z: &mut [f32]) {
    let d = x.len() / (scores.len() / chosen);
    let slices = x.chunks_exact(places * d);
    let slices = slices.zip(scores.chunks_exact(places * chosen));
    let mut weights = vec![0.0; places];
    for ((x, scores), z) in slices.zip(z.chunks_exact_mut(chosen * d)) {
        for (k, z) in z.chunks_exact_mut(d).enumerate() {
            let column = scores.iter().skip(k).step_by(chosen);
            for (weight, score) in weights.iter_mut().zip(column) {
                *weight = *score;
            }
            softmax(&mut weights);
            z.fill(0.0);
            for (weight, x) in weights.iter().zip(x.chunks_exact(d)) {
                for (z, x) in z.iter_mut().zip(x) {
                    *z += weight * x;
                }
            }
        }
    }
}

fn softmax(x: &mut [f32]) {
    let largest = x.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
    x.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

impl CrossPlan {
    /// y (N, D), in place, over a context (M, D).
    fn forward(
        &self,
        format: Format,
        y: &mut [f32],
        context: &[f32],
        kv: &mut [f32],
        room: &mut Workspace<'_>,
    ) {
        let d = self.cross.inner();
        let kv = &mut kv[..2 * context.len()];
        project_normed(format, context, d, &self.norm2, &self.kv, room.operand, kv);
        self.cross.residual(&self.norm1, y, kv, 2 * d, 0, room);
        self.block.forward(y, room);
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
