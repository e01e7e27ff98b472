//! Predictions as a table: one row a sampled frame.

use std::io::{Result, Write};

use crate::{FaceBox, Landmarks, Prediction};

/// Names of the columns of a face: its box and its five landmarks.
pub const FACE_COLUMNS: [&str; 14] = [
    "box_x1",
    "box_y1",
    "box_x2",
    "box_y2",
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
];

/// Writes predictions of one model as CSV with a header: one row a sampled frame.
/// Times are seconds, coordinates pixels of the source, probabilities in [0, 1];
/// `start` and `end` bound the clip or window that the row's probabilities speak
/// of, and `frames_with_face` of `frames_looked_at` show a face: an answer with a 0
/// there rests on nothing. Action units have a column each, from 0 to 1, where the model
/// has a task for them. Where no class is named, `expression` is `no answer:` and why.
/// Cells of tasks that the model does not have are empty, as are
/// those of a detector's face where none was asked or it found none.
///
/// # Errors
/// What the writer reports.
pub fn write_csv<'a>(
    out: &mut dyn Write,
    predictions: impl IntoIterator<Item = &'a Prediction>,
) -> Result<()> {
    let predictions: Vec<&Prediction> = predictions.into_iter().collect();
    // What shows nobody has no probabilities and no action units, but their cells.
    let judged = predictions.iter().find(|p| !p.probabilities.is_empty());
    let Some(model) = judged.or(predictions.first()) else {
        return Ok(());
    };
    writeln!(out, "{}", columns(model).join(","))?;
    let (classes, units) = (model.probabilities.len(), model.action_units.len());
    for prediction in predictions {
        let file = prediction.file.as_ref().map(|f| f.display().to_string());
        let start = [
            field(&file.unwrap_or_default()),
            prediction.person.map(|p| p.to_string()).unwrap_or_default(),
            format!("{:.3}", prediction.start),
            format!("{:.3}", prediction.end),
        ];
        let seen = prediction.seen.as_ref();
        let seen = [seen.map(|s| s.frames), seen.map(|s| s.of)]
            .map(|n| n.map(|n| n.to_string()).unwrap_or_default());
        let expression = [
            match &prediction.refusal {
                None => field(&prediction.expression),
                Some(refusal) => format!("no answer: {}", refusal.name()),
            },
            format!("{:.4}", prediction.confidence),
        ];
        let told = prediction.probabilities.iter();
        let probabilities = filled(told.map(|p| format!("{:.4}", p.probability)), classes);
        for frame in &prediction.frames {
            let mut row: Vec<String> = start.to_vec();
            row.extend([frame.index.to_string(), format!("{:.3}", frame.time)]);
            row.extend(expression.clone());
            row.extend(seen.clone());
            row.extend(probabilities.clone());
            let other = &frame.detected;
            face(&mut row, frame.face_box, frame.landmarks);
            let told = frame.action_units.iter();
            row.extend(filled(told.map(|u| format!("{u:.3}")), units));
            row.push(other.map(|d| format!("{:.4}", d.score)).unwrap_or_default());
            face(
                &mut row,
                other.map(|d| d.face_box),
                other.map(|d| d.landmarks),
            );
            writeln!(out, "{}", row.join(","))?;
        }
    }
    Ok(())
}

/// So many cells, the last ones empty where there are fewer.
fn filled(cells: impl Iterator<Item = String>, count: usize) -> Vec<String> {
    let mut cells: Vec<String> = cells.collect();
    cells.resize(count, String::new());
    cells
}

/// The header of a table of predictions like this one.
fn columns(prediction: &Prediction) -> Vec<String> {
    let start = [
        "file",
        "person",
        "start",
        "end",
        "frame",
        "time",
        "expression",
        "confidence",
        "frames_with_face",
        "frames_looked_at",
    ];
    let classes = prediction
        .probabilities
        .iter()
        .map(|p| field(&format!("p_{}", p.class)));
    let mut columns: Vec<String> = start
        .iter()
        .map(ToString::to_string)
        .chain(classes)
        .collect();
    columns.extend(FACE_COLUMNS.iter().map(ToString::to_string));
    columns.extend(prediction.action_units.iter().map(|unit| field(unit)));
    columns.push("detected_score".to_owned());
    columns.extend(
        FACE_COLUMNS
            .iter()
            .map(|column| format!("detected_{column}")),
    );
    columns
}

/// Fourteen cells of a face, empty where there is none.
fn face(row: &mut Vec<String>, bounds: Option<FaceBox>, landmarks: Option<Landmarks>) {
    let bounds = bounds.map(|b| b.corners());
    let points = landmarks.map(|l| l.points());
    let cell = |v: Option<f32>| v.map(|v| format!("{v:.2}")).unwrap_or_default();
    row.extend((0..4).map(|i| cell(bounds.map(|b| b[i]))));
    row.extend((0..10).map(|i| cell(points.map(|p| p[i / 2][i % 2]))));
}

/// A cell, quoted where RFC 4180 asks for it.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must() {
        assert_eq!(field("plain"), "plain");
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
