//! The family of residual networks: 3D ResNeXt-50 and R3D-18 over volumes, ResNet-18 and
//! ResNet-50 over frames. F is the last map, a token a place, frames as time.

mod config;
mod model;
mod names;
mod plan;

use std::sync::Arc;

use mtcae_nn::candle_core::Tensor;
use mtcae_nn::plan::Format;
use mtcae_nn::volume::weight_dims;
use mtcae_nn::{Pass, VarBuilder};
use serde_json::Value;

pub use config::{Block, ClipGroups, Over, ResNetConfig};
pub use model::ResNet;
pub(crate) use names::Spellings;
use plan::{Plan, Room};

use crate::error::Error;
use crate::family::Preset;
use crate::seam::{Encoder, EncoderConfig, EncoderPlan, Group, Input, Layout, Output, Parameter};
use config::Unit;

/// The family's name in a `config.json`.
pub const FAMILY: &str = "resnet";

/// Its sizes by name.
pub(crate) const PRESETS: [Preset; 5] = [
    ("tiny", || ResNetConfig::tiny().into()),
    ("resnet18", || ResNetConfig::resnet18().into()),
    ("resnet50", || ResNetConfig::resnet50().into()),
    ("r3d18", || ResNetConfig::r3d18().into()),
    ("resnext50", || ResNetConfig::resnext50_3d().into()),
];

impl ResNetConfig {
    /// The tensors of a unit.
    fn parameters(&self, unit: &Unit) -> Vec<Parameter> {
        let Unit {
            conv, norm, shape, ..
        } = unit;
        let kernel = weight_dims(shape, self.pictures());
        let mut all = vec![Parameter::new(format!("{conv}.weight"), kernel)];
        let of_norm = [
            ("weight", true),
            ("bias", true),
            ("running_mean", false),
            ("running_var", false),
        ];
        all.extend(of_norm.map(|(name, used)| Parameter {
            used,
            follows: !used && self.batch_norm.is_some(),
            ..Parameter::new(format!("{norm}.{name}"), vec![shape.outputs])
        }));
        all
    }
}

impl EncoderConfig for ResNetConfig {
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
        Input {
            frames: self.frames,
            size: self.image_size,
            channels: self.channels,
            layout: Layout::Frames,
        }
    }

    fn output(&self) -> Output {
        let (width, grid) = self.last();
        Output {
            tokens: grid.iter().product(),
            width,
            grid: Some(grid),
        }
    }

    fn groups(&self) -> Vec<Group> {
        let group = |name: &str, depth: usize, units: &mut dyn Iterator<Item = &Unit>| Group {
            parameters: units.flat_map(|unit| self.parameters(unit)).collect(),
            ..Group::new::<&str>(name, depth, [])
        };
        let mut groups = vec![group("stem", 0, &mut [self.stem()].iter())];
        for (i, block) in self.blocks().iter().enumerate() {
            let mut units = block.convs.iter().chain(&block.downsample);
            groups.push(group(&block.name, i + 1, &mut units));
        }
        groups
    }

    fn flops(&self) -> f64 {
        let one = |unit: &Unit| {
            let pixels = unit.output.iter().product::<usize>() as f64;
            2.0 * pixels * unit.shape.weights() as f64
        };
        self.all().iter().map(one).sum()
    }

    fn activations(&self) -> usize {
        let room = Room::of(self);
        2 * room.between + 2 * room.within + room.strided
    }

    fn build(&self, vb: VarBuilder<'_>) -> Result<Arc<dyn Encoder>, Error> {
        Ok(Arc::new(ResNet::new(self, vb)?))
    }

    fn plan(
        &self,
        format: Format,
        vb: VarBuilder<'_>,
    ) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(Some(Arc::new(Plan::new(self, format, vb)?)))
    }
}

/// Intermediates are `stem`, `encoder.layer{l}.{i}` (B, t, h, w, C) of each block, and `F`.
impl Encoder for ResNet {
    fn config(&self) -> &dyn EncoderConfig {
        &self.config
    }

    fn run(&self, frames: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        self.config.input().check(frames)?;
        Ok(self.forward(frames, pass)?)
    }

    fn plan(&self, format: Format) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(Some(Arc::new(Plan::of(self, format)?)))
    }
}
