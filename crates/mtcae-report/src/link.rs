//! Where a video lies, seen from the page.

use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// All but letters, digits and what is harmless in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The true name of a file or folder, as far as it is there.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.is_dir() => absolute(parent).join(name),
        _ => path,
    }
}

/// The way from one folder to a file, both absolute; `None` where there is none, as between
/// two drives.
pub(crate) fn relative(from: &Path, to: &Path) -> Option<PathBuf> {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let is_root = |c: &Component<'_>| matches!(c, Component::Prefix(_) | Component::RootDir);
    if from[common..].iter().chain(&to[common..]).any(is_root) {
        return None;
    }
    let up = from[common..].iter().map(|_| Component::ParentDir);
    Some(up.chain(to[common..].iter().copied()).collect())
}

/// A relative path as a URL has it.
pub(crate) fn url(path: &Path) -> String {
    let parts = path.components().map(|part| {
        let bytes = part.as_os_str().as_encoded_bytes();
        percent_encode(bytes, ENCODED).to_string()
    });
    parts.collect::<Vec<_>>().join("/")
}

/// A relative path as a label file has it: parts separated by `/`.
pub(crate) fn slashed(path: &Path) -> String {
    let parts = path.components().filter(|p| *p != Component::CurDir);
    let parts = parts.map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.collect::<Vec<_>>().join("/")
}

/// As many folders above results are tried.
const ABOVE: usize = 4;

/// Finds the video of results: as it was named, from here or from a folder that the results
/// lie in, or beside the results or the page, where a file of the same length is taken for it.
pub(crate) fn find(
    named: &Path,
    bytes: Option<u64>,
    results: &Path,
    page: &Path,
) -> Option<PathBuf> {
    if named.is_file() {
        return Some(absolute(named));
    }
    let results = absolute(results);
    let folders = [results.parent().unwrap_or(Path::new("")), page];
    // The program may have run in any folder above its results.
    let above = folders[0].ancestors().take(ABOVE).chain([page]);
    let below = above.map(|folder| folder.join(named));
    let name = named.file_name()?;
    let beside = folders.iter().map(|folder| folder.join(name));
    let fits = |path: &PathBuf| {
        let length = path.metadata().ok().filter(std::fs::Metadata::is_file);
        length.is_some_and(|m| bytes.is_none_or(|bytes| m.len() == bytes))
    };
    below.chain(beside).find(fits).map(|path| absolute(&path))
}

/// The folder that all of these lie in; `None` where there are none or no such folder.
pub(crate) fn common(files: &[&Path]) -> Option<PathBuf> {
    let mut folders = files.iter().map(|f| f.parent().unwrap_or(Path::new("")));
    let mut common = folders.next()?.to_owned();
    for folder in folders {
        while !folder.starts_with(&common) {
            if !common.pop() {
                return None;
            }
        }
    }
    Some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_the_way_from_the_page_percent_encoded() {
        let way = |from: &str, to: &str| {
            let way = relative(Path::new(from), Path::new(to)).expect("a way");
            url(&way)
        };
        assert_eq!(way("/a/b", "/a/b/c.mp4"), "c.mp4");
        assert_eq!(
            way("/a/b", "/a/v/100% é?#&\"<.mp4"),
            "../v/100%25%20%C3%A9%3F%23%26%22%3C.mp4"
        );
        assert_eq!(way("/a/b/c", "/d.mp4"), "../../../d.mp4");
        // A name with a colon would read as a scheme.
        assert_eq!(way("/a", "/a/javascript:x.mp4"), "javascript%3Ax.mp4");
    }

    #[test]
    fn videos_have_one_folder_in_common() {
        let common = |files: &[&str]| {
            let files: Vec<&Path> = files.iter().map(Path::new).collect();
            common(&files)
        };
        assert_eq!(common(&["/a/b/1.mp4"]), Some("/a/b".into()));
        assert_eq!(common(&["/a/b/1.mp4", "/a/bc/2.mp4"]), Some("/a".into()));
        assert_eq!(common(&[]), None);
    }
}
