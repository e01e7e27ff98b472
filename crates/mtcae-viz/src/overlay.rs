//! Faces drawn on frames.

use crate::{Canvas, Colour, TextSize};

/// A face to draw, in pixels of the picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Face {
    /// x1, y1, x2, y2.
    pub bounds: Option<[f32; 4]>,
    /// Points (x, y).
    pub landmarks: Vec<[f32; 2]>,
    /// Text at the box, or at the upper left corner where there is none.
    pub label: String,
}

/// Draws a face: the box, the points and, on a dark ground, the label. Lines and
/// points grow with the picture.
pub fn draw_face(canvas: &mut Canvas, face: &Face, colour: Colour) {
    let unit = (canvas.height().min(canvas.width()) as f32 / 240.0).max(1.0);
    if let Some(bounds) = face.bounds {
        canvas.outline(bounds, 1.5 * unit, colour);
    }
    for point in &face.landmarks {
        canvas.dot(*point, 2.4 * unit, Colour::BLACK.with_alpha(160));
        canvas.dot(*point, 1.6 * unit, colour);
    }
    if !face.label.is_empty() {
        let size = if unit > 2.0 {
            TextSize::Large
        } else {
            TextSize::Small
        };
        let (width, height) = (size.width(&face.label) as f32 + 6.0, size.line() as f32);
        let [x, y, ..] = face.bounds.unwrap_or_default();
        // Above the box where there is room, and always inside the picture.
        let x = x.clamp(0.0, (canvas.width() as f32 - width).max(0.0));
        let y = (y - height).clamp(0.0, (canvas.height() as f32 - height).max(0.0));
        canvas.fill(x, y, width, height, Colour::BLACK.with_alpha(170));
        canvas.text(x + 3.0, y, &face.label, size, colour);
    }
}
