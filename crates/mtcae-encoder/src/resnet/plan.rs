//! The encoder for inference on the CPU: BatchNorms folded into the convolutions, weights
//! packed once, memory used again.

use mtcae_nn::candle_core::Result;
use mtcae_nn::plan::{Arena, Format};
use mtcae_nn::volume::{Finish, Packed, Pool};
use mtcae_nn::{Isa, VarBuilder, on_pool};

use super::config::{ResNetConfig, Unit, Units};
use super::model::{Block, ResNet, layer};
use crate::error::Error;
use crate::seam::{EncoderConfig, EncoderPlan};

/// What [`ResNet`] computes for one clip after the other, without a tensor in between.
#[derive(Debug)]
pub struct Plan {
    config: ResNetConfig,
    stem: Conv,
    pool: Option<Pool>,
    blocks: Vec<BlockPlan>,
    room: Room,
}

#[derive(Debug)]
struct Conv {
    packed: Packed,
    input: [usize; 3],
    output: [usize; 3],
}

#[derive(Debug)]
struct BlockPlan {
    convs: Vec<Conv>,
    downsample: Option<Conv>,
}

/// Numbers of what a forward works in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// What goes from block to block, each of two.
    pub between: usize,
    /// What goes from convolution to convolution in a block, each of two, and what the stem
    /// gives.
    pub within: usize,
    /// What convolutions of one pixel and a stride read.
    pub strided: usize,
}

impl Room {
    pub(super) fn of(config: &ResNetConfig) -> Self {
        let numbers = |size: [usize; 3], channels| size.iter().product::<usize>() * channels;
        let input = |unit: &Unit| numbers(unit.input, unit.shape.inputs);
        let output = |unit: &Unit| numbers(unit.output, unit.shape.outputs);
        let stem = config.stem();
        let mut room = Self {
            between: input(&stem),
            within: output(&stem),
            strided: 0,
        };
        if config.pool().is_none() {
            room.between = room.between.max(room.within);
        }
        for block in config.blocks() {
            for (i, unit) in block.convs.iter().enumerate() {
                let (from, to) = (input(unit), output(unit));
                match i {
                    0 => room.between = room.between.max(from),
                    _ => room.within = room.within.max(from),
                }
                if i + 1 == block.convs.len() {
                    room.between = room.between.max(to);
                }
            }
            if let Some(unit) = &block.downsample {
                room.strided = room.strided.max(numbers(unit.output, unit.shape.inputs));
            }
        }
        room
    }
}

impl Conv {
    fn of(layer: &mtcae_nn::volume::ConvNorm, unit: &Unit, format: Format) -> Result<Self> {
        Ok(Self {
            packed: layer.plan(format, unit.output[2])?,
            input: unit.input,
            output: unit.output,
        })
    }

    fn numbers(&self) -> [usize; 2] {
        let shape = self.packed.shape();
        let numbers = |size: [usize; 3], channels| size.iter().product::<usize>() * channels;
        [
            numbers(self.input, shape.inputs),
            numbers(self.output, shape.outputs),
        ]
    }

    fn run(&self, x: &[f32], finish: Finish, room: &mut [f32], out: &mut [f32]) {
        let [from, to] = self.numbers();
        let (x, out) = (&x[..from], &mut out[..to]);
        self.packed.run(self.input, x, finish, room, out);
    }
}

impl Block {
    fn plan(&self, units: &Units, format: Format) -> Result<BlockPlan> {
        let convs = self.convs.iter().zip(&units.convs);
        let beside = self.downsample.as_ref().zip(units.downsample.as_ref());
        Ok(BlockPlan {
            convs: convs
                .map(|(conv, unit)| Conv::of(conv, unit, format))
                .collect::<Result<_>>()?,
            downsample: beside
                .map(|(conv, unit)| Conv::of(conv, unit, format))
                .transpose()?,
        })
    }
}

