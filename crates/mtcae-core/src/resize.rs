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
/// `shortest-edge`, `shortest-edge:EDGE/CROP`, `three-crop` or
/// `crop:X,Y,WIDTH,HEIGHT` (source pixels).
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
    /// The same rectangle, about its centre `crop/edge` as large: what is left of
    /// a shortest edge of `edge` pixels by a centre crop of `crop`, as Hugging Face
    /// processors have it (`size.shortest_edge` 256, `crop_size` 224), in one step.
    /// Theirs begins at a whole pixel of the result, up to half a pixel from this one
    /// unless nothing is resampled.
    CentreCrop {
        /// The shortest edge, in any unit; at least `crop`.
        edge: u32,
        /// What is left of it, in the same unit; at least 1.
        crop: u32,
    },
    /// Three views of each frame, VideoMAE's at test time. In display geometry
    /// the short side becomes the clip's and the long one `long`, rounded down;
    /// then three squares of that side begin `⌊k·(long − side)/2⌋` pixels along
    /// the long one, `k = 0, 1, 2`. A frame that becomes square gives one view, all
    /// of it.
    ThreeCrop,
    /// A rectangle in source pixels, for face crops; what lies outside the
    /// frame is cut off.
    Crop(Rect),
}

impl Resize {
    /// The names, as a help text would list them.
    pub const NAMES: [&'static str; 5] = [
        "squash",
        "shortest-edge",
        "shortest-edge:EDGE/CROP (CROP at most EDGE)",
        "three-crop",
        "crop:X,Y,WIDTH,HEIGHT (source pixels)",
    ];

    /// The most views of a frame: 1, except for [`Resize::ThreeCrop`].
    pub fn crops(&self) -> usize {
        match self {
            Self::ThreeCrop => 3,
            _ => 1,
        }
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Squash => f.write_str("squash"),
            Self::ShortestEdgeCrop => f.write_str("shortest-edge"),
            Self::CentreCrop { edge, crop } => write!(f, "shortest-edge:{edge}/{crop}"),
            Self::ThreeCrop => f.write_str("three-crop"),
            Self::Crop(r) => write!(f, "crop:{},{},{},{}", r.x, r.y, r.width, r.height),
        }
    }
}

impl FromStr for Resize {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || ParseError::new("resize mode", s, &Self::NAMES.join(", "));
        match s {
            "squash" => return Ok(Self::Squash),
            "shortest-edge" => return Ok(Self::ShortestEdgeCrop),
            "three-crop" => return Ok(Self::ThreeCrop),
            _ => {}
        }
        if let Some(sizes) = s.strip_prefix("shortest-edge:") {
            let (edge, crop) = sizes.split_once('/').ok_or_else(bad)?;
            let size = |v: &str| v.parse::<u32>().map_err(|_| bad());
            let (edge, crop) = (size(edge)?, size(crop)?);
            return match 0 < crop && crop <= edge {
                true => Ok(Self::CentreCrop { edge, crop }),
                false => Err(bad()),
            };
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
        for s in [
            "squash",
            "shortest-edge",
            "shortest-edge:256/224",
            "shortest-edge:224/224",
            "three-crop",
            "crop:1,2.5,30,40",
        ] {
            let resize = s.parse::<Resize>().unwrap();
            assert_eq!(resize.to_string(), s);
            assert_eq!(resize.crops(), if s == "three-crop" { 3 } else { 1 });
        }
        for s in [
            "",
            "crop",
            "crop:1,2,3",
            "crop:0,0,0,5",
            "crop:0,0,nan,1",
            "fit",
            "shortest-edge:",
            "shortest-edge:256",
            "shortest-edge:224/256",
            "shortest-edge:256/0",
            "shortest-edge:256/-1",
            "three-crop:3",
        ] {
            let e = s.parse::<Resize>().unwrap_err().to_string();
            assert!(e.contains("shortest-edge"), "{e}");
        }
    }
}
