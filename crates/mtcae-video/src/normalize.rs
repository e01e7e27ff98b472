//! From 8-bit levels to the numbers a checkpoint was trained on.

use std::fmt;
use std::str::FromStr;

use mtcae_core::ParseError;
use serde::{Deserialize, Serialize};

/// `(level / 255 − mean) / std` per RGB channel.
///
/// By name: `imagenet` (VideoMAE and MAE-DFER), `none` (only /255: MARLIN),
/// `half` (mean and std 0.5: some Hugging Face models), or explicit numbers
/// `mean=R,G,B;std=R,G,B`. A wrong choice loses accuracy silently: take it
/// from the checkpoint's config.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Normalization {
    /// Subtracted after the division by 255.
    pub mean: [f32; 3],
    /// Divides last; each entry finite and above zero.
    pub std: [f32; 3],
}

impl Normalization {
    /// ImageNet's channel statistics, as torchvision and VideoMAE print them.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    /// Only the division by 255.
    pub const NONE: Self = Self {
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    /// To [−1, 1].
    pub const HALF: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
    };

    /// The value of one level of one channel (0 red, 1 green, 2 blue); the
    /// same three single-precision steps as PyTorch's `(x / 255 - m) / s`.
    pub fn apply(&self, level: u8, channel: usize) -> f32 {
        (f32::from(level) / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// [`Normalization::apply`] of every level: `table[channel][level]`.
    pub fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| self.apply(v as u8, c)))
    }
}

impl Default for Normalization {
    fn default() -> Self {
        Self::IMAGENET
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::IMAGENET {
            f.write_str("imagenet")
        } else if *self == Self::NONE {
            f.write_str("none")
        } else if *self == Self::HALF {
            f.write_str("half")
        } else {
            let ([a, b, c], [x, y, z]) = (self.mean, self.std);
            write!(f, "mean={a},{b},{c};std={x},{y},{z}")
        }
    }
}

impl FromStr for Normalization {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || {
            ParseError::new(
                "normalisation",
                s,
                "imagenet, none, half, mean=R,G,B;std=R,G,B (std above zero)",
            )
        };
        let three = |text: &str| -> Option<[f32; 3]> {
            let v: Vec<f32> = text
                .split(',')
                .map(|x| x.trim().parse::<f32>().ok().filter(|x| x.is_finite()))
                .collect::<Option<_>>()?;
            v.try_into().ok()
        };
        match s {
            "imagenet" => return Ok(Self::IMAGENET),
            "none" => return Ok(Self::NONE),
            "half" => return Ok(Self::HALF),
            _ => {}
        }
        let (mean, std) = s.split_once(';').ok_or_else(bad)?;
        let mean = mean.strip_prefix("mean=").and_then(three).ok_or_else(bad)?;
        let std = std.strip_prefix("std=").and_then(three).ok_or_else(bad)?;
        if std.iter().any(|&v| v <= 0.0) {
            return Err(bad());
        }
        Ok(Self { mean, std })
    }
}

mtcae_core::by_name!(Normalization);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_faults_are_refused() {
        for name in ["imagenet", "none", "half", "mean=0.1,0.2,0.3;std=1,2,0.5"] {
            assert_eq!(name.parse::<Normalization>().unwrap().to_string(), name);
        }
        for bad in [
            "",
            "mean=1,2;std=1,2,3",
            "mean=0,0,0;std=0,1,1",
            "mean=nan,0,0;std=1,1,1",
        ] {
            assert!(bad.parse::<Normalization>().is_err(), "{bad}");
        }
    }

    #[test]
    fn extremes() {
        assert_eq!(Normalization::NONE.apply(255, 0), 1.0);
        assert_eq!(Normalization::HALF.apply(0, 2), -1.0);
        // (1 - 0.485) / 0.229
        assert!((Normalization::IMAGENET.apply(255, 0) - 2.248_908).abs() < 1e-6);
    }
}
