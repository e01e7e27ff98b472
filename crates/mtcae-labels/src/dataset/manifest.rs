//! A table of one's own: CSV with the columns `file` and `class`, and any of
//! `subject`, `sex`, `level`, `fold`, `dataset`.

use std::collections::BTreeSet;
use std::path::Path;

use mtcae_core::files::{self, At};

use super::{Catalogue, Problem, Sample, Sex};
use crate::Error;

/// Bytes of the largest table: a line of 100 for each of a million clips and more.
const LARGEST: u64 = 128 << 20;

const COLUMNS: [&str; 7] = [
    "file", "class", "subject", "sex", "level", "fold", "dataset",
];

/// Reads a table. Relative names of files are looked for beside the table; those
/// that are not there are problems of the catalogue and left out. `classes` are
/// the allowed classes in their order; when empty, those of the table in the
/// order of their names.
///
/// # Errors
/// [`Error::File`], or [`Error::Manifest`] with every unknown column, unknown
/// class and unusable value, by line.
pub fn read(path: impl AsRef<Path>, classes: &[String]) -> Result<Catalogue, Error> {
    let path = path.as_ref();
    let faults = |faults: Vec<String>| Error::Manifest {
        path: path.to_owned(),
        faults,
    };
    let text = files::read_to_string(path, LARGEST).at(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut table = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let headers = table
        .headers()
        .map_err(|e| faults(vec![e.to_string()]))?
        .clone();
    let mut wrong = Vec::new();
    let mut columns = [None; COLUMNS.len()];
    for (i, header) in headers.iter().enumerate() {
        match COLUMNS.iter().position(|c| *c == header) {
            Some(c) if columns[c].is_none() => columns[c] = Some(i),
            Some(_) => wrong.push(format!("line 1: column {header:?} twice")),
            None => wrong.push(format!(
                "line 1: unknown column {header:?}; known: {}",
                COLUMNS.join(", ")
            )),
        }
    }
    for (name, column) in COLUMNS.iter().zip(columns).take(2) {
        if column.is_none() {
            wrong.push(format!("line 1: the column {name:?} is missing"));
        }
    }
    if !wrong.is_empty() {
        return Err(faults(wrong));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut c = Catalogue::new("manifest", &[]);
    let mut takes = Vec::new();
    let mut names = BTreeSet::new();
    for row in table.records() {
        let row = match row {
            Ok(row) => row,
            Err(e) => {
                wrong.push(e.to_string());
                continue;
            }
        };
        let line = row.position().map_or(0, csv::Position::line);
        let cell = |c: usize| {
            let value = columns[c].and_then(|i| row.get(i));
            value.filter(|v| !v.is_empty()).map(str::to_owned)
        };
        let Some(file) = cell(0) else {
            wrong.push(format!("line {line}: the file's name is missing"));
            continue;
        };
        let class = cell(1);
        match &class {
            Some(name) if !classes.is_empty() && !classes.contains(name) => {
                wrong.push(format!(
                    "line {line}: unknown class {name:?}; known: {}",
                    classes.join(", ")
                ));
            }
            Some(name) => {
                names.insert(name.clone());
            }
            None => wrong.push(format!("line {line}: the class is missing")),
        }
        let sex = match cell(3).map(|s| s.to_lowercase()).as_deref() {
            None => None,
            Some("female" | "f") => Some(Sex::Female),
            Some("male" | "m") => Some(Sex::Male),
            Some(other) => {
                wrong.push(format!(
                    "line {line}: sex {other:?} is neither female nor male"
                ));
                None
            }
        };
        let fold = cell(5).and_then(|f| {
            let fold = f.parse();
            if fold.is_err() {
                wrong.push(format!(
                    "line {line}: fold {f:?} is not a whole number from 0"
                ));
            }
            fold.ok()
        });
        let full = folder.join(&file);
        if !full.is_file() {
            c.problems.push(Problem::Missing {
                what: format!("{} (line {line})", full.display()),
            });
            continue;
        }
        takes.push(file.clone());
        c.samples.push(Sample {
            path: full,
            file,
            dataset: cell(6).unwrap_or_else(|| "manifest".to_owned()),
            class,
            subject: cell(2),
            sex,
            level: cell(4),
            fold,
        });
    }
    if !wrong.is_empty() {
        return Err(faults(wrong));
    }
    c.drop_duplicates(takes);
    c.classes = match classes {
        [] => names.into_iter().collect(),
        _ => classes.to_vec(),
    };
    Ok(c)
}
