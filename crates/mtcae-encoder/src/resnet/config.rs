//! Sizes of a residual network, and what follows from them.

use mtcae_nn::volume::{Kind, Pool, Shape, Statistics};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sizes::{MOST_BLOCKS, MOST_NUMBERS, fault};

/// Everything needed to rebuild a residual network over frames or volumes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Height and width of a frame, in pixels.
    pub image_size: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Colour channels.
    pub channels: usize,
    /// What its kernels go over.
    pub over: Over,
    /// Frames of the first kernel, an odd number: 7 (3D ResNeXt), 3 (R3D), 1 over frames.
    pub stem_frames: usize,
    /// Channels after the first convolution.
    pub stem_width: usize,
    /// Whether a max pooling follows it.
    pub stem_pool: bool,
    /// What its blocks are.
    pub block: Block,
    /// Blocks of each of the four layers.
    pub depths: [usize; 4],
    /// Channels within the blocks of the first layer; those of each layer are twice as many
    /// as of the one before.
    pub width: usize,
    /// Channels that a bottleneck gives for each within it; 1 of basic blocks.
    pub expansion: usize,
    /// Groups of the convolution inside of a bottleneck.
    pub groups: usize,
    /// ε of every BatchNorm.
    pub eps: f64,
    /// Groups of clips whose mean and variance BatchNorm takes in training; without, the
    /// running ones are taken as they are, and stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<ClipGroups>,
}

/// What kernels go over.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// Each frame by itself: time stays as long as it is.
    Frames,
    /// Time, height and width.
    Volumes,
}

/// What blocks are.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// Two convolutions of 3.
    Basic,
    /// A convolution of 1, one of 3 in groups, one of 1.
    Bottleneck,
}

/// Clips whose statistics BatchNorm takes together in training; the last group of a batch that is
/// no whole number of them is smaller. Of batches that are, neither size nor the accumulation of
/// gradients changes a result.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ClipGroups {
    /// Clips of a group.
    pub clips: usize,
    /// The share of the new in the running mean and variance, as PyTorch counts it.
    pub momentum: f64,
}

/// A convolution and its BatchNorm: where they are among the tensors, and what they take.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub conv: String,
    pub norm: String,
    pub shape: Shape,
    pub input: [usize; 3],
    pub output: [usize; 3],
}

/// The convolutions of a block, and the one beside them.
#[derive(Clone, Debug)]
pub(super) struct Units {
    pub name: String,
    pub convs: Vec<Unit>,
    pub downsample: Option<Unit>,
}

impl ResNetConfig {
    /// 3D ResNeXt-50 of 32 groups (Hara, Kataoka and Satoh, CVPR 2018) on 16 frames of 224².
    pub fn resnext50_3d() -> Self {
        Self {
            image_size: 224,
            frames: 16,
            channels: 3,
            over: Over::Volumes,
            stem_frames: 7,
            stem_width: 64,
            stem_pool: true,
            block: Block::Bottleneck,
            depths: [3, 4, 6, 3],
            width: 128,
            expansion: 2,
            groups: 32,
            eps: 1e-5,
            batch_norm: None,
        }
    }

    /// R3D-18 (Tran et al., CVPR 2018; torchvision's `r3d_18`) on 16 frames of 112².
    pub fn r3d18() -> Self {
        Self {
            image_size: 112,
            stem_frames: 3,
            stem_pool: false,
            block: Block::Basic,
            depths: [2; 4],
            width: 64,
            expansion: 1,
            groups: 1,
            ..Self::resnext50_3d()
        }
    }

    /// ResNet-18 (He et al., 2015, arXiv 1512.03385; torchvision's `resnet18`) of each of 16
    /// frames of 224².
    pub fn resnet18() -> Self {
        Self {
            image_size: 224,
            over: Over::Frames,
            stem_frames: 1,
            stem_pool: true,
            ..Self::r3d18()
        }
    }

    /// ResNet-50, as [`Self::resnet18`]; the stride is that of torchvision, in the
    /// convolution of 3.
    pub fn resnet50() -> Self {
        Self {
            block: Block::Bottleneck,
            depths: [3, 4, 6, 3],
            expansion: 4,
            ..Self::resnet18()
        }
    }

    /// R3D of one block a layer and 8 channels on 32×32: a toy.
    pub fn tiny() -> Self {
        Self {
            image_size: 32,
            stem_width: 8,
            depths: [1; 4],
            width: 8,
            ..Self::r3d18()
        }
    }

    /// Along time, a length of kernels, strides or paddings over volumes; over frames `one`.
    fn in_time(&self, n: usize, one: usize) -> usize {
        match self.over {
            Over::Volumes => n,
            Over::Frames => one,
        }
    }

    pub(super) fn pictures(&self) -> bool {
        self.over == Over::Frames
    }

    pub(super) fn statistics(&self) -> Statistics {
        match self.batch_norm {
            None => Statistics::Frozen,
            Some(ClipGroups { clips, momentum }) => Statistics::Groups { clips, momentum },
        }
    }

