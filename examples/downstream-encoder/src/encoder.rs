//! The encoder: the mean colour of each patch of each frame, and one layer.

use std::sync::Arc;

use mtcae_dfer::model::encoder::candle_core::{Module, Tensor};
use mtcae_dfer::model::encoder::nn::{Linear, Pass, VarBuilder, linear};
use mtcae_dfer::model::encoder::{Encoder, EncoderConfig, Error, Group, Input, Layout, Output};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchMeans {
    pub frames: usize,
    pub size: usize,
    pub patch: usize,
    pub width: usize,
}

#[derive(Debug)]
struct Built(PatchMeans, Linear);

impl EncoderConfig for PatchMeans {
    fn family(&self) -> &'static str {
        "patch-means"
    }

    fn fields(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }

    fn input(&self) -> Input {
        Input {
            frames: self.frames,
            size: self.size,
            channels: 3,
            layout: Layout::Frames,
        }
    }

    fn output(&self) -> Output {
        let (t, side) = (self.frames, self.size / self.patch);
        Output {
            tokens: t * side * side,
            width: self.width,
            grid: Some([t, side, side]),
        }
    }

    fn groups(&self) -> Vec<Group> {
        let d = self.width;
        vec![Group::new(
            "layer",
            1,
            [("layer.weight", vec![d, 3]), ("layer.bias", vec![d])],
        )]
    }

    fn build(&self, vb: VarBuilder<'_>) -> Result<Arc<dyn Encoder>, Error> {
        let layer = linear(3, self.width, vb.pp("layer"))?;
        Ok(Arc::new(Built(self.clone(), layer)))
    }
}

impl Encoder for Built {
    fn config(&self) -> &dyn EncoderConfig {
        &self.0
    }

    fn run(&self, frames: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        self.0.input().check(frames)?;
        let means = frames.flatten(0, 1)?.avg_pool2d(self.0.patch)?;
        let tokens = means.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let tokens = tokens.reshape((frames.dim(0)?, self.0.output().tokens, 3))?;
        let f = self.1.forward(&tokens)?.tanh()?;
        pass.record(|| "F".to_owned(), &f);
        Ok(f)
    }
}
