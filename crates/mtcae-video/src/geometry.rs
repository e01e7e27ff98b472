//! Where a clip's pixels lie in the source video.

use serde::{Deserialize, Serialize};

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

/// How a stored picture is turned to be shown: mirrored first, then rotated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Orientation {
    /// Mirrored left to right before the rotation.
    pub mirrored: bool,
    /// Clockwise degrees: 0, 90, 180 or 270.
    pub rotation: u16,
}

impl Orientation {
    /// Whether width and height change places.
    pub fn transposes(self) -> bool {
        self.rotation % 180 == 90
    }

    /// From the 2×2 part `[a, b, c, d]` of FFmpeg's display matrix, which maps
    /// stored to shown coordinates by `(x·a + y·c, x·b + y·d)` (16.16 fixed
    /// point). `None` when it is no multiple of 90°, with or without mirror;
    /// magnitudes are ignored.
    pub fn from_matrix([a, b, c, d]: [i32; 4]) -> Option<Self> {
        let s = |v: i32| v.signum();
        let (mirrored, rotation) = match [s(a), s(b), s(c), s(d)] {
            [1, 0, 0, 1] => (false, 0),
            [0, 1, -1, 0] => (false, 90),
            [-1, 0, 0, -1] => (false, 180),
            [0, -1, 1, 0] => (false, 270),
            [-1, 0, 0, 1] => (true, 0),
            [0, -1, -1, 0] => (true, 90),
            [1, 0, 0, -1] => (true, 180),
            [0, 1, 1, 0] => (true, 270),
            _ => return None,
        };
        Some(Self { mirrored, rotation })
    }

    /// Maps a shown position to the stored one, both as fractions of their
    /// picture.
    pub fn shown_to_stored(self, x: f64, y: f64) -> (f64, f64) {
        let (x, y) = match self.rotation {
            90 => (y, 1.0 - x),
            180 => (1.0 - x, 1.0 - y),
            270 => (1.0 - y, x),
            _ => (x, y),
        };
        if self.mirrored { (1.0 - x, y) } else { (x, y) }
    }
}

/// Size and position of a video's picture.
///
/// Three frames of reference are kept apart:
/// - *coded*: as the decoder gives it, before rotation;
/// - *source*: after mirroring and rotation, still one source pixel per
///   stored pixel (`width` × `height`). Frames of `Video::frames` and all
///   coordinates handed out are in it: what a player shows, upright, before it
///   stretches non-square pixels;
/// - *display*: the source with square pixels (`display_width` ×
///   `display_height`); differs only when `sample_aspect` is not 1:1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Source width in pixels, upright.
    pub width: u32,
    /// Source height in pixels, upright.
    pub height: u32,
    /// Width as coded, before rotation.
    pub coded_width: u32,
    /// Height as coded, before rotation.
    pub coded_height: u32,
    /// Width over height of one coded pixel, reduced; 1:1 when unknown.
    pub sample_aspect: (u32, u32),
    /// How the coded picture is turned to be upright.
    pub orientation: Orientation,
    /// The part of the source that the clip shows, in source pixels; `None`
    /// for all of it.
    pub crop: Option<Rect>,
}

impl Geometry {
    /// Geometry of an upright picture with square pixels.
    pub fn plain(width: u32, height: u32) -> Self {
        Self::new(width, height, (1, 1), Orientation::default())
    }

    /// From coded size, pixel aspect and orientation; zeros in the aspect
    /// count as 1:1.
    pub fn new(
        coded_width: u32,
        coded_height: u32,
        sample_aspect: (u32, u32),
        orientation: Orientation,
    ) -> Self {
        let (width, height) = if orientation.transposes() {
            (coded_height, coded_width)
        } else {
            (coded_width, coded_height)
        };
        let sample_aspect = if sample_aspect.0 == 0 || sample_aspect.1 == 0 {
            (1, 1)
        } else {
            sample_aspect
        };
        Self {
            width,
            height,
            coded_width,
            coded_height,
            sample_aspect,
            orientation,
            crop: None,
        }
    }

    /// Clockwise rotation in degrees.
    pub fn rotation(&self) -> u16 {
        self.orientation.rotation
    }

    /// Display width over source width, upright (the pixel aspect, inverted
    /// by a quarter turn).
    pub fn pixel_aspect(&self) -> f64 {
        let a = f64::from(self.sample_aspect.0) / f64::from(self.sample_aspect.1);
        if self.orientation.transposes() {
            1.0 / a
        } else {
            a
        }
    }

    /// Upright size with square pixels: the width is stretched, the height
    /// kept, as players do.
    pub fn display_size(&self) -> (u32, u32) {
        let w = (f64::from(self.width) * self.pixel_aspect()).round();
        (w.clamp(1.0, f64::from(u32::MAX)) as u32, self.height)
    }

    /// The part of the source that the clip shows.
    pub fn shown(&self) -> Rect {
        self.crop.unwrap_or(Rect {
            x: 0.0,
            y: 0.0,
            width: f64::from(self.width),
            height: f64::from(self.height),
        })
    }

    /// A position as a fraction of the clip's frame (0,0 upper left, 1,1
    /// lower right edge) in source pixels, the crop included.
    pub fn to_source(&self, x: f64, y: f64) -> (f64, f64) {
        let r = self.shown();
        (r.x + x * r.width, r.y + y * r.height)
    }

    /// Undoes [`Geometry::to_source`].
    pub fn to_fraction(&self, x: f64, y: f64) -> (f64, f64) {
        let r = self.shown();
        ((x - r.x) / r.width, (y - r.y) / r.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_map_through_crop_and_back() {
        let mut g = Geometry::plain(640, 360);
        assert_eq!(g.to_source(0.5, 1.0), (320.0, 360.0));
        g.crop = Some(Rect {
            x: 140.0,
            y: 0.0,
            width: 360.0,
            height: 360.0,
        });
        assert_eq!(g.to_source(0.25, 0.5), (230.0, 180.0));
        assert_eq!(g.to_fraction(230.0, 180.0), (0.25, 0.5));
    }

    #[test]
    fn rotation_swaps_and_aspect_stretches() {
        let turned = Orientation {
            mirrored: false,
            rotation: 90,
        };
        let g = Geometry::new(720, 576, (16, 15), turned);
        assert_eq!((g.width, g.height), (576, 720));
        assert_eq!(g.display_size(), (540, 720));
        let g = Geometry::new(720, 576, (16, 15), Orientation::default());
        assert_eq!(g.display_size(), (768, 576));
    }

    #[test]
    fn display_matrices() {
        let one = 1 << 16;
        let o = |m| Orientation::from_matrix(m).map(|o| (o.mirrored, o.rotation));
        assert_eq!(o([one, 0, 0, one]), Some((false, 0)));
        assert_eq!(o([0, one, -one, 0]), Some((false, 90)));
        assert_eq!(o([-one, 0, 0, one]), Some((true, 0)));
        assert_eq!(o([one, one, -one, one]), None);
    }

    /// The upper-left corner of what is shown comes from the right corner of
    /// what is stored.
    #[test]
    fn corners() {
        let o = |rotation| Orientation {
            mirrored: false,
            rotation,
        };
        assert_eq!(o(90).shown_to_stored(0.0, 0.0), (0.0, 1.0));
        assert_eq!(o(180).shown_to_stored(0.0, 0.0), (1.0, 1.0));
        assert_eq!(o(270).shown_to_stored(0.0, 0.0), (1.0, 0.0));
        let m = Orientation {
            mirrored: true,
            rotation: 0,
        };
        assert_eq!(m.shown_to_stored(0.0, 0.0), (1.0, 0.0));
    }
}
