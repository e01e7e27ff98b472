//! The family of SVFAP: TPSBT, whose later stages see fewer slices of time through a few
//! bottleneck tokens.

mod config;
mod masked;
mod model;
mod names;
mod plan;

use std::sync::Arc;

use mtcae_nn::candle_core::Tensor;
use mtcae_nn::plan::Format;
use mtcae_nn::{Pass, VarBuilder};
use serde_json::Value;

pub use config::TpsbtConfig;
pub use model::Tpsbt;
pub(crate) use names::Svfap;
use plan::Plan;

use crate::block::{self, Block};
use crate::embedding::{Embedding, Position};
use crate::error::Error;
use crate::family::Preset;
use crate::masked::Pretrained;
use crate::seam::{Config, Encoder, EncoderConfig, EncoderPlan, Group, Input, Output};

/// The family's name in a `config.json`.
pub const FAMILY: &str = "tpsbt";

/// Its sizes by name.
pub(crate) const PRESETS: [Preset; 3] = [
    ("tiny", || TpsbtConfig::tiny().into()),
    ("small", || TpsbtConfig::small().into()),
    ("base", || TpsbtConfig::base().into()),
];

impl EncoderConfig for TpsbtConfig {
    fn family(&self) -> &'static str {
        FAMILY
    }

    fn fields(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn validate(&self) -> Result<(), Error> {
        self.check("encoder config")
    }

    fn input(&self) -> Input {
        self.sizes().input()
    }

    fn output(&self) -> Output {
        let [_, h, w] = self.sizes().grid();
        let grid = [self.slices()[2], h, w];
        Output {
            tokens: grid.iter().product(),
            width: self.width,
            grid: Some(grid),
        }
    }

    fn depth(&self) -> usize {
        self.depth()
    }

    fn groups(&self) -> Vec<Group> {
        let (sizes, d) = (self.sizes(), self.width);
        let mut groups = vec![Embedding::group(&sizes, Position::SinCos)];
        let mut i = 0;
        for (stage, depth) in self.depths.into_iter().enumerate() {
            if stage > 0 {
                let name = format!("temporal_downsamples.{}", stage - 1);
                let mut tensors = vec![
                    (format!("{name}.weight"), vec![d, 2 * d]),
                    (format!("{name}.bias"), vec![d]),
                ];
                let name = format!("spatial_downsamples.{}", stage - 1);
                tensors.extend(block::norm(&name, "norm", d));
                let (hidden, chosen) = (self.bottleneck_hidden, self.bottlenecks);
                tensors.extend([
                    (format!("{name}.mlp.fc1.weight"), vec![hidden, d]),
                    (format!("{name}.mlp.fc1.bias"), vec![hidden]),
                    (format!("{name}.mlp.fc2.weight"), vec![chosen, hidden]),
                    (format!("{name}.mlp.fc2.bias"), vec![chosen]),
                ]);
                groups.push(Group {
                    // As its published recipe has it: at the full rate.
                    rate_depth: self.depth() + 1,
                    ..Group::new(format!("down-sampling {stage}"), i + 1, tensors)
                });
            }
            for _ in 0..depth {
                let name = format!("blocks.{i}");
                let mut tensors = Vec::new();
                if stage > 0 {
                    tensors.extend(block::norm(&name, "cross_norm1", d));
                    tensors.extend(block::norm(&name, "cross_norm2", d));
                    tensors.extend(block::cross_attention(&name, "cross_attn", d));
                }
                tensors.extend(Block::tensors(&sizes, &name));
                groups.push(Group::new(name, i + 1, tensors));
                i += 1;
            }
        }
        groups
    }

    fn flops(&self) -> f64 {
        let (d, hidden, p) = (self.width as f64, self.hidden as f64, self.places() as f64);
        let plain = |n: f64| 8.0 * n * d * d + 4.0 * n * n * d + 4.0 * n * d * hidden;
        let cross = |n: f64, m: f64| 4.0 * (n + m) * d * d + 4.0 * n * m * d;
        let slices = self.slices().map(|slices| slices as f64);
        let mut flops = 2.0 * slices[0] * p * self.sizes().tube_len() as f64 * d;
        flops += self.depths[0] as f64 * plain(slices[0] * p);
        for (depth, slices) in self.depths.into_iter().zip(slices).skip(1) {
            let (x, z) = (slices * p, slices * self.bottlenecks as f64);
            let scores = self.bottleneck_hidden as f64 * (d + self.bottlenecks as f64);
            flops += 4.0 * x * d * d + 2.0 * x * scores + 2.0 * z * p * d;
            flops += (depth as f64 - 1.0) * (cross(z, x) + plain(z));
            flops += cross(x, z) + plain(x);
        }
        flops
    }

    /// The first stage has the most tokens, or the second the most bottlenecks.
    fn activations(&self) -> usize {
        let chosen = self.slices()[1] * self.bottlenecks;
        self.sizes().activations(self.sizes().tokens().max(chosen))
    }

    fn with_drop_path(&self, rate: f64) -> Option<Config> {
        let config = Self {
            drop_path: rate,
            ..self.clone()
        };
        Some(config.into())
    }

    fn pretrained(&self) -> Option<&dyn Pretrained> {
        Some(self)
    }

    fn build(&self, vb: VarBuilder<'_>) -> Result<Arc<dyn Encoder>, Error> {
        Ok(Arc::new(Tpsbt::new(self, vb)?))
    }

    fn plan(
        &self,
        format: Format,
        vb: VarBuilder<'_>,
    ) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(Some(Arc::new(Plan::new(self, format, vb)?)))
    }
}

/// Intermediates are `patch_embed` and `embeddings` (B, N, D); `encoder.blocks.{i}`, which
/// are Z (B, T·G, D) where a block computes bottlenecks, and tokens elsewhere;
/// `temporal_downsamples.{s}` (B, T·P, D), `spatial_downsamples.{s}` (B, T·G, D), and `F`.
impl Encoder for Tpsbt {
    fn config(&self) -> &dyn EncoderConfig {
        &self.config
    }

    fn run(&self, tubes: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        self.config.input().check(tubes)?;
        Ok(self.forward(tubes, pass)?)
    }

    fn plan(&self, format: Format) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(Some(Arc::new(Plan::of(self, format)?)))
    }
}
