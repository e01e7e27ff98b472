//! Reading label files, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use mtcae_core::files::{self, At, FileError};
use serde::Deserialize;

use super::record::{LabelledClip, SCHEMA};
use crate::Error;

/// Iterator over the clips of a label file; holds one line at a time.
pub struct LabelReader {
    path: PathBuf,
    lines: BufReader<File>,
    line: usize,
}

impl LabelReader {
    /// Opens a label file.
    ///
    /// # Errors
    /// [`Error::File`], also for what is no regular file: a pipe may never end.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let file = files::open(&path).at(&path)?;
        Ok(Self {
            lines: BufReader::new(file),
            line: 0,
            path,
        })
    }
}

impl Iterator for LabelReader {
    /// [`Error::Schema`] for another version, [`Error::Line`] for a line that is
    /// broken or torn, [`Error::File`].
    type Item = Result<LabelledClip, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = Vec::new();
        loop {
            text.clear();
            self.line += 1;
            match self.lines.read_until(b'\n', &mut text) {
                Ok(0) => return None,
                Ok(_) if text == b"\n" => {}
                Ok(_) => return Some(parse(&self.path, self.line, &text)),
                Err(source) => {
                    let path = self.path.clone();
                    return Some(Err(FileError {
                        path,
                        reason: source,
                    }
                    .into()));
                }
            }
        }
    }
}

/// Only the version: enough to refuse before anything else is looked at.
#[derive(Deserialize)]
struct Version {
    schema: Option<String>,
}

/// A line with or without its line feed.
pub(super) fn parse(path: &Path, line: usize, text: &[u8]) -> Result<LabelledClip, Error> {
    let broken = |e: serde_json::Error| Error::Line {
        path: path.to_owned(),
        line,
        reason: match text.ends_with(b"\n") {
            true => e.to_string(),
            false => format!("torn off ({e}); labelling again with --resume mends it"),
        },
    };
    let version: Version = serde_json::from_slice(text).map_err(broken)?;
    match version.schema.as_deref() {
        Some(SCHEMA) => serde_json::from_slice(text).map_err(broken),
        found => Err(Error::Schema {
            path: path.to_owned(),
            line,
            found: found.unwrap_or("none").to_owned(),
            read: SCHEMA,
        }),
    }
}
