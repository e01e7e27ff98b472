//! All files below a folder, in one order everywhere.

use std::path::{Path, PathBuf};

use super::Problem;
use crate::Error;

const VIDEOS: [&str; 9] = [
    "mp4", "flv", "avi", "mov", "mkv", "webm", "m4v", "mpg", "mpeg",
];
const IMAGES: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

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

    fn extension(&self) -> String {
        let extension = self.path.extension().unwrap_or_default();
        extension.to_string_lossy().to_lowercase()
    }

    /// Whether it is named as a video or an image.
    pub fn is_visual(&self) -> bool {
        let e = self.extension();
        VIDEOS.contains(&&e[..]) || IMAGES.contains(&&e[..])
    }

    /// Whether it is named as a video.
    pub fn is_video(&self) -> bool {
        VIDEOS.contains(&&self.extension()[..])
    }
}

/// All files below `root`, sorted by their parts; hidden ones and what cannot be
/// read are not among them, the latter go to `problems`.
pub fn walk(root: &Path, problems: &mut Vec<Problem>) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(root).map_err(|source| Error::Io {
        path: root.to_owned(),
        source,
    })?;
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
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
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
