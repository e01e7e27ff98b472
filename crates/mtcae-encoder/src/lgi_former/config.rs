//! Sizes of the encoder, and what follows from them.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sizes::{Sizes, fault};

/// Everything needed to rebuild an LGI-Former.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LgiFormerConfig {
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
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Channels inside the MLP.
    pub hidden: usize,
    /// ε of every LayerNorm.
    pub eps: f64,
    /// Regions along (t, h, w), which divide the grid of the tubes. MAE-DFER has 4·2·1 of
    /// 2×5×10 tubes at 160²; at 224² they are 2×7×14, and every tensor stays as it is.
    pub regions: [usize; 3],
    /// What F is.
    pub features: Features,
    /// Whether a LayerNorm follows the last block: in pre-training.
    pub final_norm: bool,
    /// Drop path rate of the last block in training; it grows linearly from 0 at
    /// the first.
    #[serde(default)]
    pub drop_path: f64,
}

/// What the encoder gives as F.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Features {
    /// The N tokens of the tubes, in the order (t, h, w), without those of the regions.
    Tokens,
    /// The tokens of the R regions, whose mean MAE-DFER classifies.
    Regions,
}

impl LgiFormerConfig {
    /// MAE-DFER's published encoder: width 512, 16 blocks, 8 heads, 16 frames of 160²
    /// (`vit_base_dim512_no_depth_patch16_160` of sunlicai/MAE-DFER with `--depth 16`).
    pub fn base() -> Self {
        Self {
            image_size: 160,
            frames: 16,
            channels: 3,
            patch: 16,
            tubelet: 2,
            width: 512,
            depth: 16,
            heads: 8,
            hidden: 2048,
            eps: 1e-6,
            regions: [4, 2, 1],
            features: Features::Tokens,
            final_norm: true,
            drop_path: 0.0,
        }
    }

    /// 4 blocks of width 96 on 96×96: a toy.
    pub fn tiny() -> Self {
        Self {
            image_size: 96,
            width: 96,
            depth: 4,
            heads: 3,
            hidden: 384,
            ..Self::base()
        }
    }

    /// Heads of 64 channels, as in all published widths.
    pub(super) fn known_heads(width: usize) -> Option<usize> {
        let published = [384, 512, 640, 768].contains(&width);
        published.then_some(width / 64)
    }

    /// Regions R.
    pub fn region_count(&self) -> usize {
        self.regions.iter().product()
    }

    /// Tokens L of one region, without its own.
    pub fn region_tokens(&self) -> usize {
        self.sizes().tokens() / self.region_count()
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            image_size: self.image_size,
            frames: self.frames,
            channels: self.channels,
            patch: self.patch,
            tubelet: self.tubelet,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            hidden: self.hidden,
            eps: self.eps,
            drop_path: self.drop_path,
        }
    }

    /// Checks that the values, which come from `origin`, make an encoder.
    pub(super) fn check(&self, origin: &str) -> Result<(), Error> {
        self.sizes().check(origin)?;
        let grid = self.sizes().grid();
        let divides = |(n, by): (&usize, &usize)| *by > 0 && n.is_multiple_of(*by);
        match grid.iter().zip(&self.regions).all(divides) {
            true => Ok(()),
            false => {
                let shown = |[t, h, w]: [usize; 3]| format!("{t}×{h}×{w}");
                let reason = format!(
                    "{} regions do not divide the grid of {} tubes (time × height × width) that {} \
                     frames of {}×{} pixels are cut into",
                    shown(self.regions),
                    shown(grid),
                    self.frames,
                    self.image_size,
                    self.image_size
                );
                Err(fault(origin, "regions", reason))
            }
        }
    }

    /// For each tube in the order region, then place (t, h, w) within it, where it is in
    /// the grid's order (t, h, w).
    pub(super) fn order(&self) -> Vec<usize> {
        let grid = self.sizes().grid();
        let [rt, rh, rw] = self.regions;
        let size = [grid[0] / rt, grid[1] / rh, grid[2] / rw];
        let mut order = Vec::with_capacity(self.sizes().tokens());
        for region in 0..rt * rh * rw {
            let at = [region / (rh * rw), region / rw % rh, region % rw];
            for place in 0..size.iter().product() {
                let within = [
                    place / (size[1] * size[2]),
                    place / size[2] % size[1],
                    place % size[2],
                ];
                let [t, h, w] = [0, 1, 2].map(|axis| at[axis] * size[axis] + within[axis]);
                order.push((t * grid[1] + h) * grid[2] + w);
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The map as MAE-DFER's regions are described: r = 2·⌊t/2⌋ + ⌊h/5⌋, place
    /// 50·(t mod 2) + 10·(h mod 5) + w.
    #[test]
    fn regions_of_the_published_size() {
        let order = LgiFormerConfig::base().order();
        let mut met = 0;
        for t in 0..8 {
            for h in 0..10 {
                for w in 0..10 {
                    let region = 2 * (t / 2) + h / 5;
                    let place = 50 * (t % 2) + 10 * (h % 5) + w;
                    assert_eq!(order[100 * region + place], 100 * t + 10 * h + w);
                    met += 1;
                }
            }
        }
        assert_eq!((met, order.len()), (800, 800));
    }

    #[test]
    fn at_224_there_are_the_same_regions() {
        let config = LgiFormerConfig {
            image_size: 224,
            ..LgiFormerConfig::base()
        };
        config.check("a config").expect("valid");
        assert_eq!((config.region_count(), config.region_tokens()), (8, 196));
    }

    #[test]
    fn a_grid_that_regions_do_not_divide_is_refused() {
        let config = LgiFormerConfig {
            image_size: 176,
            ..LgiFormerConfig::base()
        };
        let error = config
            .check("a.json")
            .expect_err("11 rows in two")
            .to_string();
        assert!(
            error.starts_with(
                "a.json: regions: 4×2×1 regions do not divide the grid of 8×11×11 tubes"
            ),
            "{error}"
        );
    }
}
