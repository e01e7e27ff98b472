//! A picture to draw on: anti-aliased shapes by tiny-skia, text from a bitmap
//! font.

use ndarray::{Array3, ArrayView3};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use tiny_skia::{
    Color, FillRule, Paint, PathBuilder, Pixmap, PixmapPaint, Rect, Stroke, StrokeDash, Transform,
};

use crate::Error;

/// An opaque or translucent colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Red, green, blue.
    pub rgb: [u8; 3],
    /// 255 is opaque.
    pub alpha: u8,
}

impl Colour {
    /// White.
    pub const WHITE: Self = Self::new(255, 255, 255);
    /// Black.
    pub const BLACK: Self = Self::new(0, 0, 0);
    /// The grey of secondary text and grids.
    pub const GREY: Self = Self::new(140, 140, 140);

    /// An opaque colour.
    pub const fn new(r: u8, g: u8, b: u8) -> Self {
        Self {
            rgb: [r, g, b],
            alpha: 255,
        }
    }

    /// The same colour with another opacity.
    #[must_use]
    pub const fn with_alpha(self, alpha: u8) -> Self {
        Self { alpha, ..self }
    }

    /// Colour `i` of a series that people with the usual forms of colour
    /// blindness tell apart (Okabe and Ito, 2008); it repeats after eight.
    pub const fn series(i: usize) -> Self {
        const SERIES: [[u8; 3]; 8] = [
            [230, 159, 0],
            [86, 180, 233],
            [0, 158, 115],
            [240, 228, 66],
            [0, 114, 178],
            [213, 94, 0],
            [204, 121, 167],
            [160, 160, 160],
        ];
        Self {
            rgb: SERIES[i % SERIES.len()],
            alpha: 255,
        }
    }

    fn paint(self) -> Paint<'static> {
        let [r, g, b] = self.rgb;
        let mut paint = Paint {
            anti_alias: true,
            ..Paint::default()
        };
        paint.set_color_rgba8(r, g, b, self.alpha);
        paint
    }
}

/// Height of a line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextSize {
    /// 16 pixels.
    Small,
    /// 20 pixels.
    Large,
    /// About this many pixels: 10, 16, 20, 24, 32 or a multiple of 32.
    Pixels(usize),
}

impl TextSize {
    /// The size that can be read on a picture of these sides and leaves most of it to
    /// be seen: 16 pixels from 100 to 550 a side, above that a 32nd of it.
    pub fn fitting(width: usize, height: usize) -> Self {
        let side = width.min(height);
        Self::Pixels((side / 32).max(16.min(side / 6)))
    }

    /// Pixels from one line to the next.
    pub const fn line(self) -> usize {
        let (raster, times, of) = self.raster();
        raster.val() * times / of
    }

    /// Width of a text in pixels.
    pub fn width(self, text: &str) -> usize {
        let (raster, times, of) = self.raster();
        text.chars().count() * get_raster_width(FontWeight::Regular, raster) * times / of
    }

    /// As much of a text as `width` pixels hold, with dots for the rest.
    pub fn cut(self, text: &str, width: usize) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let fits = width / self.width("x").max(1);
        let start: String = text.chars().take(fits.saturating_sub(2)).collect();
        start + ".."
    }

    /// A raster of the font, how many times over each of its pixels is drawn, and how
    /// many of them a side are drawn as one.
    const fn raster(self) -> (RasterHeight, usize, usize) {
        match self {
            Self::Small | Self::Pixels(12..=17) => (RasterHeight::Size16, 1, 1),
            Self::Large | Self::Pixels(18..=22) => (RasterHeight::Size20, 1, 1),
            Self::Pixels(0..=11) => (RasterHeight::Size20, 1, 2),
            Self::Pixels(23..=28) => (RasterHeight::Size24, 1, 1),
            Self::Pixels(29..=47) => (RasterHeight::Size32, 1, 1),
            Self::Pixels(pixels) => (RasterHeight::Size32, (pixels + 16) / 32, 1),
        }
    }
}

/// An RGB picture to draw on. Coordinates are pixels from the upper left corner;
/// what lies outside is cut off.
#[derive(Clone, Debug)]
pub struct Canvas {
    pixels: Pixmap,
}

impl Canvas {
    /// A picture in one colour.
    ///
    /// # Errors
    /// [`Error::Size`] when it has no pixels or too many.
    pub fn new(width: usize, height: usize, colour: Colour) -> Result<Self, Error> {
        let size = Error::Size { width, height };
        let (Ok(w), Ok(h)) = (width.try_into(), height.try_into()) else {
            return Err(size);
        };
        let mut pixels = Pixmap::new(w, h).ok_or(size)?;
        let [r, g, b] = colour.rgb;
        pixels.fill(Color::from_rgba8(r, g, b, 255));
        Ok(Self { pixels })
    }

