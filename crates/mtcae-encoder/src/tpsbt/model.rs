//! TPSBT, a temporal pyramid with spatial bottlenecks (Sun et al., 2024, arXiv 2401.00416;
//! sunlicai/SVFAP, `modeling_finetune.py`).
//!
//! The first stage is a plain ViT. Each later one halves the slices of time, which gives
//! X (B, T·P, D) for T slices of P places, and chooses G bottlenecks Z of each slice. Its
//! blocks compute Z over X, and the last one X over Z.

use mtcae_nn::candle_core::{D, Module, Result, Tensor};
use mtcae_nn::{CrossAttention, DropPath, LayerNorm, Linear, Mlp, Over, Pass, VarBuilder, linear};

use super::config::TpsbtConfig;
use crate::block::Block;
use crate::embedding::{Embedding, Position};
use crate::error::Error;
use crate::seam::EncoderConfig;

/// x ← x + cross(norm1(x), norm2(context)), then the plain block.
#[derive(Clone, Debug)]
pub(super) struct CrossBlock {
    pub(super) norm1: LayerNorm,
    pub(super) norm2: LayerNorm,
    pub(super) cross: CrossAttention,
    pub(super) block: Block,
    drop_path: DropPath,
}

impl CrossBlock {
    pub(super) fn new(config: &TpsbtConfig, drop_path: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let (width, heads) = (config.width, config.heads);
        let norm = |name: &str| LayerNorm::new(width, config.eps, vb.pp(name));
        Ok(Self {
            norm1: norm("cross_norm1")?,
            norm2: norm("cross_norm2")?,
            cross: CrossAttention::new(width, heads, width / heads, vb.pp("cross_attn"))?,
            block: Block::new(&config.sizes(), drop_path, vb)?,
            drop_path: DropPath::new(drop_path)?,
        })
    }

    /// x (B, N, D) over a context (B, M, D).
    fn forward(&self, x: &Tensor, context: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let context = self.norm2.forward(context)?;
        let over = Over::Features(&context);
        let x = self
            .cross
            .residual(x, over, &self.norm1, &self.drop_path, pass)?;
        self.block.forward(&x, pass)
    }
}

/// What a later stage begins with.
#[derive(Clone, Debug)]
pub(super) struct DownSampling {
    /// Conv1d of kernel and stride 2 along time: a linear layer of pairs, whose inputs are
    /// in the order (channel, time).
    pub(super) time: Linear,
    pub(super) norm: LayerNorm,
    /// Gives each place a score for each bottleneck.
    pub(super) scores: Mlp,
}

impl DownSampling {
    /// `temporal_downsamples.{i}` and `spatial_downsamples.{i}` below `vb`.
    pub(super) fn new(config: &TpsbtConfig, i: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, hidden) = (config.width, config.bottleneck_hidden);
        let (time, space) = (
            vb.pp("temporal_downsamples").pp(i),
            vb.pp("spatial_downsamples").pp(i),
        );
        Ok(Self {
            time: linear(2 * width, width, time)?,
            norm: LayerNorm::new(width, config.eps, space.pp("norm"))?,
            scores: Mlp::between([width, hidden, config.bottlenecks], space.pp("mlp"))?,
        })
    }

    /// Tokens (B, 2T·P, D) → X (B, T·P, D).
    fn halve(&self, x: &Tensor, places: usize) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let slices = tokens / places / 2;
        let pairs = x
            .reshape((batch, slices, 2, places, width))?
            .permute((0, 1, 3, 4, 2))?
            .reshape((batch, slices * places, 2 * width))?;
        self.time.forward(&pairs)
    }

    /// X (B, T·P, D) → Z (B, T·G, D): in each slice, means of its places by weights that
    /// add up to 1 over them.
    fn bottlenecks(&self, x: &Tensor, places: usize) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let scores = self.scores.forward(&self.norm.forward(x)?)?;
        let slices = batch * tokens / places;
        let scores = scores.reshape((slices, places, ()))?.transpose(1, 2)?;
        let weights = softmax(&scores.contiguous()?)?;
        let z = weights.matmul(&x.reshape((slices, places, width))?)?;
        z.reshape((batch, (), width))
    }
}

/// Softmax over the last dimension, of operations that all have a backward.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let largest = x.detach().max_keepdim(D::Minus1)?;
    let powers = x.broadcast_sub(&largest)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

/// A later stage.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) down: DownSampling,
    pub(super) blocks: Vec<CrossBlock>,
}

/// The encoder: tubes in, features F (B, N, D) of the last stage out.
#[derive(Clone, Debug)]
pub struct Tpsbt {
    pub(super) config: TpsbtConfig,
    pub(super) embedding: Embedding,
    pub(super) blocks: Vec<Block>,
    pub(super) stages: Vec<Stage>,
}

impl Tpsbt {
    /// Asks `vb` for the tensors of the config's groups.
    ///
    /// # Errors
    /// When the configuration is not valid or `vb` refuses a tensor.
    pub fn new(config: &TpsbtConfig, vb: VarBuilder<'_>) -> std::result::Result<Self, Error> {
        config.validate()?;
        let sizes = config.sizes();
        let blocks = (0..config.depths[0])
            .map(|i| Block::new(&sizes, sizes.drop_path(i), vb.pp("blocks").pp(i)));
        let stages = config.later_stages().map(|(stage, places)| {
            let blocks =
                places.map(|i| CrossBlock::new(config, sizes.drop_path(i), vb.pp("blocks").pp(i)));
            Ok(Stage {
                blocks: blocks.collect::<Result<_>>()?,
                down: DownSampling::new(config, stage, &vb)?,
            })
        });
        Ok(Self {
            config: config.clone(),
            embedding: Embedding::new(&sizes, Position::SinCos, &vb)?,
            blocks: blocks.collect::<Result<_>>()?,
            stages: stages.collect::<Result<_>>()?,
        })
    }

    /// Tubes (B, N, C·t·p·p) → F.
    pub(super) fn forward(&self, tubes: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let x = self.embedding.forward(tubes, pass)?;
        let (first, later) = self.pyramid(x, self.config.places(), pass)?;
        let f = later.last().unwrap_or(&first);
        pass.record(|| "F".to_owned(), f);
        Ok(f.clone())
    }

    /// Embedded tokens (B, T·P, D) of the same P places in each slice of time → what the
    /// first stage gives, of the same shape, and what the later ones do: (B, T/2·P, D) and
    /// (B, T/4·P, D).
    pub(super) fn pyramid(
        &self,
        mut x: Tensor,
        places: usize,
        pass: &mut Pass,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let mut number = 0..;
        let mut record = |x: &Tensor, pass: &mut Pass| {
            let i = number.next().unwrap_or(0);
            pass.record(|| format!("encoder.blocks.{i}"), x);
        };
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
            record(&x, pass);
        }
        let first = x.clone();
        let mut later = Vec::with_capacity(self.stages.len());
        for (s, stage) in self.stages.iter().enumerate() {
            x = stage.down.halve(&x, places)?;
            pass.record(|| format!("temporal_downsamples.{s}"), &x);
            let mut z = stage.down.bottlenecks(&x, places)?;
            pass.record(|| format!("spatial_downsamples.{s}"), &z);
            if let Some((back, forth)) = stage.blocks.split_last() {
                for block in forth {
                    z = block.forward(&z, &x, pass)?;
                    record(&z, pass);
                }
                x = back.forward(&x, &z, pass)?;
                record(&x, pass);
            }
            later.push(x.clone());
        }
        Ok((first, later))
    }
}
