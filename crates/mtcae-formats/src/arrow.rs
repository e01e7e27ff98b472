//! Results as Arrow tables.

use std::io::Write;

use arrow_array::RecordBatch;
use mtcae_dfer::Results;

use crate::frame::{Frame, frames_of, strength};
use crate::interval::{Interval, intervals_of};
use crate::table::{Table, distinct};
use crate::{Error, file_of};

/// Results as a table of frames: one row a frame and person, the frame once however many
/// windows it is in ([`frames_of`]).
///
/// Columns: `file`; `person`; `start`, `end` in seconds, of the clip or window; `frame`, from
/// 0; `time` in seconds; `expression`, null where no answer is given; `confidence`;
/// `refusal`, its kind, null where there is an answer; `frames_with_face` of
/// `frames_looked_at`; `p_CLASS` for each class; the model's face in pixels of the source
/// (`box_x1` … `mouth_right_y`); `AU1` … from 0 to 1; the detector's (`detected_score`,
/// `detected_box_x1` …); `warnings`. Strings are dictionaries, numbers `f32`, times `f64`,
/// numbers of frames `i64`; what is not there is null. Classes and action units are those of
/// all results, in the order in which they come. The schema's metadata says what the table is
/// (`format`), what it is for (`purpose`) and, as a JSON list with an entry for each of the
/// results, where it comes from (`provenance`).
///
/// # Errors
/// [`Error::Arrow`] where a table cannot be built.
pub fn frames(results: &[&Results]) -> Result<RecordBatch, Error> {
    let rows: Vec<Frame<'_>> = results.iter().flat_map(|r| frames_of(r)).collect();
    let predictions = || results.iter().flat_map(|r| r.answer.predictions());
    let classes =
        distinct(predictions().flat_map(|p| p.probabilities.iter().map(|p| p.class.as_str())));
    let units = distinct(predictions().flat_map(|p| p.action_units.iter().map(String::as_str)));

    let mut table = Table::default();
    let files = rows.iter().map(|r| r.prediction.file.as_ref());
    let files: Vec<_> = files.map(|f| f.map(|f| f.to_string_lossy())).collect();
    table.words("file", files.iter().map(Option::as_deref));
    table.integers("person", rows.iter().map(|r| r.prediction.person));
    table.times("start", rows.iter().map(|r| Some(r.prediction.start)));
    table.times("end", rows.iter().map(|r| Some(r.prediction.end)));
    table.frames("frame", rows.iter().map(|r| Some(r.frame.index)));
    table.times("time", rows.iter().map(|r| Some(r.frame.time)));
    table.words("expression", rows.iter().map(Frame::expression));
    table.numbers(
        "confidence",
        rows.iter().map(|r| Some(r.prediction.confidence)),
    );
    table.words("refusal", rows.iter().map(Frame::refusal));
    let seen = |r: &Frame<'_>| {
        r.prediction
            .seen
            .as_ref()
            .map(|seen| [seen.frames, seen.of])
    };
    table.integers(
        "frames_with_face",
        rows.iter().map(|r| seen(r).map(|s| s[0])),
    );
    table.integers(
        "frames_looked_at",
        rows.iter().map(|r| seen(r).map(|s| s[1])),
    );
    for class in classes {
        let of = |r: &Frame<'_>| {
            let mut told = r.prediction.probabilities.iter();
            told.find(|p| p.class == class).map(|p| p.probability)
        };
        table.numbers(&format!("p_{class}"), rows.iter().map(of));
    }
    table.faces("", &rows, |r| (r.frame.face_box, r.frame.landmarks));
    for unit in units {
        table.numbers(unit, rows.iter().map(|r| strength(r, unit)));
    }
    let detected = |r: &Frame<'_>| r.frame.detected;
    table.numbers(
        "detected_score",
        rows.iter().map(|r| detected(r).map(|d| d.score)),
    );
    table.faces("detected_", &rows, |r| {
        (
            detected(r).map(|d| d.face_box),
            detected(r).map(|d| d.landmarks),
        )
    });
    let said = |r: &Frame<'_>| {
        r.prediction
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    table.lists("warnings", rows.iter().map(said));
    table.finish("mtcae-frames", results)
}

/// Results as a table of intervals ([`intervals_of`]): `file`; `person`; `start`, `end` in
/// seconds, to the millisecond; `expression`, null where no answer is given; `confidence`,
/// its mean over the windows; `refusal`, its kind; `warnings`. Types and metadata as
/// [`frames`] has them.
///
/// # Errors
/// [`Error::Timeline`] of a timeline without a point for each window; [`Error::Arrow`].
pub fn intervals(results: &[&Results]) -> Result<RecordBatch, Error> {
    let mut rows: Vec<(Option<String>, Interval)> = Vec::new();
    for results in results {
        let file = file_of(results);
        let intervals = intervals_of(results)?.into_iter();
        rows.extend(intervals.map(|interval| (file.clone(), interval)));
    }
    let seconds = |ms: i64| Some(ms as f64 / 1000.0);
    let mut table = Table::default();
    table.words("file", rows.iter().map(|(file, _)| file.as_deref()));
    table.integers("person", rows.iter().map(|(_, i)| i.person));
    table.times("start", rows.iter().map(|(_, i)| seconds(i.start)));
    table.times("end", rows.iter().map(|(_, i)| seconds(i.end)));
    table.words(
        "expression",
        rows.iter().map(|(_, i)| i.expression.as_deref()),
    );
    table.numbers("confidence", rows.iter().map(|(_, i)| i.confidence));
    let refusal = |i: &Interval| i.refusal.as_ref().map(|refusal| refusal.name());
    table.words("refusal", rows.iter().map(|(_, i)| refusal(i)));
    table.lists("warnings", rows.iter().map(|(_, i)| i.warnings.clone()));
    table.finish("mtcae-intervals", results)
}

/// Writes a table as an Arrow IPC file.
///
/// # Errors
/// What the writer reports.
pub fn write_arrow(table: &RecordBatch, out: impl Write) -> Result<(), Error> {
    let mut writer = arrow_ipc::writer::FileWriter::try_new(out, &table.schema())?;
    writer.write(table)?;
    Ok(writer.finish()?)
}
