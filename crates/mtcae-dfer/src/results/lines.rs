//! Results line by line, of what has no end yet.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PURPOSE, Provenance, Results, VERSION, known};
use crate::{Answer, Prediction, Timeline};

/// What `format` says in the first line.
pub const LINES: &str = "mtcae-lines";

/// Tells results as JSON Lines while they come: the first line says where they come from, each
/// other has a window's prediction of one person.
pub struct Teller<W> {
    out: W,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    #[serde(default)]
    purpose: String,
    provenance: Option<Provenance>,
    length: f64,
    stride: f64,
}

#[derive(Serialize, Deserialize)]
struct Line<P> {
    prediction: P,
    /// Seconds from when the window's last frame was decoded.
    delay: f64,
    /// Frames that were left out so far.
    dropped: u64,
}

impl<W: Write> Teller<W> {
    /// Begins with where results come from, and windows of so many seconds.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn begin(
        out: W,
        provenance: Option<Provenance>,
        length: f64,
        stride: f64,
    ) -> std::io::Result<Self> {
        let head = Head {
            format: LINES.to_owned(),
            version: VERSION,
            purpose: PURPOSE.to_owned(),
            provenance,
            length,
            stride,
        };
        let mut teller = Self { out };
        teller.line(&head)?;
        Ok(teller)
    }

    /// Tells what is said of one person in one window, `delay` after its last frame was
    /// decoded, when `dropped` frames were left out so far.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn tell(
        &mut self,
        prediction: &Prediction,
        delay: Duration,
        dropped: u64,
    ) -> std::io::Result<()> {
        self.line(&Line {
            prediction,
            delay: (delay.as_secs_f64() * 1e4).round() / 1e4,
            dropped,
        })
    }

    /// What is written to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Gives back what was written to.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn line(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")?;
        // Whoever reads it waits for it.
        self.out.flush()
    }
}

/// What such lines say; `None` of what is no such lines. A last line that breaks off, as where
/// the program was killed, is left out.
pub(super) fn parse(text: &[u8]) -> Option<Result<Results, String>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let head: Head = serde_json::from_slice(lines.next()?).ok()?;
    (head.format == LINES).then(|| read(head, lines))
}

fn read<'a>(head: Head, lines: impl Iterator<Item = &'a [u8]>) -> Result<Results, String> {
    known(Some(head.version))?;
    let mut people: BTreeMap<Option<u32>, Vec<Prediction>> = BTreeMap::new();
    let mut lines = lines.enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice::<Line<Prediction>>(line) {
            Ok(Line { prediction, .. }) => {
                people
                    .entry(prediction.person)
                    .or_default()
                    .push(prediction);
            }
            // Lines end with a line feed.
            Err(_) if lines.peek().is_none() => {}
            Err(e) => return Err(format!("line {}: {e}", number + 2)),
        }
    }
    let timelines = people
        .into_values()
        .map(|windows| Timeline::new(head.length, head.stride, windows));
    let timelines: Result<Vec<_>, _> = timelines.collect();
    Ok(Results {
        provenance: head.provenance,
        answer: Answer::Windows(timelines.map_err(|e| e.to_string())?),
    })
}
