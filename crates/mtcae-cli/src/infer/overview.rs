//! One table over all files of a run, a row a clip.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mtcae_core::argmax;
use mtcae_core::files::{At, open, write_atomically};
use mtcae_dfer::{Answer, Prediction, Results};

use super::output::Target;
use crate::Fault;
use mtcae_formats::Document;

/// The table's columns.
const COLUMNS: [&str; 10] = [
    "file",
    "status",
    "person",
    "start",
    "end",
    "expression",
    "confidence",
    "frames_with_face",
    "frames_looked_at",
    "remarks",
];

/// What became of a file.
pub enum Outcome {
    Done(Vec<Row>),
    /// By an earlier run.
    Skipped(Vec<Row>),
    Failed(String),
}

/// What is said of one person of one file.
#[derive(Default)]
pub struct Row {
    person: Option<u32>,
    /// `None` of results that could not be read again.
    said: Option<Said>,
    seen: Option<(u32, u32)>,
    warnings: Vec<String>,
}

struct Said {
    start: f64,
    end: f64,
    expression: String,
    confidence: f32,
}

/// All files of a run.
#[derive(Default)]
pub struct Overview {
    files: Vec<(PathBuf, Outcome)>,
    /// Names that led to no file.
    pub unreadable: usize,
}

impl Outcome {
    /// That of a file whose results are there, as far as they can be read.
    pub fn done_before(targets: &[(Target, PathBuf)]) -> Self {
        let json = targets
            .iter()
            .find(|(t, _)| matches!(t, Target::Table(Document::Json)));
        let rows = json
            .and_then(|(_, path)| Results::read(path).ok())
            .map(|results| rows(&results.answer));
        Self::Skipped(rows.unwrap_or_else(|| vec![Row::default()]))
    }
}

/// A row a person: of windows, their mean.
pub fn rows(answer: &Answer) -> Vec<Row> {
    match answer {
        Answer::Clip(people) => people.iter().map(|one| row(&[one])).collect(),
        Answer::Windows(timelines) => timelines
            .iter()
            .map(|t| row(&t.windows.iter().collect::<Vec<_>>()))
            .collect(),
    }
}

