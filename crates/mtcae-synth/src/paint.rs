//! Shapes onto pixels.

use tiny_skia::{
    BlendMode, Color, FillRule, LineCap, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, Stroke,
    Transform,
};

use crate::geometry::Point;
use crate::identity::Colour;

/// Where paint goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// Everywhere.
    All,
    /// Only where something is already: shapes are cut by what they lie on.
    Painted,
}

/// A smooth curve through points; closed or not.
pub(crate) fn curve(points: &[Point], closed: bool) -> Option<Path> {
    let n = points.len();
    if n < 2 {
        return None;
    }
    let at = |i: isize| {
        let n = n as isize;
        let i = if closed {
            i.rem_euclid(n)
        } else {
            i.clamp(0, n - 1)
        };
        points[i as usize]
    };
    let mut path = PathBuilder::new();
    path.move_to(points[0][0], points[0][1]);
    let pieces = if closed { n } else { n - 1 };
    for i in 0..pieces as isize {
        // Catmull and Rom's spline as a cubic Bézier curve.
        let (a, b, c, d) = (at(i - 1), at(i), at(i + 1), at(i + 2));
        path.cubic_to(
            b[0] + (c[0] - a[0]) / 6.0,
            b[1] + (c[1] - a[1]) / 6.0,
            c[0] - (d[0] - b[0]) / 6.0,
            c[1] - (d[1] - b[1]) / 6.0,
            c[0],
            c[1],
        );
    }
    if closed {
        path.close();
    }
    path.finish()
}

/// The area within points.
pub(crate) fn polygon(points: &[Point]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, [x, y]) in points.iter().enumerate() {
        match i {
            0 => path.move_to(*x, *y),
            _ => path.line_to(*x, *y),
        }
    }
    path.close();
    path.finish()
}

/// An ellipse turned by an angle in radians.
pub(crate) fn ellipse([x, y]: Point, [rx, ry]: [f32; 2], angle: f32) -> Option<Path> {
    let path = PathBuilder::from_circle(0.0, 0.0, 1.0)?;
    let (s, c) = angle.sin_cos();
    path.transform(Transform::from_row(c * rx, s * rx, -s * ry, c * ry, x, y))
}

fn paint(colour: Colour, alpha: f32, on: On) -> Paint<'static> {
    let [r, g, b] = colour.map(|c| c.clamp(0.0, 1.0));
    let mut paint = Paint {
        blend_mode: match on {
            On::All => BlendMode::SourceOver,
            On::Painted => BlendMode::SourceAtop,
        },
        ..Paint::default()
    };
    if let Some(colour) = Color::from_rgba(r, g, b, alpha.clamp(0.0, 1.0)) {
        paint.set_color(colour);
    }
    paint
}

/// A picture that is painted on.
pub(crate) struct Layer {
    pub pixels: Pixmap,
    /// A stencil for [`Layer::fill_within`].
    stencil: Mask,
}

impl Layer {
    /// A transparent one, if there are as many bytes.
    pub fn new(width: u32, height: u32) -> Option<Self> {
        Some(Self {
            pixels: Pixmap::new(width, height)?,
            stencil: Mask::new(width, height)?,
        })
    }

    /// Makes all transparent.
    pub fn clear(&mut self) {
        self.pixels.data_mut().fill(0);
    }

    /// Fills a path.
    pub fn fill(&mut self, path: Option<Path>, colour: Colour, alpha: f32, on: On) {
        if let Some(path) = path {
            self.pixels.fill_path(
                &path,
                &paint(colour, alpha, on),
                FillRule::Winding,
                Transform::identity(),
                None,
            );
        }
    }

    /// Cuts what [`fill_within`](Self::fill_within) fills to a path.
    pub fn cut(&mut self, path: Option<Path>) {
        self.stencil.clear();
        if let Some(path) = path {
            let rule = FillRule::Winding;
            self.stencil
                .fill_path(&path, rule, true, Transform::identity());
        }
    }

