//! All files below a folder, in one order everywhere.

use mtcae_core::files::At;
use std::path::{Path, PathBuf};

use mtcae_core::drawn::is_drawn;

use super::Problem;
use crate::error::{Error, NOT_UTF8};

/// A file below a root.
pub struct Found {
    pub path: PathBuf,
    /// Relative to the root, the parts between separators.
    pub parts: Vec<String>,
}

impl Found {
    /// The relative name with `/`.
    pub fn file(&self) -> String {
        self.parts.join("/")
    }

    /// The last part without its extension.
    pub fn stem(&self) -> &str {
        let name = self.parts.last().map_or("", |n| n);
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    }

    /// What it ends in, to say what kind of file was left out.
    pub fn ending(&self) -> String {
        match self.path.extension() {
            Some(e) => format!(".{}", e.to_string_lossy()),
            None => "no ending".to_owned(),
        }
    }

    /// Whether it is named as a video or an image, and none that was drawn here.
    pub fn is_visual(&self) -> bool {
        mtcae_video::is_media(&self.path) && !is_drawn(&self.path)
    }

    /// Whether it is named as a video.
    pub fn is_video(&self) -> bool {
        mtcae_video::is_video(&self.path) && !is_drawn(&self.path)
    }
}

/// All files below `root`, sorted by their parts; hidden ones and what cannot be
/// read are not among them, the latter go to `problems`.
pub fn walk(root: &Path, problems: &mut Vec<Problem>) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(root).at(root)?;
    descend(root, entries, &mut Vec::new(), &mut found, problems);
    found.sort_by(|a, b| a.parts.cmp(&b.parts));
    Ok(found)
}

/// Deeper nesting than any dataset has: a loop of links.
const DEPTH: usize = 32;

fn descend(
    folder: &Path,
    entries: std::fs::ReadDir,
    parts: &mut Vec<String>,
    found: &mut Vec<Found>,
    problems: &mut Vec<Problem>,
) {
    let unreadable = |path: PathBuf, reason: String| Problem::Unreadable { path, reason };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                problems.push(unreadable(folder.to_owned(), e.to_string()));
                continue;
            }
        };
        let path = entry.path();
        let name = match entry.file_name().into_string() {
            Ok(name) if name.starts_with('.') => continue,
            Ok(name) => name,
            Err(_) => {
                problems.push(Problem::Misnamed {
                    path,
                    reason: NOT_UTF8.to_owned(),
                });
                continue;
            }
        };
        parts.push(name);
        match std::fs::metadata(&path) {
            Ok(m) if m.is_dir() && parts.len() < DEPTH => match std::fs::read_dir(&path) {
                Ok(entries) => descend(&path, entries, parts, found, problems),
                Err(e) => problems.push(unreadable(path, e.to_string())),
            },
            Ok(m) if m.is_dir() => problems.push(unreadable(path, "nested too deeply".to_owned())),
            Ok(_) => found.push(Found {
                path,
                parts: parts.clone(),
            }),
            Err(e) => problems.push(unreadable(path, e.to_string())),
        }
        parts.pop();
    }
}
