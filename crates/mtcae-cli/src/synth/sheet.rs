//! A contact sheet of expressions.

use std::path::Path;

use mtcae_synth::{Dataset, Renderer};
use mtcae_viz::{Canvas, Colour, TextSize, contact_sheet, draw_face, save_png};

use crate::Fault;

/// One row an actor, one column an expression, at the apex of its full strength.
pub fn write(
    path: &Path,
    dataset: &Dataset,
    renderer: &Renderer,
    rows: u32,
    truth: bool,
) -> Result<(), Fault> {
    let start = dataset.identities.start;
    let dataset = Dataset {
        identities: start..start + rows,
        takes: 1,
        balanced: false,
        ..dataset.clone()
    };
    let mut pictures = Vec::new();
    for clip in dataset.plan()? {
        let full = clip.take.expression.intensities().last();
        if full != Some(&clip.take.intensity) {
            continue;
        }
        let (frame, face) = renderer.render_apex(&clip.take)?;
        let mut picture = Canvas::from_frame(frame.view())?;
        if truth {
            let (w, h) = (clip.take.width as f32, clip.take.height as f32);
            let drawn = face.map(|[x, y]| [x * w, y * h]);
            let (face_box, landmarks) = (Some(drawn.face_box), Some(drawn.landmarks));
            draw_face(&mut picture, face_box, landmarks, "", Colour::series(0));
        }
        let line = TextSize::Small.line() + 4;
        let mut named = Canvas::new(picture.width(), picture.height() + line, Colour::BLACK)?;
        named.paste(&picture, 0, line);
        let name = format!("{} {}", clip.subject(), clip.take.expression);
        named.text(4.0, 2.0, &name, TextSize::Small, Colour::WHITE);
        pictures.push(named);
    }
    save_png(path, &contact_sheet(&pictures, dataset.expressions.len())?)?;
    Ok(())
}