    /// Fills a path where the last [`cut`](Self::cut) was.
    pub fn fill_within(&mut self, path: Option<Path>, colour: Colour, alpha: f32) {
        if let Some(path) = path {
            self.pixels.fill_path(
                &path,
                &paint(colour, alpha, On::All),
                FillRule::Winding,
                Transform::identity(),
                Some(&self.stencil),
            );
        }
    }

    /// Draws a line of this width in pixels along a path.
    pub fn line(&mut self, path: Option<Path>, width: f32, colour: Colour, alpha: f32, on: On) {
        self.stroke(path, width, colour, alpha, on, false);
    }

    /// Draws a line where the last [`cut`](Self::cut) was.
    pub fn line_within(&mut self, path: Option<Path>, width: f32, colour: Colour, alpha: f32) {
        self.stroke(path, width, colour, alpha, On::All, true);
    }

    fn stroke(
        &mut self,
        path: Option<Path>,
        width: f32,
        colour: Colour,
        alpha: f32,
        on: On,
        within: bool,
    ) {
        // Finer than this, a line fades instead.
        let alpha = alpha * (width / 0.7).min(1.0);
        if let Some(path) = path
            && alpha > 0.004
        {
            let stroke = Stroke {
                width: width.max(0.7),
                line_cap: LineCap::Round,
                line_join: LineJoin::Round,
                ..Stroke::default()
            };
            let paint = paint(colour, alpha, on);
            let mask = within.then_some(&self.stencil);
            self.pixels
                .stroke_path(&path, &paint, &stroke, Transform::identity(), mask);
        }
    }

    /// A fold of the skin: a dark line in a soft, broader one.
    pub fn fold(&mut self, points: &[Point], width: f32, colour: Colour, alpha: f32) {
        if alpha > 0.01 {
            let path = curve(points, false);
            self.line(path.clone(), width * 2.3, colour, alpha * 0.36, On::Painted);
            self.line(path, width * 0.9, colour, alpha * 0.58, On::Painted);
        }
    }

    /// A soft ellipse, where something is painted already.
    pub fn soft(
        &mut self,
        [cx, cy]: Point,
        [rx, ry]: [f32; 2],
        angle: f32,
        colour: Colour,
        alpha: f32,
    ) {
        let (w, h) = (self.pixels.width() as i32, self.pixels.height() as i32);
        let (s, c) = angle.sin_cos();
        let reach = |a: f32, b: f32| (a * a + b * b).sqrt();
        let (ex, ey) = (reach(rx * c, ry * s), reach(rx * s, ry * c));
        if !(ex > 0.0 && ey > 0.0 && alpha > 0.004) {
            return;
        }
        let columns = ((cx - ex).floor() as i32).max(0)..((cx + ex).ceil() as i32).min(w);
        let rows = ((cy - ey).floor() as i32).max(0)..((cy + ey).ceil() as i32).min(h);
        let colour = colour.map(|v| v.clamp(0.0, 1.0));
        let data = self.pixels.data_mut();
        for y in rows {
            for x in columns.clone() {
                let (dx, dy) = (x as f32 + 0.5 - cx, y as f32 + 0.5 - cy);
                let (u, v) = ((dx * c + dy * s) / rx, (dy * c - dx * s) / ry);
                let inside = 1.0 - u * u - v * v;
                if inside <= 0.0 {
                    continue;
                }
                let weight = alpha * inside * inside;
                let at = 4 * (y * w + x) as usize;
                let opacity = f32::from(data[at + 3]);
                for i in 0..3 {
                    let before = f32::from(data[at + i]);
                    let after = before + (colour[i] * opacity - before) * weight;
                    data[at + i] = (after + 0.5) as u8;
                }
            }
        }
    }

    /// Lays another layer of the same size on top.
    pub fn lay(&mut self, top: &Self) {
        let top = top.pixels.data().chunks_exact(4);
        for (below, above) in self.pixels.data_mut().chunks_exact_mut(4).zip(top) {
            match above[3] {
                0 => {}
                255 => below.copy_from_slice(above),
                alpha => {
                    let left = 255 - u32::from(alpha);
                    for (b, a) in below.iter_mut().zip(above) {
                        *b = (u32::from(*a) + (u32::from(*b) * left + 127) / 255).min(255) as u8;
                    }
                }
            }
        }
    }
}
