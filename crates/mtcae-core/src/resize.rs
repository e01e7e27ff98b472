//! What part of a frame becomes a model's picture, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// A rectangle in pixels of the source frame in display orientation; x grows
/// to the right, y downwards; may have fractions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// What part of the frame is brought to the clip's size; by name `squash`,
/// `shortest-edge` or `crop:X,Y,WIDTH,HEIGHT` (source pixels).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Resize {
    /// All of the frame; its aspect is not kept. The paper's, the default.
    #[default]
    Squash,
    /// The largest centred rectangle of the clip's aspect in display
    /// geometry (non-square pixels accounted for): shortest edge, then centre
    /// crop, as VideoMAE, in one step.
    ShortestEdgeCrop,
    /// A rectangle in source pixels, for face crops; what lies outside the
    /// frame is cut off.
    Crop(Rect),
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Squash => f.write_str("squash"),
            Self::ShortestEdgeCrop => f.write_str("shortest-edge"),
            Self::Crop(r) => write!(f, "crop:{},{},{},{}", r.x, r.y, r.width, r.height),
        }
    }
}

impl FromStr for Resize {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || {
            ParseError::new(
                "resize mode",
                s,
                "squash, shortest-edge, crop:X,Y,WIDTH,HEIGHT (source pixels)",
            )
        };
        match s {
            "squash" => return Ok(Self::Squash),
            "shortest-edge" => return Ok(Self::ShortestEdgeCrop),
            _ => {}
        }
        let rect = s.strip_prefix("crop:").ok_or_else(bad)?;
        let v: Vec<f64> = rect
            .split(',')
            .map(|x| x.trim().parse::<f64>().ok().filter(|x| x.is_finite()))
            .collect::<Option<_>>()
            .ok_or_else(bad)?;
        match v[..] {
            [x, y, width, height] if width > 0.0 && height > 0.0 => Ok(Self::Crop(Rect {
                x,
                y,
                width,
                height,
            })),
            _ => Err(bad()),
        }
    }
}

crate::by_name!(Resize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for s in ["squash", "shortest-edge", "crop:1,2.5,30,40"] {
            assert_eq!(s.parse::<Resize>().unwrap().to_string(), s);
        }
        for s in [
            "",
            "crop",
            "crop:1,2,3",
            "crop:0,0,0,5",
            "crop:0,0,nan,1",
            "fit",
        ] {
            let e = s.parse::<Resize>().unwrap_err().to_string();
            assert!(e.contains("shortest-edge"), "{e}");
        }
    }
}
