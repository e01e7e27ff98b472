//! Results as BORIS exports aggregated events.

use std::io::Write;
use std::path::Path;

use mtcae_dfer::{PURPOSE, Results};

use crate::interval::intervals_of;
use crate::{Error, decimal, file_of};

/// The columns of BORIS's export of aggregated events.
const COLUMNS: [&str; 24] = [
    "Observation id",
    "Observation date",
    "Description",
    "Observation type",
    "Source",
    "Time offset (s)",
    "Coding duration",
    "Media duration (s)",
    "FPS (frame/s)",
    "Subject",
    "Observation duration by subject by observation",
    "Behavior",
    "Behavioral category",
    "Behavior type",
    "Start (s)",
    "Stop (s)",
    "Duration (s)",
    "Media file name",
    "Image index start",
    "Image index stop",
    "Image file path start",
    "Image file path stop",
    "Comment start",
    "Comment stop",
];

/// Writes one file's results as a CSV table of aggregated events: a state a row. The comment
/// says `confidence` and its number, and remarks. What is not known is `NA`, as in BORIS.
///
/// # Errors
/// [`Error::Timeline`]; what the writer reports.
pub fn write_boris(results: &Results, out: impl Write) -> Result<(), Error> {
    let file = file_of(results).unwrap_or_default();
    let stem = Path::new(&file)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let mut table = csv::Writer::from_writer(out);
    table.write_record(COLUMNS)?;
    for interval in intervals_of(results)? {
        let subject = match interval.person {
            Some(n) => format!("person {n}"),
            None => "No focal subject".to_owned(),
        };
        let confidence = interval.confidence.map(|c| format!("confidence {c}"));
        let comment: Vec<String> = confidence.into_iter().chain(interval.remarks()).collect();
        let category = match interval.expression {
            Some(_) => "expression",
            None => "no answer",
        };
        table.write_record([
            &stem[..],
            "NA",
            PURPOSE,
            "Media file(s)",
            &format!("player #1:{file}"),
            "0",
            "NA",
            "NA",
            "NA",
            &subject,
            "NA",
            &interval.label(),
            category,
            "STATE",
            &decimal(interval.start),
            &decimal(interval.end),
            &decimal(interval.end - interval.start),
            &file,
            "NA",
            "NA",
            "NA",
            "NA",
            &comment.join("; "),
            "",
        ])?;
    }
    Ok(table.flush()?)
}
