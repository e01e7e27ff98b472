//! Which model it is, so that a result can be traced back to it.

use std::collections::BTreeMap;
use std::path::Path;

use mtcae_core::files::{At, FileError, sha256};
use serde::{Deserialize, Serialize};

/// Which model it is: what it was called, and what its files hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The folder, file or name on the hub that it was asked for by.
    pub name: String,
    /// SHA-256 of each of its files, in hexadecimal, by the file's name.
    pub files: BTreeMap<String, String>,
    /// What the weights were trained on, as the checkpoint says it. `None` when they were
    /// not trained.
    pub trained_on: Option<String>,
}

/// Hashes what a checkpoint of this path consists of: the file, or a folder's configs and
/// weights.
pub(crate) fn hashes(path: &Path) -> Result<BTreeMap<String, String>, FileError> {
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in path.read_dir().at(path)? {
            let file = entry.at(path)?.path();
            if file.is_file() && is_part(&file) {
                files.push(file);
            }
        }
    } else {
        files.push(path.to_owned());
    }
    let hashed = files.into_iter().map(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Ok((name.into_owned(), sha256(&file).at(&file)?))
    });
    hashed.collect()
}

/// Whether a file of a checkpoint's folder says what the model computes.
fn is_part(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let is = |ending| name.ends_with(ending);
    is("config.json") || is(".safetensors") || is(".safetensors.index.json") || is(".bin")
}
