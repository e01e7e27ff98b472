//! The family of MAE-DFER: LGI-Former, whose tokens attend within regions, and the
//! regions to each other.

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

pub use config::{Features, LgiFormerConfig};
pub use model::LgiFormer;
pub(crate) use names::MaeDfer;
use plan::Plan;

use crate::block;
use crate::embedding::{Embedding, Position};
use crate::error::Error;
use crate::family::Preset;
use crate::masked::Pretrained;
use crate::seam::{Config, Encoder, EncoderConfig, EncoderPlan, Group, Input, Output, Parameter};

/// The family's name in a `config.json`.
pub const FAMILY: &str = "lgi-former";

/// Its sizes by name.
pub(crate) const PRESETS: [Preset; 2] = [
    ("tiny", || LgiFormerConfig::tiny().into()),
    ("base", || LgiFormerConfig::base().into()),
];

impl EncoderConfig for LgiFormerConfig {
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
        let (grid, width) = (self.sizes().grid(), self.width);
        match self.features {
            Features::Tokens => Output {
                tokens: grid.iter().product(),
                width,
                grid: Some(grid),
            },
            Features::Regions => Output {
                tokens: self.region_count(),
                width,
                grid: Some(self.regions),
            },
        }
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn groups(&self) -> Vec<Group> {
        let (sizes, d) = (self.sizes(), self.width);
        let last = self.depth + 1;
        let regions = Group {
            // As its published recipe has it: at the full rate.
            rate_depth: last,
            parameters: vec![Parameter {
                decays: false,
                ..Parameter::new("lg_region_tokens", vec![self.region_count(), d])
            }],
            ..Group::new::<&str>("region tokens", 0, [])
        };
        let block = |i: usize| {
            let name = format!("blocks.{i}");
            let locals = [
                block::norm(&name, "third_attn_norm0", d),
                block::norm(&name, "third_attn_norm1", d),
                block::cross_attention(&name, "third_attn", d),
            ];
            let tensors = [
                block::norm(&name, "first_attn_norm0", d),
                block::self_attention(&name, "first_attn", d),
                block::norm(&name, "second_attn_norm0", d),
                block::self_attention(&name, "second_attn", d),
                block::norm(&name, "norm2", d),
                block::mlp(&name, d, self.hidden),
            ];
            let mut group = Group::new(name, i + 1, tensors.concat());
            // The last block's tokens of tubes are no part of the regions'.
            let used = self.features == Features::Tokens || i + 1 < self.depth;
            let locals = locals.concat().into_iter();
            group
                .parameters
                .extend(locals.map(|(name, shape)| Parameter {
                    used,
                    ..Parameter::new(name, shape)
                }));
            group
        };
        let norm = self.final_norm.then(|| {
            Group::new(
                "norm",
                last,
                [("norm.weight", vec![d]), ("norm.bias", vec![d])],
            )
        });
        let embedding = Embedding::group(&sizes, Position::SinCos);
        let blocks = (0..self.depth).map(block);
        let first = [embedding, regions].into_iter();
        first.chain(blocks).chain(norm).collect()
    }

    fn flops(&self) -> f64 {
        let (tubes, d, r) = (
            self.sizes().tokens() as f64,
            self.width as f64,
            self.region_count() as f64,
        );
        let (n, within) = (tubes + r, self.region_tokens() as f64 + 1.0);
        let mlp = |rows: f64| 4.0 * rows * d * self.hidden as f64;
        let regions = 8.0 * n * d * d + 4.0 * n * within * d + 8.0 * r * d * d + 4.0 * r * r * d;
        let locals = 4.0 * tubes * d * d + 4.0 * r * d * d + 4.0 * tubes * r * d;
        let (blocks, last) = match self.features {
            Features::Tokens => (self.depth as f64, 0.0),
            Features::Regions => (self.depth as f64 - 1.0, regions + mlp(r)),
        };
        2.0 * tubes * self.sizes().tube_len() as f64 * d
            + blocks * (regions + locals + mlp(n))
            + last
    }

    fn activations(&self) -> usize {
        let rows = self.sizes().tokens() + self.region_count();
        self.sizes().activations(rows)
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
        Ok(Arc::new(LgiFormer::new(self, vb)?))
    }

    fn plan(
        &self,
        format: Format,
        vb: VarBuilder<'_>,
    ) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(Some(Arc::new(Plan::new(self, format, vb)?)))
    }
}

/// Intermediates are `patch_embed` and `embeddings` (B, N, D) in the grid's order; of block
/// i, `encoder.blocks.{i}.first` (B·R, 1 + L, D) within regions, `.messengers` (B, R, D),
/// and `encoder.blocks.{i}` (B·R, 1 + L, D), which the last block has only where F is the
/// tokens; and `F`.
impl Encoder for LgiFormer {
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
