//! Results under the column names of OpenFace.

use arrow_array::RecordBatch;
use mtcae_dfer::Results;

use crate::Error;
use crate::frame::{Frame, frames_of, strength};
use crate::table::{Table, distinct};

/// OpenFace's strongest action unit; ours is 1.
const STRONGEST: f32 = 5.0;

/// Results as a table of frames with OpenFace's names: `frame`, from 1; `face_id`, from 0;
/// `timestamp` in seconds; `confidence`, the detector's, and `success`, 1 where it sees the
/// face, both null where none was asked; `x_0` … `x_4`, `y_0` … `y_4`, the model's five
/// landmarks in pixels (the eyes, the nose, the corners of the mouth, and not the first of
/// OpenFace's 68); `AU01_r` …, the action units, from 0 to 5. Behind them, what OpenFace does
/// not have: `expression`, `expression_confidence`, `refusal`.
///
/// # Errors
/// [`Error::Arrow`] where a table cannot be built.
pub fn openface(results: &[&Results]) -> Result<RecordBatch, Error> {
    let rows: Vec<Frame<'_>> = results.iter().flat_map(|r| frames_of(r)).collect();
    let predictions = || results.iter().flat_map(|r| r.answer.predictions());
    let units = distinct(predictions().flat_map(|p| p.action_units.iter().map(String::as_str)));
    let mut table = Table::default();
    table.frames(
        "frame",
        rows.iter().map(|r| Some(r.frame.index.saturating_add(1))),
    );
    let id = |r: &Frame<'_>| r.prediction.person.map_or(0, |n| n.saturating_sub(1));
    table.integers("face_id", rows.iter().map(|r| Some(id(r))));
    table.times("timestamp", rows.iter().map(|r| Some(r.frame.time)));
    let score = |r: &Frame<'_>| {
        let asked = r.prediction.seen.is_some();
        asked.then(|| r.frame.detected.map_or(0.0, |d| d.score))
    };
    table.numbers("confidence", rows.iter().map(score));
    let success = |r: &Frame<'_>| score(r).map(|score| u32::from(score > 0.0));
    table.integers("success", rows.iter().map(success));
    for (axis, name) in ["x", "y"].into_iter().enumerate() {
        for point in 0..5 {
            let of = |r: &Frame<'_>| r.frame.landmarks.map(|l| l.points()[point][axis]);
            table.numbers(&format!("{name}_{point}"), rows.iter().map(of));
        }
    }
    for unit in units {
        let of = |r: &Frame<'_>| strength(r, unit).map(|s| STRONGEST * s);
        table.numbers(&column(unit), rows.iter().map(of));
    }
    table.words("expression", rows.iter().map(Frame::expression));
    let sure = |r: &Frame<'_>| r.expression().map(|_| r.prediction.confidence);
    table.numbers("expression_confidence", rows.iter().map(sure));
    table.words("refusal", rows.iter().map(Frame::refusal));
    table.finish("mtcae-frames-openface", results)
}

/// `AU1` as `AU01_r`.
fn column(unit: &str) -> String {
    match unit.strip_prefix("AU").and_then(|n| n.parse::<u32>().ok()) {
        Some(number) => format!("AU{number:02}_r"),
        None => format!("{unit}_r"),
    }
}
