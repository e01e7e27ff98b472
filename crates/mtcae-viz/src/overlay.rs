//! Faces drawn on frames, and what is said beside them.

use mtcae_core::{FaceBox, Landmarks};

use crate::{Canvas, Colour, TextSize};

/// The ground of text on a picture.
const GROUND: Colour = Colour::BLACK.with_alpha(170);

/// What lines and points are multiples of: 1 on pictures of up to 540 pixels, and growing
/// with larger ones.
fn unit(canvas: &Canvas) -> f32 {
    match canvas.height().min(canvas.width()) {
        side @ 0..120 => (side as f32 / 120.0).max(0.6),
        side => (side as f32 / 540.0).max(1.0),
    }
}

/// Draws what is given of a face, in pixels of the picture: the box, the points and, on a
/// dark ground at the box (or the upper left corner), the label. Lines, points and letters
/// grow with the picture.
pub fn draw_face(
    canvas: &mut Canvas,
    face_box: Option<FaceBox>,
    landmarks: Option<Landmarks>,
    label: &str,
    colour: Colour,
) {
    let unit = unit(canvas);
    let corners = face_box.map(|b| b.corners());
    if let Some(corners) = corners {
        canvas.outline(corners, 1.5 * unit, colour);
    }
    for point in landmarks.iter().flat_map(Landmarks::points) {
        canvas.dot(point, 2.6 * unit, Colour::BLACK.with_alpha(160));
        canvas.dot(point, 1.8 * unit, colour);
    }
    if !label.is_empty() {
        let [x, y, ..] = corners.unwrap_or_default();
        let size = TextSize::fitting(canvas.width(), canvas.height());
        // Above the box where there is room.
        words(canvas, [x, y - size.line() as f32], &[(label, colour)]);
    }
}

/// Draws the part of a picture that somebody looked at, x1, y1, x2, y2, in dashes.
pub fn draw_part(canvas: &mut Canvas, part: [f32; 4], colour: Colour) {
    let thickness = 1.2 * unit(canvas);
    // Whole even where it ends with the picture.
    let [w, h] = [canvas.width() as f32, canvas.height() as f32];
    let inset = thickness / 2.0;
    let [x1, y1, x2, y2] = part;
    canvas.outline_dashed(
        [
            x1.max(inset),
            y1.max(inset),
            x2.min(w - inset),
            y2.min(h - inset),
        ],
        thickness,
        colour,
    );
}

/// Writes a text into the lower left corner, on a dark ground.
pub fn draw_tag(canvas: &mut Canvas, text: &str, colour: Colour) {
    let below = canvas.height() as f32;
    words(canvas, [0.0, below], &[(text, colour)]);
}

/// Says in the lower left corner what the colours mean.
pub fn draw_legend(canvas: &mut Canvas, entries: &[(&str, Colour)]) {
    let below = canvas.height() as f32;
    words(canvas, [0.0, below], entries);
}

/// Words in their colours in one line with its upper left corner at a place, moved so
/// that the line is inside the picture.
fn words(canvas: &mut Canvas, [x, y]: [f32; 2], words: &[(&str, Colour)]) {
    let (across, down) = (canvas.width(), canvas.height());
    let line: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let line = line.join(" ");
    let best = TextSize::fitting(across, down);
    let gap = (best.line() / 4).max(2);
    // Smaller where it would not fit otherwise.
    let size = [best.line(), best.line() * 2 / 3, best.line() / 2]
        .map(TextSize::Pixels)
        .into_iter()
        .find(|size| size.width(&line) + 2 * gap <= across)
        .unwrap_or(TextSize::Pixels(10));
    let (width, height) = ((size.width(&line) + 2 * gap) as f32, size.line() as f32);
    let x = x.clamp(0.0, (across as f32 - width).max(0.0));
    let y = y.clamp(0.0, (down as f32 - height).max(0.0));
    canvas.fill(x, y, width, height, GROUND);
    let mut at = x + gap as f32;
    for (word, colour) in words {
        canvas.text(at, y, word, size, *colour);
        at += size.width(&format!("{word} ")) as f32;
    }
}
