//! Labels as a CSV table: one row of each frame and face.

use std::io::Write;

use super::record::{FaceRecord, LabelledClip, Validity};
use crate::Error;

const COLUMNS: [&str; 28] = [
    "file",
    "dataset",
    "class",
    "subject",
    "fold",
    "frame",
    "time",
    "track",
    "is_subject",
    "validity",
    "score",
    "width",
    "height",
    "x1",
    "y1",
    "x2",
    "y2",
    "left_eye_x",
    "left_eye_y",
    "right_eye_x",
    "right_eye_y",
    "nose_x",
    "nose_y",
    "mouth_left_x",
    "mouth_left_y",
    "mouth_right_x",
    "mouth_right_y",
    "error",
];

/// Writes a heading and a row for each frame and face, in pixels of the source
/// and seconds. A frame without a face has one row with the validity `none`; a
/// clip without a frame one row with its error. `frame` is the number in the
/// stream.
///
/// # Errors
/// What `clips` gives, and [`Error::Table`] when `out` cannot be written.
pub fn write_table(
    clips: impl IntoIterator<Item = Result<LabelledClip, Error>>,
    out: impl Write,
) -> Result<(), Error> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record(COLUMNS)?;
    for clip in clips {
        let clip = clip?;
        let fold = clip.fold.map_or(String::new(), |f| f.to_string());
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        let start = [
            clip.file.clone(),
            clip.dataset.clone(),
            text(&clip.class),
            text(&clip.subject),
            fold,
        ];
        let mut row = |middle: Vec<String>| {
            let end = [text(&clip.error)];
            let empty = COLUMNS.len() - start.len() - middle.len() - 1;
            table.write_record(
                (start.iter())
                    .chain(&middle)
                    .chain(&vec![String::new(); empty])
                    .chain(&end),
            )
        };
        if clip.frames.is_empty() {
            row(Vec::new())?;
        }
        for (i, frame) in clip.frames.iter().enumerate() {
            let of_frame = [frame.index.to_string(), frame.time.to_string()];
            let mut any = false;
            for track in &clip.tracks {
                let Some(face) = LabelledClip::face(track, i) else {
                    continue;
                };
                any = true;
                let mut middle = of_frame.to_vec();
                middle.extend([track.id.to_string(), track.is_subject.to_string()]);
                middle.extend(face_cells(&clip, face));
                row(middle)?;
            }
            if !any {
                let none = [String::new(), String::new(), "none".to_owned()];
                row([&of_frame[..], &none].concat())?;
            }
        }
    }
    table.flush().map_err(csv::Error::from)?;
    Ok(())
}

fn face_cells(clip: &LabelledClip, face: &FaceRecord) -> Vec<String> {
    let (w, h) = clip.source.map_or((1, 1), |s| (s.width, s.height));
    let validity = match face.validity {
        Validity::Detected => "detected",
        Validity::Interpolated => "interpolated",
        Validity::None => "none",
    };
    let mut cells = vec![
        validity.to_owned(),
        face.score.to_string(),
        w.to_string(),
        h.to_string(),
    ];
    let numbers = face.bbox.iter().chain(face.landmarks.as_flattened());
    cells.extend(numbers.enumerate().map(|(i, v)| {
        let size = if i % 2 == 0 { w } else { h };
        format!("{:.3}", f64::from(*v) * f64::from(size))
    }));
    cells
}