/// What is said over all of these, whose classes are the same.
fn row(predictions: &[&Prediction]) -> Row {
    let (Some(first), Some(last)) = (predictions.first(), predictions.last()) else {
        return Row::default();
    };
    let answered: Vec<_> = predictions.iter().filter(|p| p.refusal.is_none()).collect();
    let mean = |class: usize| {
        let of = answered.iter().filter_map(|p| p.probabilities.get(class));
        of.map(|p| p.probability).sum::<f32>() / answered.len() as f32
    };
    let classes = answered.first().map_or(&[][..], |p| &p.probabilities);
    let best = argmax((0..classes.len()).map(mean));
    let seen = predictions.iter().filter_map(|p| p.seen.as_ref());
    let mut warnings = Vec::new();
    if let (true, Some(refusal)) = (answered.is_empty(), &first.refusal) {
        warnings.push(format!("no answer: {refusal}"));
    }
    for warning in predictions.iter().flat_map(|p| &p.warnings) {
        let text = warning.to_string();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
    Row {
        person: first.person,
        said: best.map(|class| Said {
            start: first.start,
            end: last.end,
            expression: classes[class].class.clone(),
            confidence: mean(class),
        }),
        seen: seen
            .map(|s| (s.frames, s.of))
            .reduce(|a, b| (a.0 + b.0, a.1 + b.1)),
        warnings,
    }
}

impl Overview {
    /// Notes what became of a file.
    pub fn add(&mut self, file: &Path, outcome: Outcome) {
        self.files.push((file.to_owned(), outcome));
    }

    /// Whether nothing failed.
    pub fn all_well(&self) -> bool {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        self.unreadable == 0 && !self.files.iter().any(|(_, outcome)| failed(outcome))
    }

    /// How many there were, and what became of them.
    pub fn line(&self) -> String {
        let count = |is: fn(&Outcome) -> bool| self.files.iter().filter(|f| is(&f.1)).count();
        let done = count(|o| matches!(o, Outcome::Done(_)));
        let skipped = count(|o| matches!(o, Outcome::Skipped(_)));
        let failed = count(|o| matches!(o, Outcome::Failed(_))) + self.unreadable;
        let all = self.files.len() + self.unreadable;
        let mut line = format!("{done} of {all} done");
        for (n, what) in [(skipped, "done before"), (failed, "failed")] {
            if n > 0 {
                line += &format!(", {n} {what}");
            }
        }
        let rows = self.files.iter().flat_map(|(_, outcome)| match outcome {
            Outcome::Done(rows) | Outcome::Skipped(rows) => rows.as_slice(),
            Outcome::Failed(_) => &[],
        });
        let faceless = rows
            .filter(|row| row.seen.is_some_and(|s| s.0 == 0))
            .count();
        if faceless > 0 {
            line += &format!("; {faceless} without a face");
        }
        line
    }

    /// Writes the table. Rows of other files stay, where the folder `is_ours`.
    ///
    /// # Errors
    /// Names the file; when there is one that is not ours.
    pub fn write(&self, path: &Path, is_ours: bool) -> Result<(), Fault> {
        let fault = |e: String| Fault::from(format!("{}: {e}", path.display()));
        let there = path.symlink_metadata().is_ok();
        if there && !is_ours {
            return Err(fault(
                "exists and was not written by infer; give another --out".to_owned(),
            ));
        }
        let before = match there {
            true => self.of_others(path).map_err(|e| fault(e.to_string()))?,
            false => Vec::new(),
        };
        let write = |temporary: &Path| -> csv::Result<()> {
            let mut table = csv::Writer::from_path(temporary)?;
            table.write_record(COLUMNS)?;
            for row in &before {
                table.write_record(row)?;
            }
            for (file, outcome) in &self.files {
                let file = file.to_string_lossy();
                let (status, rows) = match outcome {
                    Outcome::Done(rows) => ("done", rows.as_slice()),
                    Outcome::Skipped(rows) => ("done before", rows.as_slice()),
                    Outcome::Failed(error) => {
                        table
                            .write_record([&*file, "failed", "", "", "", "", "", "", "", error])?;
                        continue;
                    }
                };
                for row in rows {
                    let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
                    let cell =
                        |f: fn(&Said) -> String| row.said.as_ref().map(f).unwrap_or_default();
                    table.write_record([
                        &*file,
                        status,
                        &number(row.person),
                        &cell(|s| format!("{:.3}", s.start)),
                        &cell(|s| format!("{:.3}", s.end)),
                        &cell(|s| s.expression.clone()),
                        &cell(|s| format!("{:.4}", s.confidence)),
                        &number(row.seen.map(|s| s.0)),
                        &number(row.seen.map(|s| s.1)),
                        &row.warnings.join("; "),
                    ])?;
                }
            }
            table.flush()?;
            Ok(())
        };
        Ok(write_atomically(path, |temporary| Ok(write(temporary)?)).at(path)?)
    }

    /// The rows of a table that are about other files than these.
    fn of_others(&self, path: &Path) -> csv::Result<Vec<csv::StringRecord>> {
        let mut table = csv::Reader::from_reader(open(path)?);
        if table.headers()? != COLUMNS.as_slice() {
            let reason = "its columns are not those of infer's overview";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason).into());
        }
        let mut rows: Vec<csv::StringRecord> = table.records().collect::<Result<_, _>>()?;
        let ours: BTreeSet<_> = self.files.iter().map(|f| f.0.to_string_lossy()).collect();
        rows.retain(|row| !row.get(0).is_some_and(|file| ours.contains(file)));
        Ok(rows)
    }
}
