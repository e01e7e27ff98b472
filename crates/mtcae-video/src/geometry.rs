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

    /// As [`Geometry::parts`], where that is one.
    ///
    /// # Errors
    /// As [`Geometry::parts`], and where there are several.
    pub fn part(&self, resize: &Resize, size: (u32, u32)) -> Result<Option<Rect>, String> {
        match self.parts(resize, size)?[..] {
            [part] => Ok(part),
            _ => Err(format!(
                "{resize} makes several parts of a frame of {}x{}, and one is asked for",
                self.width, self.height
            )),
        }
    }

    /// The rectangles of the source that clips of `size` (width, height) show, one a
    /// view; `None` is the whole frame. There is one but for [`Resize::ThreeCrop`],
    /// which has three from left to right or from top to bottom where the frame becomes
    /// no square.
    ///
    /// # Errors
    /// A text that says what is wrong: a size of zero or over 65,535, or a
    /// crop with no pixel of the frame.
    pub fn parts(&self, resize: &Resize, size: (u32, u32)) -> Result<Vec<Option<Rect>>, String> {
        let (w, h) = size;
        if w == 0 || h == 0 || w > 65_535 || h > 65_535 {
            return Err(format!(
                "a clip of {w}x{h} pixels is impossible; each side must be 1 to 65535"
            ));
        }
        let (sw, sh) = (f64::from(self.width), f64::from(self.height));
        let centred = |share: f64| {
            // Aspect of the crop in stored pixels.
            let aspect = f64::from(w) / f64::from(h) / self.pixel_aspect();
            let (cw, ch) = if sw / sh > aspect {
                (sh * aspect, sh)
            } else {
                (sw, sw / aspect)
            };
            let (cw, ch) = (share * cw, share * ch);
            let (cw, ch) = (cw.clamp(1.0_f64.min(sw), sw), ch.clamp(1.0_f64.min(sh), sh));
            // What needs no resampling begins at a whole pixel, as others crop.
            let as_it_is = (cw, ch) == (f64::from(w), f64::from(h));
            let start = |rest: f64| match as_it_is {
                true => (rest / 2.0).floor(),
                false => rest / 2.0,
            };
            Some(Rect {
                x: start(sw - cw),
                y: start(sh - ch),
                width: cw,
                height: ch,
            })
        };
        match *resize {
            Resize::Squash => Ok(vec![None]),
            Resize::ShortestEdgeCrop => Ok(vec![centred(1.0)]),
            Resize::CentreCrop { edge, crop } => {
                Ok(vec![centred(f64::from(crop) / f64::from(edge))])
            }
            Resize::ThreeCrop => Ok(self.three(size)),
            Resize::Crop(r) => {
                let (x0, y0) = (r.x.max(0.0), r.y.max(0.0));
                let (x1, y1) = ((r.x + r.width).min(sw), (r.y + r.height).min(sh));
                let finite = [r.x, r.y, r.width, r.height].iter().all(|v| v.is_finite());
                if finite && x1 - x0 > 1e-3 && y1 - y0 > 1e-3 {
                    Ok(vec![Some(Rect {
                        x: x0,
                        y: y0,
                        width: x1 - x0,
                        height: y1 - y0,
                    })])
                } else {
                    Err(format!(
                        "the crop {resize} has no pixel of a frame of {}x{}",
                        self.width, self.height
                    ))
                }
            }
        }
    }

    /// The views of [`Resize::ThreeCrop`].
    fn three(&self, (w, h): (u32, u32)) -> Vec<Option<Rect>> {
        let (aspect_w, aspect_h) = match self.orientation.transposes() {
            true => (self.sample_aspect.1, self.sample_aspect.0),
            false => self.sample_aspect,
        };
        let product = |a: u32, b: u32| u128::from(a) * u128::from(b);
        // Proportions of the frame as it is displayed.
        let shown_w = product(self.width, aspect_w).max(1);
        let shown_h = product(self.height, aspect_h).max(1);
        let wide = shown_w * u128::from(h) >= shown_h * u128::from(w);
        // Pixels along the axis that is too long, after the short side became the clip's.
        let (long, side, stored) = match wide {
            true => (u128::from(h) * shown_w / shown_h, w, self.width),
            false => (u128::from(w) * shown_h / shown_w, h, self.height),
        };
        let rest = long - u128::from(side);
        if rest == 0 {
            return vec![None];
        }
        let scale = f64::from(stored) / long as f64;
        let view = |k: u128| {
            let (at, length) = ((k * rest / 2) as f64 * scale, f64::from(side) * scale);
            Some(match wide {
                true => Rect {
                    x: at,
                    y: 0.0,
                    width: length,
                    height: f64::from(self.height),
                },
                false => Rect {
                    x: 0.0,
                    y: at,
                    width: f64::from(self.width),
                    height: length,
                },
            })
        };
        (0..3).map(view).collect()
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

    /// Tables made by Python from VideoMAE's rule: the long side becomes
    /// `int(size * long / short)`, and crop k begins at `int(k * (that - size) / 2)`.
    #[test]
    fn three_crops_are_videomaes_in_source_pixels() {
        let crops = |g: &Geometry, size: u32| -> Vec<[f64; 4]> {
            let parts = g.parts(&Resize::ThreeCrop, (size, size)).unwrap();
            let parts = parts.into_iter().map(|r| r.unwrap());
            parts.map(|r| [r.x, r.y, r.width, r.height]).collect()
        };
        let near = |got: &[[f64; 4]], want: &[[f64; 4]]| {
            assert_eq!(got.len(), want.len());
            for (a, b) in got.iter().flatten().zip(want.iter().flatten()) {
                assert!((a - b).abs() < 1e-9, "{got:?}");
            }
        };
        let side = 360.201_005_025_125_65;
        let starts = [0.0, 139.899_497_487_437_2, 279.798_994_974_874_4];
        let wide = crops(&Geometry::plain(640, 360), 224);
        near(&wide, &starts.map(|x| [x, 0.0, side, 360.0]));
        let tall = crops(&Geometry::plain(360, 640), 224);
        near(&tall, &starts.map(|y| [0.0, y, 360.0, side]));
        let coarse = crops(&Geometry::plain(64, 48), 16);
        let starts = [0.0, 6.095_238_095_238_095, 15.238_095_238_095_237];
        near(
            &coarse,
            &starts.map(|x| [x, 0.0, 48.761_904_761_904_76, 48.0]),
        );
        let barely = crops(&Geometry::plain(225, 224), 224);
        near(&barely, &[0.0, 0.0, 1.0].map(|x| [x, 0.0, 224.0, 224.0]));
        // Pixels of 16:15, also on their side: shown as 768x576, which becomes 298x224.
        let pal = |rotation| Orientation {
            mirrored: false,
            rotation,
        };
        let starts = [0.0, 37.0, 74.0].map(|px| px * 720.0 / 298.0);
        let side = 224.0 * 720.0 / 298.0;
        let g = Geometry::new(720, 576, (16, 15), pal(0));
        near(&crops(&g, 224), &starts.map(|x| [x, 0.0, side, 576.0]));
        let g = Geometry::new(720, 576, (16, 15), pal(90));
        near(&crops(&g, 224), &starts.map(|y| [0.0, y, 576.0, side]));
        // Those that become squares: by rounding down, and by their pixels.
        for (g, size) in [
            (Geometry::plain(48, 48), 224),
            (Geometry::plain(1000, 999), 224),
            (Geometry::new(48, 64, (4, 3), pal(0)), 16),
            (Geometry::plain(0, 0), 16),
        ] {
            let parts = g.parts(&Resize::ThreeCrop, (size, size)).unwrap();
            assert_eq!(parts, [None], "{g:?}");
        }
        let g = Geometry::plain(u32::MAX, 1);
        let last = crops(&g, 65_535)[2];
        assert!(last[0] + last[2] <= f64::from(u32::MAX) + 1e-3);
    }

    #[test]
    fn a_centre_crop_is_a_share_of_the_shortest_edge() {
        let g = Geometry::plain(640, 360);
        let of = |edge, crop| {
            let r = g.part(&Resize::CentreCrop { edge, crop }, (224, 224));
            r.unwrap().unwrap()
        };
        let r = of(256, 224);
        assert_eq!((r.x, r.y, r.width, r.height), (162.5, 22.5, 315.0, 315.0));
        let whole = g.part(&Resize::ShortestEdgeCrop, (224, 224)).unwrap();
        assert_eq!(Some(of(7, 7)), whole);
        // Never less than a pixel.
        assert_eq!(of(u32::MAX, 1).width, 1.0);
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
