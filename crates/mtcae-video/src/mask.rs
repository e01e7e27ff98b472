//! Masks over tokens for masked-autoencoder pre-training.

use std::fmt;
use std::str::FromStr;

use mtcae_core::ParseError;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Which tokens a masked autoencoder does not see; by name `tube:RATIO` or
/// `random:RATIO` (`tube` alone: 0.9, VideoMAE's).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TokenMask {
    /// One spatial mask for every t′ (VideoMAE's `TubeMaskingGenerator`):
    /// `⌊ratio·h′·w′⌋` of each slice are masked.
    Tube {
        /// Masked share, in [0, 1].
        ratio: f64,
    },
    /// `⌊ratio·N⌋` tokens anywhere.
    Random {
        /// Masked share, in [0, 1].
        ratio: f64,
    },
}

impl TokenMask {
    /// A mask over tokens of a `grid` (t′, h′, w′) in row-major order, `true`
    /// where masked: 8×14×14 with `tube:0.9` masks 176 of every 196, 1408 of
    /// 1568. The same seed gives the same mask on every platform (ChaCha8).
    pub fn generate(&self, grid: [usize; 3], seed: u64) -> Vec<bool> {
        self.generate_with(grid, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    /// As [`TokenMask::generate`], drawing from a generator of the caller's.
    pub fn generate_with(&self, grid: [usize; 3], rng: &mut impl Rng) -> Vec<bool> {
        let [t, h, w] = grid;
        let draw = |n: usize, ratio: f64, rng: &mut _| {
            let masked = (ratio.clamp(0.0, 1.0) * n as f64) as usize;
            let mut mask: Vec<bool> = (0..n).map(|i| i < masked).collect();
            mask.shuffle(rng);
            mask
        };
        match *self {
            Self::Tube { ratio } => draw(h * w, ratio, rng).repeat(t),
            Self::Random { ratio } => draw(t * h * w, ratio, rng),
        }
    }
}

impl Default for TokenMask {
    fn default() -> Self {
        Self::Tube { ratio: 0.9 }
    }
}

impl fmt::Display for TokenMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tube { ratio } => write!(f, "tube:{ratio}"),
            Self::Random { ratio } => write!(f, "random:{ratio}"),
        }
    }
}

impl FromStr for TokenMask {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || ParseError::new("mask", s, "tube:RATIO, random:RATIO (ratio in [0, 1])");
        let (name, ratio) = s.split_once(':').unwrap_or((s, "0.9"));
        let ratio: f64 = ratio.parse().map_err(|_| bad())?;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(bad());
        }
        match name {
            "tube" => Ok(Self::Tube { ratio }),
            "random" => Ok(Self::Random { ratio }),
            _ => Err(bad()),
        }
    }
}

mtcae_core::by_name!(TokenMask);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tube_mask_is_the_same_in_every_slice() {
        let mask = TokenMask::default().generate([8, 14, 14], 3);
        assert_eq!(mask.len(), 1568);
        assert_eq!(mask.iter().filter(|&&m| m).count(), 1408);
        for t in 1..8 {
            assert_eq!(mask[..196], mask[t * 196..(t + 1) * 196]);
        }
        assert_eq!(mask, TokenMask::default().generate([8, 14, 14], 3));
        assert_ne!(mask, TokenMask::default().generate([8, 14, 14], 4));
    }

    /// Over many seeds every position is masked in its share: 2000 draws of
    /// p = 176/196 have a standard deviation of 13.6; five of them allowed.
    #[test]
    fn every_position_is_as_likely() {
        let mut hits = vec![0u32; 196];
        for seed in 0..2000 {
            let mask = TokenMask::default().generate([1, 14, 14], seed);
            for (h, m) in hits.iter_mut().zip(mask) {
                *h += u32::from(m);
            }
        }
        let want = 2000.0 * 176.0 / 196.0;
        assert!(hits.iter().all(|&h| (f64::from(h) - want).abs() < 68.0));
    }

    #[test]
    fn random_mask_counts_and_names() {
        let m: TokenMask = "random:0.5".parse().unwrap();
        let mask = m.generate([8, 14, 14], 1);
        assert_eq!(mask.iter().filter(|&&m| m).count(), 784);
        assert_ne!(mask[..196], mask[196..392]);
        assert_eq!("tube".parse::<TokenMask>().unwrap(), TokenMask::default());
        assert!("tube:1.5".parse::<TokenMask>().is_err());
        assert!("checker:0.5".parse::<TokenMask>().is_err());
    }
}