    /// The first convolution.
    pub(super) fn stem(&self) -> Unit {
        let t = self.stem_frames;
        let shape = Shape {
            groups: 1,
            inputs: self.channels,
            outputs: self.stem_width,
            kernel: [t, 7, 7],
            stride: [1, 2, 2],
            padding: [t / 2, 3, 3],
        };
        let input = [self.frames, self.image_size, self.image_size];
        unit("conv1".to_owned(), "bn1".to_owned(), shape, input)
    }

    /// What follows it.
    pub(super) fn pool(&self) -> Option<Pool> {
        let (kernel, stride) = (self.in_time(3, 1), self.in_time(2, 1));
        self.stem_pool.then_some(Pool {
            kind: Kind::Max,
            kernel: [kernel, 3, 3],
            stride: [stride, 2, 2],
            padding: [kernel / 2, 1, 1],
        })
    }

    /// The blocks, in order.
    pub(super) fn blocks(&self) -> Vec<Units> {
        let stem = self.stem().output;
        let pooled = self.pool().and_then(|pool| pool.output(stem));
        let (mut size, mut width) = (pooled.unwrap_or(stem), self.stem_width);
        let mut blocks = Vec::new();
        for (layer, &depth) in self.depths.iter().enumerate() {
            let planes = self.width << layer;
            for i in 0..depth {
                let name = format!("layer{}.{i}", layer + 1);
                let stride = if layer > 0 && i == 0 { 2 } else { 1 };
                let block = self.units(name, [width, planes, stride], size);
                width = planes * self.expansion;
                size = block.convs.last().map_or(size, |last| last.output);
                blocks.push(block);
            }
        }
        blocks
    }

    fn units(&self, name: String, [inputs, planes, stride]: [usize; 3], size: [usize; 3]) -> Units {
        let outputs = planes * self.expansion;
        let strides = [self.in_time(stride, 1), stride, stride];
        let wide = |inputs, outputs, stride, groups| Shape {
            groups,
            inputs,
            outputs,
            kernel: [self.in_time(3, 1), 3, 3],
            stride,
            padding: [self.in_time(1, 0), 1, 1],
        };
        let narrow = |inputs, outputs, stride| Shape {
            groups: 1,
            inputs,
            outputs,
            kernel: [1; 3],
            stride,
            padding: [0; 3],
        };
        let shapes = match self.block {
            Block::Basic => vec![
                wide(inputs, planes, strides, 1),
                wide(planes, planes, [1; 3], 1),
            ],
            Block::Bottleneck => vec![
                narrow(inputs, planes, [1; 3]),
                wide(planes, planes, strides, self.groups),
                narrow(planes, outputs, [1; 3]),
            ],
        };
        let mut at = size;
        let convs = shapes.into_iter().enumerate().map(|(i, shape)| {
            let part = |kind: &str| format!("{name}.{kind}{}", i + 1);
            let unit = unit(part("conv"), part("bn"), shape, at);
            at = unit.output;
            unit
        });
        let convs = convs.collect();
        let beside = stride != 1 || inputs != outputs;
        let downsample = beside.then(|| {
            let part = |i: usize| format!("{name}.downsample.{i}");
            unit(part(0), part(1), narrow(inputs, outputs, strides), size)
        });
        Units {
            name,
            convs,
            downsample,
        }
    }

    /// Channels and grid (t, h, w) of the last map.
    pub(super) fn last(&self) -> (usize, [usize; 3]) {
        let blocks = self.blocks();
        let last = blocks.last().and_then(|block| block.convs.last());
        last.map_or((0, [0; 3]), |unit| (unit.shape.outputs, unit.output))
    }

    /// All convolutions.
    pub(super) fn all(&self) -> Vec<Unit> {
        let blocks = self.blocks().into_iter();
        let blocks = blocks.flat_map(|block| block.convs.into_iter().chain(block.downsample));
        [self.stem()].into_iter().chain(blocks).collect()
    }

