//! R-Net and O-Net: small networks over square crops of 24 and 48 pixels.

use candle_core::Result;
use mtcae_kernels::conv::Conv;
use mtcae_kernels::isa::Isa;
use mtcae_kernels::pool;
use mtcae_nn::VarBuilder;
use rayon::prelude::*;

use super::pool::Pool;
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
type Planes = [Vec<f32>; 2];

/// Crops whose dense layers one task computes, so that their weights are read once.
const CROPS: usize = 12;

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

    /// The outputs for `count` crops. `crop(i, pixels)` writes crop i, (side, side, 3) as
    /// (x − 127.5)/128 in RGB. A crop's outputs do not depend on the others.
    pub fn run(&self, count: usize, crop: impl Fn(usize, &mut [f32]) + Sync) -> Vec<Outputs> {
        let length = self.dense.shape().inputs;
        let mut features = vec![0.0; count * length];
        let planes = Pool::<Planes>::default();
        features
            .par_chunks_exact_mut(length)
            .with_max_len(1)
            .enumerate()
            .for_each(|(i, features)| {
                planes.lend(|planes| {
                    fit(&mut planes[0], self.side * self.side * 3);
                    crop(i, &mut planes[0][..self.side * self.side * 3]);
                    self.features(planes, features);
                });
            });
        let mut outputs = vec![[0.0; 16]; count];
        outputs
            .par_chunks_mut(CROPS)
            .with_max_len(1)
            .zip(features.par_chunks(CROPS * length))
            .for_each(|(outputs, features)| {
                let mut hidden = vec![0.0; outputs.len() * self.dense.output_stride()];
                self.dense.row(&[features], &mut hidden);
                self.heads.row(&[&hidden], outputs.as_flattened_mut());
            });
        outputs
    }

    /// The last plane of the crop in the first of `planes`.
    fn features(&self, planes: &mut Planes, features: &mut [f32]) {
        let isa = Isa::best();
        let (mut side, mut channels) = (self.side, 3);
        for (i, step) in self.steps.iter().enumerate() {
            let [from, to] = planes;
            let next = match step {
                Step::Conv(conv) => side - conv.shape().width + 1,
                Step::Pool(kernel, _) => pool::output(side, *kernel),
            };
            let made = match step {
                Step::Conv(conv) => conv.output_stride(),
                Step::Pool(_, channels) => *channels,
            };
            let to = if i + 1 == self.steps.len() {
                &mut *features
            } else {
                fit(to, next * next * made);
                &mut to[..next * next * made]
            };
            let from = &from[..side * side * channels];
            match step {
                Step::Conv(conv) => conv.plane(from, side, to),
                Step::Pool(kernel, channels) => {
                    pool::plane(isa, from, side, *kernel, *channels, to);
                }
            }
            planes.swap(0, 1);
            (side, channels) = (next, made);
        }
    }
}

/// Makes room without giving any back.
fn fit(plane: &mut Vec<f32>, length: usize) {
    if plane.len() < length {
        plane.resize(length, 0.0);
    }
}
