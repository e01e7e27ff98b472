//! From names that a user gives to files.

mod list;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mtcae_core::archive::{contents, is_archive};
use mtcae_core::drawn::is_drawn;

pub use list::read_list;

use crate::endings::is_media;

/// A file to look at.
pub struct Input {
    /// Where it is; of a member of an archive, the archive's path and the member's name.
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
    /// In the order given, those of folders in the order of their names, those of archives in
    /// the archive's.
    pub files: Vec<Input>,
    /// Pictures and videos in folders that are left out, since `infer` and `label` drew
    /// them.
    pub drawn: usize,
    /// Members of archives that are no pictures or videos by their names, by their endings.
    pub beside: BTreeMap<String, usize>,
}

/// Files, the media files in folders and in tar archives, and what patterns and ranges as in
/// `clips-{000..127}.tar` match, but for what these programs drew themselves. Archives in
/// folders are not looked into. Faults are told to `complain` and left out.
pub fn expand(names: &[impl AsRef<Path>], complain: &mut impl FnMut(&str)) -> Inputs {
    let mut inputs = Inputs::default();
    for name in names {
        let path = name.as_ref();
        if path.symlink_metadata().is_ok() {
            add(path, &mut inputs, complain);
            continue;
        }
        match path.to_str().and_then(range) {
            Some(names) => {
                for name in names {
                    given(Path::new(&name), &mut inputs, complain);
                }
            }
            None => given(path, &mut inputs, complain),
        }
    }
    inputs
}

/// A name that may be a pattern.
fn given(path: &Path, inputs: &mut Inputs, complain: &mut impl FnMut(&str)) {
    let pattern = path.to_str().filter(|name| name.contains(['*', '?', '[']));
    match pattern {
        Some(pattern) if path.symlink_metadata().is_err() => {
            expand_pattern(pattern, inputs, complain);
        }
        _ => add(path, inputs, complain),
    }
}

/// A file, a folder or an archive.
fn add(path: &Path, inputs: &mut Inputs, complain: &mut impl FnMut(&str)) {
    if path.is_dir() {
        let before = inputs.files.len() + inputs.drawn;
        search(path, Path::new(""), inputs, complain);
        if inputs.files.len() + inputs.drawn == before {
            let name = path.display();
            complain(&format!("{name}: no video or image file in this folder"));
        }
    } else if is_archive(path) && path.is_file() {
        if let Err(reason) = open_up(path, inputs) {
            complain(&format!("{}: {reason}", path.display()));
        }
    } else {
        // Opening it will say why it cannot be, where it cannot.
        inputs.files.push(Input::new(path.to_owned()));
    }
}

/// The pictures and videos in an archive.
fn open_up(path: &Path, inputs: &mut Inputs) -> Result<(), String> {
    let contents = contents(path).map_err(|e| e.to_string())?;
    if let Some((name, what)) = contents.odd().find(|odd| is_media(Path::new(odd.0))) {
        return Err(format!(
            "{name} is {what}; pictures and videos in an archive must be plain files"
        ));
    }
    let own = Path::new(path.file_stem().unwrap_or(path.as_os_str()));
    let before = inputs.files.len();
    for member in &contents.members {
        let name = Path::new(&member.name);
        if is_media(name) {
            inputs.files.push(Input {
                path: path.join(name),
                name: own.join(name),
            });
        } else {
            let ending = name.extension().unwrap_or_default().to_string_lossy();
            *inputs.beside.entry(ending.into_owned()).or_default() += 1;
        }
    }
    match inputs.files.len() == before {
        true => Err("no video or image file in this archive".to_owned()),
        false => Ok(()),
    }
}

/// Most names of a range.
const MOST: u64 = 1_000_000;

/// The names that a range stands for: `a-{08..10}.tar` for three.
fn range(name: &str) -> Option<Vec<String>> {
    let (before, rest) = name.split_once('{')?;
    let (range, after) = rest.split_once('}')?;
    let (first, last) = range.split_once("..")?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (from, to) = (number(first)?, number(last)?);
    if to < from || to - from >= MOST {
        return None;
    }
    let width = first.len();
    Some(
        (from..=to)
            .map(|n| format!("{before}{n:0width$}{after}"))
            .collect(),
    )
}

fn expand_pattern(pattern: &str, inputs: &mut Inputs, complain: &mut impl FnMut(&str)) {
    let matches = match glob::glob(pattern) {
        Ok(matches) => matches,
        Err(e) => return complain(&format!("{pattern}: not a pattern: {e}")),
    };
    let mut any = false;
    for entry in matches {
        any |= !matches!(&entry, Ok(path) if path.is_dir());
        match entry {
            Ok(path) if path.is_dir() => {}
            Ok(path) if is_drawn(&path) => inputs.drawn += 1,
            Ok(path) => add(&path, inputs, complain),
            Err(e) => complain(&format!("{}: {}", e.path().display(), e.error())),
        }
    }
    if !any {
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

/// How many members of archives were left out because they are no pictures or videos by their
/// names, as a sentence.
pub fn beside(counts: &BTreeMap<String, usize>) -> String {
    let counts: Vec<String> = counts
        .iter()
        .map(|(ending, count)| match &ending[..] {
            "" => format!("{count} without an ending"),
            ending => format!("{count} .{ending}"),
        })
        .collect();
    let list = counts.join(", ");
    format!("left out: members of archives that are no pictures or videos by their names: {list}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_numbers_stands_for_each_name() {
        assert_eq!(
            range("x/a-{08..10}.tar").unwrap_or_default(),
            ["x/a-08.tar", "x/a-09.tar", "x/a-10.tar"]
        );
        assert_eq!(range("a{9..10}").unwrap_or_default(), ["a9", "a10"]);
        for none in [
            "a.tar",
            "a{1..0}",
            "a{a..b}",
            "a{1}",
            "a{..3}",
            "a{0..1000000}",
        ] {
            assert!(range(none).is_none(), "{none}");
        }
    }
}
