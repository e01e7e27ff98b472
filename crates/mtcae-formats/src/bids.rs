//! Results as events of the Brain Imaging Data Structure: a table and what its columns mean.

use std::io::Write;

use mtcae_dfer::{PURPOSE, Results};
use serde_json::{Map, Value, json};

use crate::interval::intervals_of;
use crate::table::{distinct, provenance};
use crate::{Error, about, decimal, file_of};

/// What stands where there is nothing to say.
const NOTHING: &str = "n/a";

/// Writes one file's results as `NAME_events.tsv`, in the order of time.
///
/// # Errors
/// [`Error::Timeline`]; what the writer reports.
pub fn write_events(results: &Results, mut out: impl Write) -> Result<(), Error> {
    let mut intervals = intervals_of(results)?;
    intervals.sort_by_key(|i| (i.start, i.person));
    writeln!(
        out,
        "onset\tduration\ttrial_type\tconfidence\tperson\trefusal\twarnings"
    )?;
    for i in &intervals {
        let refusal = match (&i.expression, &i.refusal) {
            (Some(_), _) => None,
            (None, Some(refusal)) => Some(refusal.name().to_owned()),
            (None, None) => Some("unknown".to_owned()),
        };
        let cells = [
            Some(decimal(i.start)),
            Some(decimal(i.end - i.start)),
            i.expression.clone(),
            i.confidence.map(|c| c.to_string()),
            i.person.map(|p| p.to_string()),
            refusal,
            Some(i.warnings.join("; ")).filter(|w| !w.is_empty()),
        ];
        // A table of this kind has no quotes.
        let cells = cells
            .map(|cell| cell.map_or(NOTHING.to_owned(), |c| c.replace(['\t', '\n', '\r'], " ")));
        writeln!(out, "{}", cells.join("\t"))?;
    }
    Ok(())
}

/// Writes `NAME_events.json`, which says what the columns of [`write_events`] mean, what the
/// table is for and where it comes from.
///
/// # Errors
/// What the writer reports.
pub fn write_sidecar(results: &Results, mut out: impl Write) -> Result<(), Error> {
    let predictions = results.answer.predictions();
    let classes = predictions
        .iter()
        .flat_map(|p| &p.probabilities)
        .map(|p| &p.class[..]);
    let level = |class: &str| {
        (
            class.to_owned(),
            Value::from(format!("the face shows: {class}")),
        )
    };
    let levels: Map<String, Value> = distinct(classes).into_iter().map(level).collect();
    let program = results.provenance.as_ref().map(|p| p.program.clone());
    let program = program.unwrap_or_else(|| "mtcae".to_owned());
    let (name, version) = program.split_once(' ').unwrap_or((&program, NOTHING));
    let sidecar = json!({
        "onset": {
            "LongName": "Start",
            "Description": "Start of the interval, from the first frame of the video",
            "Units": "s",
        },
        "duration": {
            "LongName": "Duration",
            "Description": "Length of the interval",
            "Units": "s",
        },
        "trial_type": {
            "LongName": "Expression",
            "Description": "The most probable expression; n/a where no answer is given",
            "Levels": levels,
        },
        "confidence": {
            "LongName": "Confidence",
            "Description": "Probability of the expression, from 0 to 1, the mean over the interval",
        },
        "person": {
            "LongName": "Person",
            "Description": "Number of the person in the order of appearance, from 1; n/a where people are not told apart",
        },
        "refusal": {
            "LongName": "Reason for no answer",
            "Description": "Why no expression is named",
            "Levels": {
                "no-face": "nobody's face is seen, or in too few frames",
                "doubtful-face": "the detector is not sure enough that it is a face",
                "too-small": "the face is too small to be judged",
                "turned-away": "the face is turned away from the camera",
                "unsure": "no expression is probable enough",
                "unknown": "the results do not say why",
            },
        },
        "warnings": {
            "LongName": "Warnings",
            "Description": "What was dropped, guessed or damaged in the video, and what speaks against the answer",
        },
        "Purpose": PURPOSE,
        "GeneratedBy": [{"Name": name, "Version": version}],
        "Sources": [file_of(results)],
        "Provenance": provenance(&[results]),
        (about::FILE): file_of(results),
    });
    serde_json::to_writer_pretty(&mut out, &sidecar)?;
    Ok(out.write_all(b"\n")?)
}
