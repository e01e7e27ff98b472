//! From names that a user gives to files.

use std::path::{Path, PathBuf};

use mtcae_core::drawn::is_drawn;

use crate::endings::is_media;

/// A file to look at.
pub struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// What its results are called, relative to the folder of results.
    pub name: PathBuf,
}

impl Input {
    /// A file named by itself: its results are called as it is.
    pub fn new(path: PathBuf) -> Self {
        let name = path.file_name().map_or_else(|| path.clone(), PathBuf::from);
        Self { path, name }
    }
}

/// Files to look at.
#[derive(Default)]
pub struct Inputs {
    /// In the order given, those of folders in the order of their names.
    pub files: Vec<Input>,
    /// Pictures and videos in folders that are left out, since `infer` and `label` drew
    /// them.
    pub drawn: usize,
}

/// Files, the media files in folders, and what patterns match, but for what these
/// programs drew themselves. Faults are told to `complain` and left out.
pub fn expand(names: &[impl AsRef<Path>], complain: &mut impl FnMut(&str)) -> Inputs {
    let mut inputs = Inputs::default();
    for name in names {
        let path = name.as_ref();
        let pattern = path.to_str().filter(|name| name.contains(['*', '?', '[']));
        if path.is_dir() {
            let before = inputs.files.len() + inputs.drawn;
            search(path, Path::new(""), &mut inputs, complain);
            if inputs.files.len() + inputs.drawn == before {
                let name = path.display();
                complain(&format!("{name}: no video or image file in this folder"));
            }
        } else if path.symlink_metadata().is_ok() {
            inputs.files.push(Input::new(path.to_owned()));
        } else if let Some(pattern) = pattern {
            expand_pattern(pattern, &mut inputs, complain);
        } else {
            // Opening it will say why it cannot be.
            inputs.files.push(Input::new(path.to_owned()));
        }
    }
    inputs
}

fn expand_pattern(pattern: &str, inputs: &mut Inputs, complain: &mut impl FnMut(&str)) {
    let matches = match glob::glob(pattern) {
        Ok(matches) => matches,
        Err(e) => return complain(&format!("{pattern}: not a pattern: {e}")),
    };
    let before = inputs.files.len() + inputs.drawn;
    for entry in matches {
        match entry {
            Ok(path) if path.is_dir() => {}
            Ok(path) if is_drawn(&path) => inputs.drawn += 1,
            Ok(path) => inputs.files.push(Input::new(path)),
            Err(e) => complain(&format!("{}: {}", e.path().display(), e.error())),
        }
    }
    if inputs.files.len() + inputs.drawn == before {
        complain(&format!("{pattern}: no such file, and no file matches it"));
    }
}

fn search(root: &Path, below: &Path, inputs: &mut Inputs, complain: &mut impl FnMut(&str)) {
    let folder = root.join(below);
    let entries =
        std::fs::read_dir(&folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(e) => return complain(&format!("{}: {e}", folder.display())),
    };
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = below.join(entry.file_name());
        // Links to folders are not followed: they may lead back here.
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            search(root, &name, inputs, complain);
        } else if is_media(&name) {
            match is_drawn(entry.path()) {
                true => inputs.drawn += 1,
                false => inputs.files.push(Input {
                    path: entry.path(),
                    name,
                }),
            }
        }
    }
}

/// How many files were left out because these programs drew them, as a sentence.
pub fn drawn(count: usize) -> String {
    match count {
        1 => "left out: 1 picture or video that infer or label drew".to_owned(),
        n => format!("left out: {n} pictures and videos that infer or label drew"),
    }
}
