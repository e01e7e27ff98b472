//! Predictions as a table: one row a sampled frame.

use std::io::{Result, Write};

use crate::Prediction;

/// Writes predictions of one model as CSV with a header: one row a sampled frame.
/// Times are seconds, coordinates pixels of the source, probabilities in [0, 1];
/// `start` and `end` bound the clip or window that the row's probabilities speak
/// of. Cells of tasks that the model does not have are empty.
///
/// # Errors
/// What the writer reports.
pub fn write_csv<'a>(
    out: &mut dyn Write,
    predictions: impl IntoIterator<Item = &'a Prediction>,
) -> Result<()> {
    let mut header = false;
    for prediction in predictions {
        if !header {
            write!(out, "file,start,end,frame,time,expression,confidence")?;
            for p in &prediction.probabilities {
                write!(out, ",{}", field(&format!("p_{}", p.class)))?;
            }
            write!(out, ",box_x1,box_y1,box_x2,box_y2")?;
            for point in ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"] {
                write!(out, ",{point}_x,{point}_y")?;
            }
            writeln!(out)?;
            header = true;
        }
        let file = prediction
            .file
            .as_ref()
            .map(|f| f.display().to_string())
            .unwrap_or_default();
        for frame in &prediction.frames {
            write!(
                out,
                "{},{:.3},{:.3},{},{:.3},{},{:.4}",
                field(&file),
                prediction.start,
                prediction.end,
                frame.index,
                frame.time,
                field(&prediction.expression),
                prediction.confidence
            )?;
            for p in &prediction.probabilities {
                write!(out, ",{:.4}", p.probability)?;
            }
            match frame.face_box {
                Some(b) => write!(out, ",{:.2},{:.2},{:.2},{:.2}", b.x1, b.y1, b.x2, b.y2)?,
                None => write!(out, ",,,,")?,
            }
            match &frame.landmarks {
                Some(landmarks) => {
                    for [x, y] in landmarks.points() {
                        write!(out, ",{x:.2},{y:.2}")?;
                    }
                }
                None => write!(out, ",,,,,,,,,,")?,
            }
            writeln!(out)?;
        }
    }
    Ok(())
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
