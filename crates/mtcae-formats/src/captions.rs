//! Results as captions: SubRip and WebVTT.

use std::io::Write;

use mtcae_dfer::{PURPOSE, Results};

use crate::interval::{Interval, intervals_of};
use crate::table::{distinct, provenance};
use crate::{Error, about, file_of};

/// Writes one file's results as SubRip captions: one an interval.
///
/// # Errors
/// [`Error::Timeline`]; what the writer reports.
pub fn write_srt(results: &Results, mut out: impl Write) -> Result<(), Error> {
    for (i, (interval, text)) in cues(results)?.iter().enumerate() {
        let (start, end) = (clock(interval.start, ','), clock(interval.end, ','));
        writeln!(out, "{}\n{start} --> {end}\n{text}\n", i + 1)?;
    }
    Ok(())
}

/// Writes one file's results as WebVTT captions, one an interval, with notes: what they are
/// for, where they come from, and remarks before the captions that they are about.
///
/// # Errors
/// [`Error::Timeline`]; what the writer reports.
pub fn write_vtt(results: &Results, mut out: impl Write) -> Result<(), Error> {
    writeln!(out, "WEBVTT\n")?;
    writeln!(out, "NOTE {}\n", note(PURPOSE))?;
    // JSON has another way to write what ends a note.
    let json = |value: &serde_json::Value| value.to_string().replace("-->", "--\\u003e");
    writeln!(out, "NOTE provenance {}\n", json(&provenance(&[results])))?;
    if let Some(file) = file_of(results) {
        writeln!(out, "NOTE {} {}\n", about::FILE, json(&file.into()))?;
    }
    for (interval, text) in cues(results)? {
        for remark in interval.remarks() {
            writeln!(out, "NOTE {}\n", note(&remark))?;
        }
        let (start, end) = (clock(interval.start, '.'), clock(interval.end, '.'));
        let text = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        writeln!(out, "{start} --> {end}\n{text}\n")?;
    }
    Ok(())
}

/// Intervals in the order of time with what is shown in them.
fn cues(results: &Results) -> Result<Vec<(Interval, String)>, Error> {
    let mut intervals = intervals_of(results)?;
    intervals.sort_by_key(|i| (i.start, i.person));
    let people: Vec<String> = intervals
        .iter()
        .map(|i| format!("{:?}", i.person))
        .collect();
    let several = distinct(people.iter().map(String::as_str)).len() > 1;
    let text = |i: &Interval| {
        let label = one_line(&i.label().replace('-', " "));
        let label = match &i.expression {
            Some(expression) => one_line(expression),
            None => label,
        };
        let share = i.confidence.map(|c| format!(" {:.0} %", 100.0 * c));
        let whose = i
            .person
            .filter(|_| several)
            .map(|n| format!("person {n}: "));
        format!(
            "{}{label}{}",
            whose.unwrap_or_default(),
            share.unwrap_or_default()
        )
    };
    Ok(intervals
        .into_iter()
        .map(|i| (i.clone(), text(&i)))
        .collect())
}

/// An empty line would end a caption.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn note(text: &str) -> String {
    one_line(text).replace("-->", "→")
}

/// Hours, minutes, seconds and milliseconds.
fn clock(ms: i64, point: char) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}")
}