impl Plan {
    /// This encoder, packed for `format`.
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn of(encoder: &ResNet, format: Format) -> Result<Self> {
        let config = &encoder.config;
        let units = config.blocks();
        let blocks = encoder.blocks.iter().zip(&units);
        let blocks = blocks.map(|(block, units)| block.plan(units, format));
        let blocks = blocks.collect::<Result<_>>()?;
        let stem = Conv::of(&encoder.stem, &config.stem(), format)?;
        Ok(Self::build(config, stem, blocks))
    }

    /// Packs the tensors below `vb` a block at a time, so that no more than one block is
    /// held unpacked.
    ///
    /// # Errors
    /// As [`ResNet::new`].
    pub fn new(
        config: &ResNetConfig,
        format: Format,
        vb: VarBuilder<'_>,
    ) -> std::result::Result<Self, Error> {
        config.check("encoder config")?;
        let unit = config.stem();
        let stem = Conv::of(&layer(config, &unit, &vb)?, &unit, format)?;
        let block = |units: &Units| Block::new(config, units, &vb)?.plan(units, format);
        let blocks = config.blocks().iter().map(block).collect::<Result<_>>()?;
        Ok(Self::build(config, stem, blocks))
    }

    fn build(config: &ResNetConfig, stem: Conv, blocks: Vec<BlockPlan>) -> Self {
        Self {
            room: Room::of(config),
            pool: config.pool(),
            config: config.clone(),
            stem,
            blocks,
        }
    }

    fn compute(&self, frames: &[f32], arena: &mut Arena, features: &mut [f32]) {
        let Room {
            between,
            within,
            strided,
        } = self.room;
        let lengths = [between, between, within, within, strided];
        let [mut x, mut y, mut a, mut b, room] = arena.split(lengths);
        let cut = Finish {
            add: false,
            relu: true,
        };
        let c = self.config.channels;
        let pixels = self.config.image_size * self.config.image_size;
        for (frame, out) in frames
            .chunks_exact(c * pixels)
            .zip(x.chunks_exact_mut(c * pixels))
        {
            for (i, plane) in frame.chunks_exact(pixels).enumerate() {
                for (value, out) in plane.iter().zip(out.iter_mut().skip(i).step_by(c)) {
                    *out = *value;
                }
            }
        }
        match &self.pool {
            None => {
                self.stem.run(x, cut, room, y);
                std::mem::swap(&mut x, &mut y);
            }
            Some(pool) => {
                self.stem.run(x, cut, room, a);
                let (size, channels) = (self.stem.output, self.config.stem_width);
                let from = self.stem.numbers()[1];
                let to = pool.output(size).unwrap_or_default();
                let to = to.iter().product::<usize>() * channels;
                pool.forward(Isa::best(), 1, size, channels, &a[..from], &mut x[..to]);
            }
        }
        for block in &self.blocks {
            if let Some(downsample) = &block.downsample {
                downsample.run(x, Finish::default(), room, y);
            }
            let Some((last, convs)) = block.convs.split_last() else {
                continue;
            };
            for (i, conv) in convs.iter().enumerate() {
                match i {
                    0 => conv.run(x, cut, room, a),
                    _ => {
                        conv.run(a, cut, room, b);
                        std::mem::swap(&mut a, &mut b);
                    }
                }
            }
            if block.downsample.is_some() {
                std::mem::swap(&mut x, &mut y);
            }
            // What stands beside the convolutions is where their sum goes.
            let onto = Finish { add: true, ..cut };
            last.run(a, onto, room, x);
        }
        let numbers = features.len();
        features.copy_from_slice(&x[..numbers]);
    }
}

impl EncoderPlan for Plan {
    fn forward(
        &self,
        frames: &[f32],
        arena: &mut Arena,
        features: &mut [f32],
    ) -> std::result::Result<(), Error> {
        self.config.input().check_numbers(frames)?;
        self.config.output().check_numbers(features)?;
        on_pool(|| self.compute(frames, arena, features));
        Ok(())
    }
}
