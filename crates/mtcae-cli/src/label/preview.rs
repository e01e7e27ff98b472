//! Contact sheets of labelled frames.

use std::path::Path;

use mtcae_core::Face;
use mtcae_dfer::video::{ClipOptions, Video};
use mtcae_labels::dataset::Sample;
use mtcae_labels::labels::{LabelledClip, Validity};
use mtcae_viz::{Canvas, Colour, contact_sheet, draw_face, save_png};

const WIDTH: u32 = 240;
const INTERPOLATED: Colour = Colour::new(240, 170, 60);
const OTHERS: Colour = Colour::GREY;
const SUBJECT: Colour = Colour::new(86, 220, 120);

/// Sixteen frames of a clip with its faces: the subject's in green, in orange where
/// interpolated, others in grey. Named by the clip's number and file.
pub fn write(
    folder: &Path,
    number: usize,
    sample: &Sample,
    labels: &LabelledClip,
) -> Result<(), Box<dyn std::error::Error>> {
    if labels.frames.is_empty() {
        return Ok(());
    }
    let mut video = Video::open(&sample.path)?;
    let (w, h) = video.info().geometry.display_size();
    let height = (f64::from(WIDTH) * f64::from(h) / f64::from(w))
        .round()
        .clamp(1.0, 4096.0) as u32;
    let clip = video.clip(&ClipOptions {
        size: (WIDTH, height),
        ..ClipOptions::default()
    })?;
    let scale = [WIDTH as f32, height as f32];
    let mut pictures = Vec::with_capacity(clip.len());
    for (frame, index) in clip.frames.outer_iter().zip(&clip.indices) {
        let mut picture = Canvas::from_frame(frame)?;
        // The labelled frame nearest to this one.
        let place = labels
            .frames
            .iter()
            .enumerate()
            .min_by_key(|(_, f)| f.index.abs_diff(*index))
            .map(|(i, _)| i);
        for track in &labels.tracks {
            let Some(face) = place.and_then(|i| LabelledClip::face(track, i)) else {
                continue;
            };
            let is_subject = labels
                .subject_track()
                .is_some_and(|s| std::ptr::eq(s, track));
            let colour = match (is_subject, face.validity) {
                (false, _) => OTHERS,
                (true, Validity::Interpolated) => INTERPOLATED,
                (true, _) => SUBJECT,
            };
            let shown = Face::from(face).map(|[x, y]| [x * scale[0], y * scale[1]]);
            let (face_box, landmarks) = (Some(shown.face_box), Some(shown.landmarks));
            draw_face(&mut picture, face_box, landmarks, "", colour);
        }
        pictures.push(picture);
    }
    let stem = sample
        .path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    save_png(
        folder.join(format!("{number:06}-{stem}.png")),
        &contact_sheet(&pictures, 4)?,
    )?;
    Ok(())
}
