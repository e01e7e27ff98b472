//! Results as a TextGrid of Praat, in its long text format.

use std::io::Write;

use mtcae_dfer::Results;

use crate::Error;
use crate::interval::{Interval, intervals_of};

/// Writes one file's results as a TextGrid: for each person a tier of expressions, one of
/// their confidences and one of remarks, from 0 to the last interval's end. Where nothing is
/// said, an interval is empty.
///
/// # Errors
/// [`Error::Timeline`]; what the writer reports.
pub fn write_textgrid(results: &Results, mut out: impl Write) -> Result<(), Error> {
    let intervals = intervals_of(results)?;
    // Praat has no grid of no length.
    let end = intervals.iter().map(|i| i.end).max().unwrap_or(1);
    let people: Vec<&[Interval]> = match &intervals[..] {
        [] => vec![&[]],
        all => all.chunk_by(|a, b| a.person == b.person).collect(),
    };
    let out = &mut out;
    writeln!(out, "File type = \"ooTextFile\"")?;
    writeln!(out, "Object class = \"TextGrid\"\n")?;
    writeln!(out, "xmin = 0 \nxmax = {} ", seconds(end))?;
    writeln!(
        out,
        "tiers? <exists> \nsize = {} \nitem []: ",
        3 * people.len()
    )?;
    let mut number = 0;
    for person in people {
        let whose = match person.first().and_then(|i| i.person) {
            Some(n) => format!(" person {n}"),
            None => String::new(),
        };
        let mut tier = |kind: &str, text: fn(&Interval) -> String| {
            number += 1;
            let name = format!("{kind}{whose}");
            write_tier(out, number, &name, end, person.iter().map(|i| (i, text(i))))
        };
        tier("expression", |i| i.expression.clone().unwrap_or_default())?;
        tier("confidence", |i| {
            i.confidence.map(|c| c.to_string()).unwrap_or_default()
        })?;
        tier("remarks", |i| i.remarks().join("; "))?;
    }
    Ok(())
}

fn write_tier<'a>(
    out: &mut impl Write,
    number: usize,
    name: &str,
    end: i64,
    told: impl Iterator<Item = (&'a Interval, String)>,
) -> Result<(), Error> {
    // Without a gap, as Praat has them.
    let mut filled: Vec<(i64, i64, String)> = Vec::new();
    let mut at = 0;
    for (interval, text) in told {
        if interval.start > at {
            filled.push((at, interval.start, String::new()));
        }
        filled.push((interval.start, interval.end, text));
        at = interval.end;
    }
    if at < end {
        filled.push((at, end, String::new()));
    }
    writeln!(out, "    item [{number}]:")?;
    writeln!(out, "        class = \"IntervalTier\" ")?;
    writeln!(out, "        name = {} ", quoted(name))?;
    writeln!(out, "        xmin = 0 \n        xmax = {} ", seconds(end))?;
    writeln!(out, "        intervals: size = {} ", filled.len())?;
    for (i, (start, end, text)) in filled.iter().enumerate() {
        writeln!(out, "        intervals [{}]:", i + 1)?;
        writeln!(out, "            xmin = {} ", seconds(*start))?;
        writeln!(out, "            xmax = {} ", seconds(*end))?;
        writeln!(out, "            text = {} ", quoted(text))?;
    }
    Ok(())
}

/// Milliseconds as the shortest number of seconds.
fn seconds(ms: i64) -> String {
    (ms as f64 / 1000.0).to_string()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
