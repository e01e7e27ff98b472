//! Sizes of the encoder, and what follows from them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sizes::{MOST_NUMBERS, Sizes, fault};

/// Everything needed to rebuild a TPSBT.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TpsbtConfig {
    /// Height and width of a frame, in pixels.
    pub image_size: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Colour channels.
    pub channels: usize,
    /// Height and width of a tube, in pixels.
    pub patch: usize,
    /// Frames of a tube.
    pub tubelet: usize,
    /// Channels D of a token.
    pub width: usize,
    /// Blocks of the three stages; the last block of the second and of the third is the
    /// one that goes back from the bottleneck.
    pub depths: [usize; 3],
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Channels inside the MLP.
    pub hidden: usize,
    /// Bottleneck tokens G of one slice of time.
    pub bottlenecks: usize,
    /// Channels inside the MLP that chooses them.
    pub bottleneck_hidden: usize,
    /// ε of every LayerNorm.
    pub eps: f64,
    /// Drop path rate of the last block in training; it grows linearly from 0 at
    /// the first.
    #[serde(default)]
    pub drop_path: f64,
}

impl TpsbtConfig {
    /// SVFAP's base: width 512, 12, 6 and 3 blocks, 8 heads, 16 frames of 160²
    /// (sunlicai/SVFAP, `modeling_finetune.py`).
    pub fn base() -> Self {
        Self::sized(512, [12, 6, 3], 8)
    }

    /// SVFAP's small: width 384, 8, 4 and 2 blocks. Its paper says no more; heads of 64
    /// channels and 128 channels for choosing bottlenecks are taken from the base.
    pub fn small() -> Self {
        Self::sized(384, [8, 4, 2], 6)
    }

    /// 7 blocks of width 96 on 112×112: a toy.
    pub fn tiny() -> Self {
        Self {
            image_size: 112,
            bottleneck_hidden: 24,
            ..Self::sized(96, [4, 2, 1], 3)
        }
    }

    fn sized(width: usize, depths: [usize; 3], heads: usize) -> Self {
        Self {
            image_size: 160,
            frames: 16,
            channels: 3,
            patch: 16,
            tubelet: 2,
            width,
            depths,
            heads,
            hidden: 4 * width,
            bottlenecks: 8,
            bottleneck_hidden: 128,
            eps: 1e-6,
            drop_path: 0.0,
        }
    }

    /// Heads of 64 channels, as in all published widths.
    pub(super) fn known_heads(width: usize) -> Option<usize> {
        [384, 512].contains(&width).then_some(width / 64)
    }

    /// Blocks of all stages.
    pub(super) fn depth(&self) -> usize {
        self.depths
            .iter()
            .fold(0, |sum, depth| sum.saturating_add(*depth))
    }

    /// Slices of time in each stage: each has half as many as the one before.
    pub(super) fn slices(&self) -> [usize; 3] {
        let slices = self.frames / self.tubelet;
        [slices, slices / 2, slices / 4]
    }

    /// Places of a slice.
    pub(super) fn places(&self) -> usize {
        let [_, h, w] = self.sizes().grid();
        h * w
    }

    /// The numbers of the later stages, from 0, and of their blocks.
    pub(super) fn later_stages(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let [first, second, third] = self.depths;
        let middle = first + second;
        [(0, first..middle), (1, middle..middle + third)].into_iter()
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            image_size: self.image_size,
            frames: self.frames,
            channels: self.channels,
            patch: self.patch,
            tubelet: self.tubelet,
            width: self.width,
            depth: self.depth(),
            heads: self.heads,
            hidden: self.hidden,
            eps: self.eps,
            drop_path: self.drop_path,
        }
    }

    /// Checks that the values, which come from `origin`, make an encoder.
    pub(super) fn check(&self, origin: &str) -> Result<(), Error> {
        if self.depths.contains(&0) {
            let reason = format!("{:?}: every stage needs a block", self.depths);
            return Err(fault(origin, "depths", reason));
        }
        self.sizes().check(origin)?;
        let slices = self.slices()[0];
        if !slices.is_multiple_of(4) {
            let reason = format!(
                "{} make {slices} slices of time of {} frames, and time is halved twice: should \
                 be a multiple of {}",
                self.frames,
                self.tubelet,
                4 * self.tubelet
            );
            return Err(fault(origin, "frames", reason));
        }
        for (field, value, most) in [
            ("bottlenecks", self.bottlenecks, 1 << 10),
            ("bottleneck_hidden", self.bottleneck_hidden, 1 << 12),
        ] {
            if value == 0 || value > most {
                let reason = format!("{value} is not within 1 to {most}");
                return Err(fault(origin, field, reason));
            }
        }
        let halved = (slices / 2) as u64;
        let widest = self.width.max(self.hidden).max(self.places()) as u64;
        let chosen = halved * self.bottlenecks as u64 * widest;
        let scores = halved * self.places() as u64 * self.bottleneck_hidden as u64;
        for (field, numbers) in [("bottlenecks", chosen), ("bottleneck_hidden", scores)] {
            if numbers > MOST_NUMBERS {
                let reason = format!("they make {numbers} numbers, more than {MOST_NUMBERS}");
                return Err(fault(origin, field, reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        type Change = fn(&mut TpsbtConfig);
        let wrong: [(&str, Change); 5] = [
            ("frames", |c| c.frames = 12),
            ("depths", |c| c.depths[1] = 0),
            ("depth", |c| c.depths[0] = usize::MAX),
            ("bottlenecks", |c| c.bottlenecks = 0),
            ("heads", |c| c.heads = 7),
        ];
        for (field, change) in wrong {
            let mut config = TpsbtConfig::base();
            change(&mut config);
            let error = config.check("a.json").expect_err(field).to_string();
            assert!(error.starts_with(&format!("a.json: {field}: ")), "{error}");
        }
        for config in [
            TpsbtConfig::base(),
            TpsbtConfig::small(),
            TpsbtConfig::tiny(),
        ] {
            config.check("a preset").expect("valid");
        }
    }
}
