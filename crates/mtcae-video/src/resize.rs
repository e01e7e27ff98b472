//! Frames to the size a model wants: bilinear with antialiasing (a triangle
//! filter as wide as the reduction, as Pillow's `BILINEAR` and PyTorch's
//! `interpolate(antialias=True)`), on 8-bit levels.

use std::fmt;
use std::str::FromStr;

#[cfg(any(feature = "ffmpeg", test))]
use fast_image_resize::images::TypedCroppedImage;
use fast_image_resize::images::{TypedImage, TypedImageRef};
#[cfg(any(feature = "ffmpeg", test))]
use fast_image_resize::pixels::U8;
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use crate::error::ParseError;
#[cfg(any(feature = "ffmpeg", test))]
use crate::geometry::Orientation;
use crate::geometry::{Geometry, Rect};

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

impl Resize {
    /// The rectangle of `source` shown by a clip of `size` (width, height), or
    /// `None` for the whole frame.
    ///
    /// # Errors
    /// A text that says what is wrong: a size of zero or over 65,535, or a
    /// crop with no pixel of the frame.
    pub fn crop(&self, source: &Geometry, size: (u32, u32)) -> Result<Option<Rect>, String> {
        let (w, h) = size;
        if w == 0 || h == 0 || w > 65_535 || h > 65_535 {
            return Err(format!(
                "a clip of {w}x{h} pixels is impossible; each side must be 1 to 65535"
            ));
        }
        let (sw, sh) = (f64::from(source.width), f64::from(source.height));
        match *self {
            Self::Squash => Ok(None),
            Self::ShortestEdgeCrop => {
                // Aspect of the crop in stored pixels.
                let aspect = f64::from(w) / f64::from(h) / source.pixel_aspect();
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
            Self::Crop(r) => {
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
                        "the crop {self} has no pixel of a frame of {}x{}",
                        source.width, source.height
                    ))
                }
            }
        }
    }
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

impl TryFrom<String> for Resize {
    type Error = ParseError;
    fn try_from(s: String) -> Result<Self, ParseError> {
        s.parse()
    }
}

impl From<Resize> for String {
    fn from(r: Resize) -> Self {
        r.to_string()
    }
}

/// Resizes `source` (RGB rows without padding, `width · height · 3` bytes) or
/// the rectangle `crop` of it to `size` (width, height) in `out`. Reuses its
/// buffers: keep one per thread.
#[derive(Debug, Default)]
pub struct FrameResizer {
    resizer: Resizer,
    #[cfg(any(feature = "ffmpeg", test))]
    planes: [Vec<u8>; 3],
}

/// The filter, over all of the picture or over a part.
fn options(crop: Option<Rect>) -> ResizeOptions {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    match crop {
        Some(r) => options.crop(r.x, r.y, r.width, r.height),
        None => options,
    }
}

impl FrameResizer {
    /// See [`FrameResizer`].
    ///
    /// # Errors
    /// A text when the lengths do not match or the crop leaves the frame.
    pub fn resize(
        &mut self,
        source: &[u8],
        (width, height): (u32, u32),
        crop: Option<Rect>,
        size: (u32, u32),
        out: &mut [u8],
    ) -> Result<(), String> {
        let text = |e: &dyn fmt::Display| format!("{width}x{height} to {}x{}: {e}", size.0, size.1);
        let image =
            TypedImageRef::<U8x3>::from_buffer(width, height, source).map_err(|e| text(&e))?;
        let mut target =
            TypedImage::<U8x3>::from_buffer(size.0, size.1, out).map_err(|e| text(&e))?;
        self.resizer
            .resize_typed(&image, &mut target, &options(crop))
            .map_err(|e| text(&e))
    }

