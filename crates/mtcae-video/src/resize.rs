//! Frames to the size a model wants: bilinear with antialiasing (a triangle
//! filter as wide as the reduction, as Pillow's `BILINEAR` and PyTorch's
//! `interpolate(antialias=True)`), on 8-bit levels.

use std::fmt;

#[cfg(any(feature = "ffmpeg", test))]
use fast_image_resize::images::TypedCroppedImage;
use fast_image_resize::images::{TypedImage, TypedImageRef};
#[cfg(any(feature = "ffmpeg", test))]
use fast_image_resize::pixels::U8;
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use mtcae_core::Rect;

#[cfg(any(feature = "ffmpeg", test))]
use crate::geometry::{Geometry, Orientation};

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
