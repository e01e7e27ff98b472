//! What single settings of training can be.

use mtcae_core::ParseError;
use serde::{Deserialize, Serialize};

/// Which parameters are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tune {
    /// The decoder alone; the encoder stays as it was loaded.
    Decoder,
    /// The decoder, the encoder's last N blocks and its final norm.
    Last(usize),
    /// All of them.
    All,
}

impl std::fmt::Display for Tune {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decoder => f.write_str("decoder"),
            Self::Last(n) => write!(f, "last:{n}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl From<Tune> for String {
    fn from(tune: Tune) -> Self {
        tune.to_string()
    }
}

impl TryFrom<String> for Tune {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "decoder" => Ok(Self::Decoder),
            "all" => Ok(Self::All),
            other => other
                .strip_prefix("last:")
                .and_then(|n| n.parse().ok())
                .map(Self::Last)
                .ok_or_else(|| format!("{other:?} is neither decoder nor last:N nor all")),
        }
    }
}

/// Which weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those after the last epoch.
    Last,
    /// Those of the epoch with the highest UAR on the validation subjects.
    Best,
}

/// Weights of the classes in the cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// All 1.
    Equal,
    /// Inverse to how often each class occurs among the training clips, with a
    /// mean of 1 over the clips.
    Balanced,
}

/// The range of a random factor, by name `MIN..MAX`; `1..1` where nothing varies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Default for Range {
    fn default() -> Self {
        Self { min: 1.0, max: 1.0 }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}

impl std::str::FromStr for Range {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let range = s.split_once("..").and_then(|(min, max)| {
            Some(Self {
                min: min.parse().ok()?,
                max: max.parse().ok()?,
            })
        });
        let usable = |r: &Self| 0.1 <= r.min && r.min <= r.max && r.max <= 10.0;
        let known = "MIN..MAX, from 0.1 to 10, as 0.8..1.3";
        let range = range.filter(usable);
        range.ok_or_else(|| ParseError::new("range of factors", s, known))
    }
}

mtcae_core::by_name!(Range);

/// What a training clip is covered with where `erase` strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EraseFill {
    /// One colour, before the lens: a hand in front of it.
    #[default]
    Colour,
    /// Noise of its own in each pixel of the normalised clip.
    Pixel,
}

/// The unit of box and landmark errors in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Fractions of the frame.
    Fraction,
    /// Pixels of the model's frame.
    Pixel,
}

/// How the tasks' losses are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// Each by its weight.
    #[default]
    Fixed,
    /// Each by its weight and by e to the minus of a learned number, which is added: what a
    /// task leaves unexplained counts less.
    Uncertainty,
}