    /// As [`FrameResizer::resize`], to the same levels, from `planes` of red,
    /// green and blue in rows of `stride` bytes.
    #[cfg(any(feature = "ffmpeg", test))]
    pub(crate) fn resize_planes(
        &mut self,
        (planes, stride): ([&[u8]; 3], usize),
        (width, height): (u32, u32),
        crop: Option<Rect>,
        size: (u32, u32),
        out: &mut [u8],
    ) -> Result<(), String> {
        let text = |e: &dyn fmt::Display| format!("{width}x{height} to {}x{}: {e}", size.0, size.1);
        let row = u32::try_from(stride).map_err(|e| text(&e))?;
        let pixels = size.0 as usize * size.1 as usize;
        for (plane, small) in planes.into_iter().zip(&mut self.planes) {
            small.resize(pixels, 0);
            let padded =
                TypedImageRef::<U8>::from_buffer(row, height, plane).map_err(|e| text(&e))?;
            let image =
                TypedCroppedImage::from_ref(&padded, 0, 0, width, height).map_err(|e| text(&e))?;
            let mut target =
                TypedImage::<U8>::from_buffer(size.0, size.1, small).map_err(|e| text(&e))?;
            self.resizer
                .resize_typed(&image, &mut target, &options(crop))
                .map_err(|e| text(&e))?;
        }
        let [red, green, blue] = &self.planes;
        interleave([red, green, blue], out);
        Ok(())
    }
}

/// Three planes' pixels to RGB.
#[cfg(any(feature = "ffmpeg", test))]
pub(crate) fn interleave([red, green, blue]: [&[u8]; 3], out: &mut [u8]) {
    let pixels = out.chunks_exact_mut(3);
    for (((pixel, r), g), b) in pixels.zip(red).zip(green).zip(blue) {
        pixel.copy_from_slice(&[*r, *g, *b]);
    }
}

/// The rectangle of the coded picture that shows as `rect` of the upright one.
#[cfg(any(feature = "ffmpeg", test))]
pub fn to_coded(rect: Rect, source: &Geometry) -> Rect {
    let (w, h) = (f64::from(source.width), f64::from(source.height));
    let (cw, ch) = (
        f64::from(source.coded_width),
        f64::from(source.coded_height),
    );
    let o = source.orientation;
    let (ax, ay) = o.shown_to_stored(rect.x / w, rect.y / h);
    let (bx, by) = o.shown_to_stored((rect.x + rect.width) / w, (rect.y + rect.height) / h);
    // Rounding may leave the frame by an ulp; the resizer would refuse.
    let x = (ax.min(bx) * cw).clamp(0.0, cw);
    let y = (ay.min(by) * ch).clamp(0.0, ch);
    Rect {
        x,
        y,
        width: ((ax - bx).abs() * cw).min(cw - x),
        height: ((ay - by).abs() * ch).min(ch - y),
    }
}

