//! Where a clip's pixels lie in the source video.

use mtcae_core::{Rect, Resize};
use serde::{Deserialize, Serialize};

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

    /// The rectangle of the source that a clip of `size` (width, height) shows, or
    /// `None` for the whole frame.
    ///
    /// # Errors
    /// A text that says what is wrong: a size of zero or over 65,535, or a
    /// crop with no pixel of the frame.
    pub fn part(&self, resize: &Resize, size: (u32, u32)) -> Result<Option<Rect>, String> {
        let (w, h) = size;
        if w == 0 || h == 0 || w > 65_535 || h > 65_535 {
            return Err(format!(
                "a clip of {w}x{h} pixels is impossible; each side must be 1 to 65535"
            ));
        }
        let (sw, sh) = (f64::from(self.width), f64::from(self.height));
        match *resize {
            Resize::Squash => Ok(None),
            Resize::ShortestEdgeCrop => {
                // Aspect of the crop in stored pixels.
                let aspect = f64::from(w) / f64::from(h) / self.pixel_aspect();
                let (cw, ch) = if sw / sh > aspect {
                    (sh * aspect, sh)
                } else {
                    (sw, sw / aspect)
                };
                let (cw, ch) = (cw.clamp(1.0_f64.min(sw), sw), ch.clamp(1.0_f64.min(sh), sh));
                Ok(Some(Rect {
                    x: (sw - cw) / 2.0,
                    y: (sh - ch) / 2.0,
                    width: cw,
                    height: ch,
                }))
            }
            Resize::Crop(r) => {
                let (x0, y0) = (r.x.max(0.0), r.y.max(0.0));
                let (x1, y1) = ((r.x + r.width).min(sw), (r.y + r.height).min(sh));
                let finite = [r.x, r.y, r.width, r.height].iter().all(|v| v.is_finite());
                if finite && x1 - x0 > 1e-3 && y1 - y0 > 1e-3 {
                    Ok(Some(Rect {
                        x: x0,
                        y: y0,
                        width: x1 - x0,
                        height: y1 - y0,
                    }))
                } else {
                    Err(format!(
                        "the crop {resize} has no pixel of a frame of {}x{}",
                        self.width, self.height
                    ))
                }
            }
        }
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

    #[test]
    fn shortest_edge_accounts_for_pixel_aspect() {
        let g = Geometry::plain(640, 360);
        let r = g
            .part(&Resize::ShortestEdgeCrop, (224, 224))
            .unwrap()
            .unwrap();
        assert_eq!((r.x, r.y, r.width, r.height), (140.0, 0.0, 360.0, 360.0));
        // 720x576 at 16:15 shows as 768x576: the square is 540 stored wide.
        let g = Geometry::new(720, 576, (16, 15), Orientation::default());
        let r = g
            .part(&Resize::ShortestEdgeCrop, (224, 224))
            .unwrap()
            .unwrap();
        assert_eq!((r.x, r.y, r.width, r.height), (90.0, 0.0, 540.0, 576.0));
    }

    #[test]
    fn crops_are_clipped_and_empty_ones_refused() {
        let g = Geometry::plain(100, 50);
        let rect = |x, y, width, height| {
            let crop = Resize::Crop(Rect {
                x,
                y,
                width,
                height,
            });
            g.part(&crop, (10, 10))
        };
        let r = rect(-10.0, 40.0, 30.0, 30.0).unwrap().unwrap();
        assert_eq!((r.x, r.y, r.width, r.height), (0.0, 40.0, 20.0, 10.0));
        assert!(rect(100.0, 0.0, 5.0, 5.0).is_err());
        assert!(rect(f64::NAN, 0.0, 5.0, 5.0).is_err());
        assert!(g.part(&Resize::Squash, (0, 5)).is_err());
    }
}