    /// Checks that the values, which come from `origin`, make a network, before memory for
    /// any of it is had.
    pub(super) fn check(&self, origin: &str) -> Result<(), Error> {
        let fail = |field: &str, reason: String| Err(fault(origin, field, reason));
        // Far above any network, low enough that no product of five overflows.
        for (field, value, most) in [
            ("image_size", self.image_size, 1 << 14),
            ("frames", self.frames, 1 << 14),
            ("channels", self.channels, 1 << 8),
            ("stem_frames", self.stem_frames, 1 << 6),
            ("stem_width", self.stem_width, 1 << 14),
            ("width", self.width, 1 << 12),
            ("expansion", self.expansion, 1 << 4),
            ("groups", self.groups, 1 << 12),
        ] {
            if value == 0 || value > most {
                return fail(field, format!("{value} should be from 1 to {most}"));
            }
        }
        if let Some(depth) = self.depths.iter().find(|d| **d == 0 || **d > MOST_BLOCKS) {
            let reason = format!("a layer of {depth} blocks, should be from 1 to {MOST_BLOCKS}");
            return fail("depths", reason);
        }
        if self.stem_frames.is_multiple_of(2) {
            let reason = format!("{} should be odd", self.stem_frames);
            return fail("stem_frames", reason);
        }
        if self.pictures() && self.stem_frames != 1 {
            let reason = format!(
                "{} should be 1 where kernels go over frames",
                self.stem_frames
            );
            return fail("stem_frames", reason);
        }
        if self.block == Block::Basic && (self.expansion, self.groups) != (1, 1) {
            let reason = "basic blocks have an expansion of 1 and one group".to_owned();
            return fail("block", reason);
        }
        if !self.width.is_multiple_of(self.groups) {
            let reason = format!("{} do not divide a width of {}", self.groups, self.width);
            return fail("groups", reason);
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return fail("eps", format!("{} should be above 0", self.eps));
        }
        if let Some(groups) = self.batch_norm {
            if groups.clips == 0 {
                return fail("batch_norm.clips", "0 should be at least 1".to_owned());
            }
            if !(0.0..=1.0).contains(&groups.momentum) {
                let reason = format!("{} should be from 0 to 1", groups.momentum);
                return fail("batch_norm.momentum", reason);
            }
        }
        for unit in self.all() {
            let pixels: usize = unit.output.iter().product();
            let numbers = (pixels * unit.shape.outputs).max(unit.shape.weights()) as u64;
            if numbers > MOST_NUMBERS {
                let reason = format!(
                    "{} has {numbers} numbers, more than {MOST_NUMBERS}",
                    unit.conv
                );
                return fail("width", reason);
            }
        }
        Ok(())
    }
}

fn unit(conv: String, norm: String, shape: Shape, input: [usize; 3]) -> Unit {
    Unit {
        output: shape.output(input).unwrap_or_default(),
        conv,
        norm,
        shape,
        input,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::Config;

    /// Parameters that are trained, without a classifier.
    fn parameters(config: ResNetConfig) -> usize {
        let groups = Config::from(config).groups().into_iter();
        let all = groups.flat_map(|group| group.parameters);
        all.filter(|p| p.used)
            .map(|p| p.shape.iter().product::<usize>())
            .sum()
    }

    #[test]
    fn parameters_and_maps_are_those_of_the_published_networks() {
        // 25,882,056 with 8 classes.
        let config = ResNetConfig::resnext50_3d();
        assert_eq!(config.last(), (2048, [1, 7, 7]));
        assert_eq!(parameters(config) + 2048 * 8 + 8, 25_882_056);
        let long = ResNetConfig {
            frames: 30,
            ..ResNetConfig::resnext50_3d()
        };
        assert_eq!(long.last(), (2048, [2, 7, 7]));
        // torchvision's, with their classifiers.
        let config = ResNetConfig::r3d18();
        assert_eq!(config.last(), (512, [2, 7, 7]));
        assert_eq!(parameters(config) + 512 * 400 + 400, 33_371_472);
        let config = ResNetConfig::resnet18();
        assert_eq!(config.last(), (512, [16, 7, 7]));
        assert_eq!(parameters(config) + 512 * 1000 + 1000, 11_689_512);
        let config = ResNetConfig::resnet50();
        assert_eq!(config.last(), (2048, [16, 7, 7]));
        assert_eq!(parameters(config) + 2048 * 1000 + 1000, 25_557_032);
    }

    #[test]
    fn values_that_make_no_network_are_refused_by_field() {
        let fine = ResNetConfig::tiny();
        fine.check("a.json").expect("valid");
        for (config, want) in [
            (
                ResNetConfig {
                    width: 0,
                    ..fine.clone()
                },
                "width: 0 should be from 1 to 4096",
            ),
            (
                ResNetConfig {
                    depths: [1, 0, 1, 1],
                    ..fine.clone()
                },
                "depths: a layer of 0 blocks",
            ),
            (
                ResNetConfig {
                    stem_frames: 2,
                    ..fine.clone()
                },
                "stem_frames: 2 should be odd",
            ),
            (
                ResNetConfig {
                    over: Over::Frames,
                    ..fine.clone()
                },
                "stem_frames: 3 should be 1",
            ),
            (
                ResNetConfig {
                    groups: 2,
                    ..fine.clone()
                },
                "block: basic blocks have",
            ),
            (
                ResNetConfig {
                    groups: 3,
                    block: Block::Bottleneck,
                    ..fine.clone()
                },
                "groups: 3 do not divide a width of 8",
            ),
            (
                ResNetConfig {
                    batch_norm: Some(ClipGroups {
                        clips: 0,
                        momentum: 0.1,
                    }),
                    ..fine.clone()
                },
                "batch_norm.clips: 0 should be at least 1",
            ),
            (
                ResNetConfig {
                    image_size: 1 << 14,
                    frames: 1 << 10,
                    ..fine.clone()
                },
                "width: conv1 has",
            ),
        ] {
            let said = config.check("a.json").expect_err(want).to_string();
            assert!(said.starts_with(&format!("a.json: {want}")), "{said}");
        }
    }
}