/// Turns RGB rows of `stored` (width, height) upright into `out`.
#[cfg(any(feature = "ffmpeg", test))]
pub fn orient(
    source: &[u8],
    (width, height): (u32, u32),
    orientation: Orientation,
    out: &mut [u8],
) {
    let (w, h) = (width as usize, height as usize);
    let (ow, oh) = if orientation.transposes() {
        (h, w)
    } else {
        (w, h)
    };
    for (y, row) in out.chunks_exact_mut(ow.max(1) * 3).take(oh).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let (sx, sy) = match orientation.rotation {
                90 => (y, h - 1 - x),
                180 => (w - 1 - x, h - 1 - y),
                270 => (w - 1 - y, x),
                _ => (x, y),
            };
            let sx = if orientation.mirrored { w - 1 - sx } else { sx };
            let at = (sy * w + sx) * 3;
            pixel.copy_from_slice(&source[at..at + 3]);
        }
    }
}

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

    #[test]
    fn shortest_edge_accounts_for_pixel_aspect() {
        let g = Geometry::plain(640, 360);
        let r = Resize::ShortestEdgeCrop
            .crop(&g, (224, 224))
            .unwrap()
            .unwrap();
        assert_eq!((r.x, r.y, r.width, r.height), (140.0, 0.0, 360.0, 360.0));
        // 720x576 at 16:15 shows as 768x576: the square is 540 stored wide.
        let g = Geometry::new(720, 576, (16, 15), Orientation::default());
        let r = Resize::ShortestEdgeCrop
            .crop(&g, (224, 224))
            .unwrap()
            .unwrap();
        assert_eq!((r.x, r.y, r.width, r.height), (90.0, 0.0, 540.0, 576.0));
    }

    #[test]
    fn crops_are_clipped_and_empty_ones_refused() {
        let g = Geometry::plain(100, 50);
        let rect = |x, y, width, height| {
            Resize::Crop(Rect {
                x,
                y,
                width,
                height,
            })
            .crop(&g, (10, 10))
        };
        let r = rect(-10.0, 40.0, 30.0, 30.0).unwrap().unwrap();
        assert_eq!((r.x, r.y, r.width, r.height), (0.0, 40.0, 20.0, 10.0));
        assert!(rect(100.0, 0.0, 5.0, 5.0).is_err());
        assert!(rect(f64::NAN, 0.0, 5.0, 5.0).is_err());
        assert!(Resize::Squash.crop(&g, (0, 5)).is_err());
    }

    /// Halving averages the triangle filter's weights 1 3 3 1 in each
    /// direction: a step edge gives 255·1/8 beside it.
    #[test]
    fn halving_is_antialiased() {
        let mut source = Vec::new();
        for _ in 0..8 {
            for x in 0..8 {
                source.extend([if x < 4 { 0 } else { 255 }; 3]);
            }
        }
        let mut out = vec![0; 4 * 4 * 3];
        FrameResizer::default()
            .resize(&source, (8, 8), None, (4, 4), &mut out)
            .unwrap();
        let row: Vec<u8> = out[..12].iter().step_by(3).copied().collect();
        assert_eq!(row, [0, 32, 223, 255]);
    }

    #[test]
    fn turning_moves_corners() {
        // 2x1 picture: red, green.
        let source = [255, 0, 0, 0, 255, 0];
        let turn = |mirrored, rotation| {
            let mut out = [0u8; 6];
            orient(
                &source,
                (2, 1),
                Orientation { mirrored, rotation },
                &mut out,
            );
            out[0] == 255 // red first?
        };
        assert!(turn(false, 0));
        assert!(turn(false, 90)); // red ends on top
        assert!(!turn(false, 180));
        assert!(!turn(false, 270));
        assert!(!turn(true, 0));
    }

    /// Resizing and then turning equals turning and then resizing, but for
    /// the 8-bit rounding between the two passes of the filter.
    #[test]
    fn turn_and_resize_commute() {
        let (w, h) = (37u32, 23u32);
        let source: Vec<u8> = (0..w * h * 3).map(|i| (i * 37 % 251) as u8).collect();
        for mirrored in [false, true] {
            for rotation in [0, 90, 180, 270] {
                let o = Orientation { mirrored, rotation };
                let g = Geometry::new(w, h, (1, 1), o);
                let rect = Rect {
                    x: 3.0,
                    y: 2.5,
                    width: 15.0,
                    height: 12.0,
                };
                let mut upright = vec![0; source.len()];
                orient(&source, (w, h), o, &mut upright);
                let mut a = vec![0; 8 * 6 * 3];
                let mut r = FrameResizer::default();
                r.resize(&upright, (g.width, g.height), Some(rect), (8, 6), &mut a)
                    .unwrap();
                let stored = if o.transposes() { (6, 8) } else { (8, 6) };
                let mut small = vec![0; a.len()];
                r.resize(
                    &source,
                    (w, h),
                    Some(to_coded(rect, &g)),
                    stored,
                    &mut small,
                )
                .unwrap();
                let mut b = vec![0; a.len()];
                orient(&small, stored, o, &mut b);
                assert!(a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 1), "{o:?}");
            }
        }
    }

    /// Planes with padded rows give the levels of packed rows, enlarged,
    /// reduced and cropped.
    #[test]
    fn planes_resize_as_packed_rows_do() {
        let (w, h, stride) = (101usize, 67usize, 128usize);
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let planes: [Vec<u8>; 3] =
            std::array::from_fn(|_| (0..stride * h).map(|_| noise()).collect());
        let mut packed = vec![0; w * h * 3];
        for (y, row) in packed.chunks_exact_mut(w * 3).enumerate() {
            interleave(
                planes.each_ref().map(|p| &p[y * stride..y * stride + w]),
                row,
            );
        }
        let crop = Rect {
            x: 10.25,
            y: 3.5,
            width: 60.5,
            height: 50.0,
        };
        let mut r = FrameResizer::default();
        for size in [(24, 18), (224, 224), (101, 67), (7, 200)] {
            for crop in [None, Some(crop)] {
                let mut want = vec![0; (size.0 * size.1 * 3) as usize];
                let mut got = want.clone();
                let source = (w as u32, h as u32);
                r.resize(&packed, source, crop, size, &mut want).unwrap();
                let views = planes.each_ref().map(Vec::as_slice);
                r.resize_planes((views, stride), source, crop, size, &mut got)
                    .unwrap();
                assert!(got == want, "{size:?} {crop:?}");
            }
        }
    }
}
