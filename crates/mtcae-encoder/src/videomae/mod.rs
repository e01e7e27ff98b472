//! The family of VideoMAE: ViT-S, B, L and H over tubes, and MARLIN, which is one too.

mod config;
mod hugging_face;
mod masked;
mod model;
mod names;
mod plan;

use std::sync::Arc;

use mtcae_nn::candle_core::Tensor;
use mtcae_nn::plan::Format;
use mtcae_nn::{Pass, VarBuilder};
use serde_json::Value;

pub use config::VideoMaeConfig;
pub use model::VideoMae;
pub(crate) use names::{Spellings, hugging_face_block};
use plan::Plan;

use crate::block::Block;
use crate::embedding::Embedding;
use crate::error::Error;
use crate::family::Preset;
use crate::masked::Pretrained;
use crate::seam::{Config, Encoder, EncoderConfig, EncoderPlan, Group, Input, Output};

/// The family's name in a `config.json`.
pub const FAMILY: &str = "videomae";

/// Its sizes by name.
pub(crate) const PRESETS: [Preset; 5] = [
    ("tiny", || VideoMaeConfig::tiny().into()),
    ("small", || VideoMaeConfig::small().into()),
    ("base", || VideoMaeConfig::base().into()),
    ("large", || VideoMaeConfig::large().into()),
    ("huge", || VideoMaeConfig::huge().into()),
];

impl EncoderConfig for VideoMaeConfig {
    fn family(&self) -> &'static str {
        FAMILY
    }

    fn fields(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn validate(&self) -> Result<(), Error> {
        self.sizes().check("encoder config")
    }

    fn input(&self) -> Input {
        self.sizes().input()
    }

    fn output(&self) -> Output {
        let grid = self.sizes().grid();
        Output {
            tokens: grid.iter().product(),
            width: self.width,
            grid: Some(grid),
        }
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn groups(&self) -> Vec<Group> {
        let sizes = self.sizes();
        let block = |i: usize| {
            let name = format!("blocks.{i}");
            let tensors = Block::tensors(&sizes, &name);
            Group::new(name, i + 1, tensors)
        };
        let norm = [
            ("norm.weight", vec![self.width]),
            ("norm.bias", vec![self.width]),
        ];
        let norm = self
            .final_norm
            .then(|| Group::new("norm", self.depth + 1, norm));
        let embedding = Embedding::group(&sizes, self.position);
        let blocks = (0..self.depth).map(block);
        [embedding].into_iter().chain(blocks).chain(norm).collect()
    }

    fn flops(&self) -> f64 {
        let (n, d) = (self.tokens() as f64, self.width as f64);
        let block = 8.0 * n * d * d + 4.0 * n * n * d + 4.0 * n * d * self.hidden as f64;
        2.0 * n * self.tube_len() as f64 * d + self.depth as f64 * block
    }

    fn activations(&self) -> usize {
        self.sizes().activations(self.tokens())
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
        Ok(Arc::new(VideoMae::new(self, vb)?))
    }

    fn plan(
        &self,
        format: Format,
        vb: VarBuilder<'_>,
    ) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(Some(Arc::new(Plan::new(self, format, vb)?)))
    }
}

/// Intermediates are `patch_embed`, `embeddings`, `encoder.blocks.{i}` and `F`.
impl Encoder for VideoMae {
    fn config(&self) -> &dyn EncoderConfig {
        &self.config
    }

    fn run(&self, tubes: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        self.encode(&self.embed(tubes, pass)?, pass)
    }

    fn plan(&self, format: Format) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(Some(Arc::new(Plan::of(self, format)?)))
    }
}