    /// A picture from a frame (H, W, 3).
    ///
    /// # Errors
    /// [`Error::Size`] when it has no pixels or too many.
    pub fn from_frame(frame: ArrayView3<'_, u8>) -> Result<Self, Error> {
        let (height, width, _) = frame.dim();
        let mut canvas = Self::new(width, height, Colour::BLACK)?;
        for (pixel, rgb) in canvas
            .pixels
            .data_mut()
            .chunks_exact_mut(4)
            .zip(frame.rows())
        {
            for (to, from) in pixel.iter_mut().zip(rgb) {
                *to = *from;
            }
        }
        Ok(canvas)
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.pixels.width() as usize
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.pixels.height() as usize
    }

    /// The bytes of the picture, red, green, blue, row by row.
    pub fn rgb(&self) -> Vec<u8> {
        // Everything is drawn onto opaque pixels, so nothing is premultiplied.
        self.pixels
            .data()
            .chunks_exact(4)
            .flat_map(|p| [p[0], p[1], p[2]])
            .collect()
    }

    /// Copies a row of the picture, red, green, blue, into `row`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn copy_row(&self, y: usize, row: &mut [u8]) {
        let from = &self.pixels.data()[4 * y * self.width()..];
        for (to, from) in row.chunks_exact_mut(3).zip(from.chunks_exact(4)) {
            to.copy_from_slice(&from[..3]);
        }
    }

    /// The picture as a frame (H, W, 3).
    pub fn to_frame(&self) -> Array3<u8> {
        let rgb = self.rgb();
        let row = 3 * self.width();
        Array3::from_shape_fn((self.height(), self.width(), 3), |(y, x, c)| {
            rgb[y * row + 3 * x + c]
        })
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, x: f32, y: f32, width: f32, height: f32, colour: Colour) {
        if let Some(rect) = Rect::from_xywh(x, y, width, height) {
            self.pixels
                .fill_rect(rect, &colour.paint(), Transform::identity(), None);
        }
    }

    /// Outlines a rectangle given by two corners, with a line `thickness` wide.
    pub fn outline(&mut self, corners: [f32; 4], thickness: f32, colour: Colour) {
        let [x1, y1, x2, y2] = corners;
        self.polyline(
            &[[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]],
            thickness,
            colour,
        );
    }

    /// As [`Self::outline`], in dashes.
    pub fn outline_dashed(&mut self, corners: [f32; 4], thickness: f32, colour: Colour) {
        let [x1, y1, x2, y2] = corners;
        let dash = StrokeDash::new(vec![5.0 * thickness, 4.0 * thickness], 0.0);
        self.line(
            &[[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]],
            thickness,
            colour,
            dash,
        );
    }

    /// Draws lines through points; points that are not finite are left out.
    pub fn polyline(&mut self, points: &[[f32; 2]], thickness: f32, colour: Colour) {
        self.line(points, thickness, colour, None);
    }

    fn line(
        &mut self,
        points: &[[f32; 2]],
        thickness: f32,
        colour: Colour,
        dash: Option<StrokeDash>,
    ) {
        let mut path = PathBuilder::new();
        for (i, [x, y]) in points
            .iter()
            .filter(|p| p.iter().all(|v| v.is_finite()))
            .enumerate()
        {
            match i {
                0 => path.move_to(*x, *y),
                _ => path.line_to(*x, *y),
            }
        }
        if let Some(path) = path.finish() {
            let stroke = Stroke {
                width: thickness,
                dash,
                ..Stroke::default()
            };
            self.pixels
                .stroke_path(&path, &colour.paint(), &stroke, Transform::identity(), None);
        }
    }

    /// Draws a disc.
    pub fn dot(&mut self, [x, y]: [f32; 2], radius: f32, colour: Colour) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.pixels.fill_path(
                &path,
                &colour.paint(),
                FillRule::Winding,
                Transform::identity(),
                None,
            );
        }
    }

    /// Copies another picture with its upper left corner at (x, y).
    pub fn paste(&mut self, other: &Self, x: usize, y: usize) {
        let (Ok(x), Ok(y)) = (x.try_into(), y.try_into()) else {
            return;
        };
        self.pixels.draw_pixmap(
            x,
            y,
            other.pixels.as_ref(),
            &PixmapPaint::default(),
            Transform::identity(),
            None,
        );
    }

    /// Writes one line with its upper left corner at (x, y). Characters outside
    /// printable ASCII become `?`.
    pub fn text(&mut self, x: f32, y: f32, text: &str, size: TextSize, colour: Colour) {
        let (x, y) = (x.round() as i64, y.round() as i64);
        self.glyphs(text, size, colour, |along, down| (x + along, y + down));
    }

    /// Writes one line upwards, a quarter turn to the left of [`Self::text`], with
    /// the lower left corner of the picture's area it covers at (x, y).
    pub fn text_upwards(&mut self, x: f32, y: f32, text: &str, size: TextSize, colour: Colour) {
        let (x, y) = (x.round() as i64, y.round() as i64);
        self.glyphs(text, size, colour, |along, down| (x + down, y - 1 - along));
    }

    /// Draws a line of text whose pixel (`along` the line, `down` from its top)
    /// lands where `place` says.
    fn glyphs(
        &mut self,
        text: &str,
        size: TextSize,
        colour: Colour,
        place: impl Fn(i64, i64) -> (i64, i64),
    ) {
        let (width, height) = (self.width() as i64, self.height() as i64);
        let (raster, times, of) = size.raster();
        let mut left = 0;
        for c in text.chars() {
            let Some(glyph) = get_raster(c, FontWeight::Regular, raster)
                .or_else(|| get_raster('?', FontWeight::Regular, raster))
            else {
                continue;
            };
            // The mean of the font's pixels that are drawn as one.
            let coverage = |x: usize, y: usize| {
                let square =
                    (0..of * of).map(|i| (x / times * of + i % of, y / times * of + i / of));
                let sum: usize = square
                    .filter_map(|(x, y)| glyph.pixel(x, y).map(usize::from))
                    .sum();
                (sum / (of * of)) as u8
            };
            for dy in 0..raster.val() * times / of {
                for dx in 0..glyph.width() * times / of {
                    let (px, py) = place(left + dx as i64, dy as i64);
                    if (0..width).contains(&px) && (0..height).contains(&py) {
                        self.blend((py * width + px) as usize, coverage(dx, dy), colour);
                    }
                }
            }
            left += (glyph.width() * times / of) as i64;
        }
    }

    fn blend(&mut self, pixel: usize, coverage: u8, colour: Colour) {
        let weight = u32::from(coverage) * u32::from(colour.alpha) / 255;
        let pixel = &mut self.pixels.data_mut()[4 * pixel..4 * pixel + 3];
        for (to, from) in pixel.iter_mut().zip(colour.rgb) {
            *to = ((u32::from(*to) * (255 - weight) + u32::from(from) * weight) / 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_went_in() {
        let frame = Array3::from_shape_fn((5, 7, 3), |(y, x, c)| (40 * y + 5 * x + c) as u8);
        assert_eq!(
            Canvas::from_frame(frame.view()).expect("drawn").to_frame(),
            frame
        );
    }

    #[test]
    fn shapes_land_where_they_should_and_are_cut_at_the_border() {
        let mut canvas = Canvas::new(20, 10, Colour::BLACK).expect("drawn");
        canvas.fill(-5.0, 2.0, 10.0, 3.0, Colour::WHITE);
        canvas.outline([1e9, f32::NAN, 3.0, 4.0], 1.0, Colour::WHITE);
        canvas.text(15.0, -3.0, "Aé", TextSize::Small, Colour::WHITE);
        let frame = canvas.to_frame();
        assert_eq!(
            (frame[[2, 4, 0]], frame[[2, 5, 0]], frame[[1, 4, 0]]),
            (255, 0, 0)
        );
    }

    #[test]
    fn text_upwards_is_the_text_turned_to_the_left() {
        let (w, h) = (TextSize::Small.width("Ab1"), TextSize::Small.line());
        let mut across = Canvas::new(w, h, Colour::WHITE).expect("drawn");
        across.text(0.0, 0.0, "Ab1", TextSize::Small, Colour::BLACK);
        let mut up = Canvas::new(h, w, Colour::WHITE).expect("drawn");
        up.text_upwards(0.0, w as f32, "Ab1", TextSize::Small, Colour::BLACK);
        let (across, up) = (across.to_frame(), up.to_frame());
        assert!(across.iter().any(|v| *v < 100), "something was written");
        for y in 0..h {
            for x in 0..w {
                assert_eq!(across[[y, x, 0]], up[[w - 1 - x, y, 0]], "{x}, {y}");
            }
        }
    }

    #[test]
    fn a_picture_without_pixels_is_an_error() {
        assert!(matches!(
            Canvas::new(0, 5, Colour::BLACK),
            Err(Error::Size { .. })
        ));
    }
}
