//! R-Net and O-Net: small networks over square crops of 24 and 48 pixels.

use candle_core::Result;
use mtcae_kernels::conv::Conv;
use mtcae_kernels::isa::Isa;
use mtcae_kernels::pool;
use mtcae_nn::VarBuilder;

use super::weights::{conv, dense_of_plane, heads};

/// One step over a plane.
pub(super) enum Step {
    Conv(Conv),
    /// Max pooling with windows of this size over this many channels.
    Pool(usize, usize),
}

/// R-Net or O-Net.
pub struct Refiner {
    side: usize,
    pub(super) steps: Vec<Step>,
    pub(super) dense: Conv,
    pub(super) heads: Conv,
}

/// Planes in flight, reused from crop to crop.
#[derive(Default)]
pub struct Scratch {
    /// Crops of a chunk, filled by the caller.
    pub pixels: Vec<f32>,
    planes: [Vec<f32>; 2],
    features: Vec<f32>,
    hidden: Vec<f32>,
}

/// Two logits, four box offsets and, from O-Net, five x and five y.
pub type Outputs = [f32; 16];

impl Refiner {
    /// R-Net: crops of 24×24, refines boxes.
    pub fn rnet(vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            side: 24,
            steps: vec![
                Step::Conv(conv(vb, "conv1", Some("prelu1"), [28, 3, 3], 3)?),
                Step::Pool(3, 32),
                Step::Conv(conv(vb, "conv2", Some("prelu2"), [48, 28, 3], 32)?),
                Step::Pool(3, 48),
                Step::Conv(conv(vb, "conv3", Some("prelu3"), [64, 48, 2], 48)?),
            ],
            dense: dense_of_plane(vb, "dense4", "prelu4", 3, 64, 128)?,
            heads: heads(vb, &[("dense5_1", 2), ("dense5_2", 4)], 128, &[])?,
        })
    }

    /// O-Net: crops of 48×48, gives boxes and landmarks.
    pub fn onet(vb: &VarBuilder<'_>) -> Result<Self> {
        let ends = [("dense6_1", 2), ("dense6_2", 4), ("dense6_3", 10)];
        Ok(Self {
            side: 48,
            steps: vec![
                Step::Conv(conv(vb, "conv1", Some("prelu1"), [32, 3, 3], 3)?),
                Step::Pool(3, 32),
                Step::Conv(conv(vb, "conv2", Some("prelu2"), [64, 32, 3], 32)?),
                Step::Pool(3, 64),
                Step::Conv(conv(vb, "conv3", Some("prelu3"), [64, 64, 3], 64)?),
                Step::Pool(2, 64),
                Step::Conv(conv(vb, "conv4", Some("prelu4"), [128, 64, 2], 64)?),
            ],
            dense: dense_of_plane(vb, "dense5", "prelu5", 3, 128, 256)?,
            heads: heads(vb, &ends, 256, &[])?,
        })
    }

    /// Side of a crop in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The outputs for the crops in `scratch.pixels`, (n, side, side, 3) as (x −
    /// 127.5)/128 in RGB. A crop's outputs do not depend on the others.
    pub fn run(&self, scratch: &mut Scratch) -> Vec<Outputs> {
        let isa = Isa::best();
        let s = scratch;
        s.features.clear();
        for crop in s.pixels.chunks_exact(self.side * self.side * 3) {
            s.planes[0].clear();
            s.planes[0].extend_from_slice(crop);
            let mut side = self.side;
            for step in &self.steps {
                let [from, to] = &mut s.planes;
                let next = match step {
                    Step::Conv(conv) => side - conv.shape().width + 1,
                    Step::Pool(kernel, _) => pool::output(side, *kernel),
                };
                match step {
                    Step::Conv(conv) => {
                        to.resize(next * next * conv.output_stride(), 0.0);
                        conv.plane(from, side, to);
                    }
                    Step::Pool(kernel, channels) => {
                        to.resize(next * next * channels, 0.0);
                        pool::plane(isa, from, side, *kernel, *channels, to);
                    }
                }
                s.planes.swap(0, 1);
                side = next;
            }
            s.features.extend_from_slice(&s.planes[0]);
        }
        let n = s.features.len() / self.dense.shape().inputs;
        s.hidden.resize(n * self.dense.output_stride(), 0.0);
        self.dense.row(&[&s.features], &mut s.hidden);
        let mut out = vec![[0.0; 16]; n];
        self.heads.row(&[&s.hidden], out.as_flattened_mut());
        out
    }
}
