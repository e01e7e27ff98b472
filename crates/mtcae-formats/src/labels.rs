//! Label files as tables and as COCO.

use std::io::Write;

use arrow_array::RecordBatch;
use mtcae_core::{Face, FaceBox, Landmarks};
use mtcae_labels::labels::{FaceRecord, FrameRecord, LabelledClip, TrackRecord, Validity};
use serde_json::json;

use crate::coco::{Coco, FACE};
use crate::table::Table;
use crate::{Error, about};

/// What labels are for, and what not.
const PURPOSE: &str = "Faces and landmarks of video clips, and what a data set says of them, to \
    train and to measure models on.";

/// A row of a table of labels: a frame of a clip, and a face in it, if there is one.
struct Row<'a> {
    clip: &'a LabelledClip,
    frame: Option<usize>,
    face: Option<(&'a TrackRecord, &'a FaceRecord)>,
}

impl Row<'_> {
    fn frame(&self) -> Option<&FrameRecord> {
        self.clip.frames.get(self.frame?)
    }
}

/// As `label --csv` has them: a row for each frame and face, one without a face for a frame
/// that shows none, and one without a frame for a clip that could not be read.
fn rows(clips: &[LabelledClip]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for clip in clips {
        if clip.frames.is_empty() {
            rows.push(Row {
                clip,
                frame: None,
                face: None,
            });
        }
        for i in 0..clip.frames.len() {
            let faces = clip
                .tracks
                .iter()
                .filter_map(|t| Some((t, LabelledClip::face(t, i)?)));
            let before = rows.len();
            rows.extend(faces.map(|face| Row {
                clip,
                frame: Some(i),
                face: Some(face),
            }));
            if rows.len() == before {
                rows.push(Row {
                    clip,
                    frame: Some(i),
                    face: None,
                });
            }
        }
    }
    rows
}

fn name(validity: Validity) -> &'static str {
    match validity {
        Validity::Detected => "detected",
        Validity::Interpolated => "interpolated",
        Validity::None => "none",
    }
}

/// A face in pixels of its clip's source.
fn in_pixels(clip: &LabelledClip, face: &FaceRecord) -> (FaceBox, Landmarks) {
    let [w, h] = size(clip).map(|n| n as f32);
    let face = Face::from(face).map(|[x, y]| [x * w, y * h]);
    (face.face_box, face.landmarks)
}

fn size(clip: &LabelledClip) -> [u32; 2] {
    clip.source.map_or([1, 1], |s| [s.width, s.height])
}

/// Labels as a table, with the columns of `label --csv` and `warnings`; types as
/// [`frames`](crate::arrow::frames) has them.
///
/// # Errors
/// [`Error::Arrow`] where a table cannot be built.
pub fn label_frames(clips: &[LabelledClip]) -> Result<RecordBatch, Error> {
    let rows = rows(clips);
    let mut table = Table::default();
    table.words("file", rows.iter().map(|r| Some(&r.clip.file[..])));
    table.words("dataset", rows.iter().map(|r| Some(&r.clip.dataset[..])));
    table.words("class", rows.iter().map(|r| r.clip.class.as_deref()));
    table.words("subject", rows.iter().map(|r| r.clip.subject.as_deref()));
    table.integers("fold", rows.iter().map(|r| r.clip.fold));
    table.frames("frame", rows.iter().map(|r| Some(r.frame()?.index)));
    table.times("time", rows.iter().map(|r| Some(r.frame()?.time)));
    table.integers("track", rows.iter().map(|r| Some(r.face?.0.id)));
    table.switches(
        "is_subject",
        rows.iter().map(|r| Some(r.face?.0.is_subject)),
    );
    let validity = |r: &Row<'_>| match r.face {
        Some((_, face)) => Some(name(face.validity)),
        None => r.frame.map(|_| name(Validity::None)),
    };
    table.words("validity", rows.iter().map(validity));
    table.numbers("score", rows.iter().map(|r| Some(r.face?.1.score)));
    for (i, side) in ["width", "height"].into_iter().enumerate() {
        let of = |r: &Row<'_>| r.clip.source.map(|_| size(r.clip)[i]);
        table.integers(side, rows.iter().map(of));
    }
    table.faces("", &rows, |r| {
        let face = r.face.map(|(_, face)| in_pixels(r.clip, face));
        (face.map(|f| f.0), face.map(|f| f.1))
    });
    table.words("error", rows.iter().map(|r| r.clip.error.as_deref()));
    table.lists("warnings", rows.iter().map(|r| r.clip.warnings.clone()));
    table.with(vec![
        ("format", "mtcae-label-frames".to_owned()),
        ("purpose", PURPOSE.to_owned()),
    ])
}

/// Writes labels as one COCO data set: an image a frame, named `FILE#frame=N`, and an
/// annotation a face. The `attributes` of a face are its `track`, `is_subject`, `validity`,
/// `expression` (the clip's class, of the subject alone) and `subject`.
///
/// # Errors
/// What the writer reports.
pub fn write_label_coco(clips: &[LabelledClip], out: impl Write) -> Result<(), Error> {
    let mut coco = Coco::new(json!({"description": PURPOSE, (about::FILE): null}));
    for clip in clips {
        let mut images = std::collections::HashSet::new();
        for (i, frame) in clip.frames.iter().enumerate() {
            // A frame that the sampling repeats is one image.
            if !images.insert(frame.index) {
                continue;
            }
            let image = coco.image(&clip.file, frame.index, frame.time, size(clip));
            for track in &clip.tracks {
                let Some(face) = LabelledClip::face(track, i) else {
                    continue;
                };
                let (face_box, landmarks) = in_pixels(clip, face);
                let attributes = json!({
                    "track": track.id,
                    "is_subject": track.is_subject,
                    "validity": name(face.validity),
                    "expression": clip.class.as_ref().filter(|_| track.is_subject),
                    "subject": clip.subject.as_ref().filter(|_| track.is_subject),
                });
                let place = (face_box, Some(landmarks));
                coco.face(image, FACE, place, Some(face.score), attributes);
            }
        }
    }
    coco.write(out)
}
