//! From names of files and folders to results.

use std::path::{Path, PathBuf};

use mtcae_core::files::{At, FileError};
use mtcae_dfer::{Error as ResultsError, Results};
use serde_json::Value;

use crate::Error;

/// Results of files, and what lay beside them.
#[derive(Debug, Default)]
pub struct Found {
    /// Files of results in the order given, those of folders in the order of their names.
    pub results: Vec<(PathBuf, Results)>,
    /// JSON files in folders that are of something else, as infer's settings are.
    pub others: usize,
}

/// Reads files of results, and those that lie in folders and below.
///
/// # Errors
/// Names a file that is given and is none of results, or one in a folder that says it is and
/// is broken, or that is no JSON; a folder without results.
pub fn gather(names: &[impl AsRef<Path>]) -> Result<Found, Error> {
    let mut found = Found::default();
    for name in names {
        let path = name.as_ref();
        if path.is_dir() {
            let before = found.results.len();
            search(path, &mut found)?;
            if found.results.len() == before {
                let reason = "no results of infer in this folder; `infer --out DIR` writes them";
                return Err(FileError::new(path, reason).into());
            }
        } else {
            found.results.push((path.to_owned(), Results::read(path)?));
        }
    }
    Ok(found)
}

fn search(folder: &Path, found: &mut Found) -> Result<(), Error> {
    let entries = std::fs::read_dir(folder).and_then(|e| e.collect::<Result<Vec<_>, _>>());
    let mut entries = entries.at(folder)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Links to folders are not followed: they may lead back here.
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            search(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "json") {
            match Results::read(&path) {
                Ok(results) => found.results.push((path, results)),
                Err(error) => match is_of_something_else(&path)? {
                    true => found.others += 1,
                    false => return Err(ResultsError::into(error)),
                },
            }
        }
    }
    Ok(())
}

/// Whether a file is whole JSON, and does not say that it is results.
fn is_of_something_else(path: &Path) -> Result<bool, Error> {
    // It was read before, and was not too large.
    let text = mtcae_core::files::read(path, u64::MAX).at(path)?;
    Ok(match serde_json::from_slice::<Value>(&text) {
        Ok(value) => value["format"] != mtcae_dfer::FORMAT,
        Err(_) => false,
    })
}
