//! Files named in a list.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mtcae_core::files::{At, FileError, read};

use super::{Inputs, add};

/// Longest list that is read, in bytes.
const MOST: u64 = 1 << 30;

/// Adds the files, archives and folders that a list names, one a line, or each ended by a zero
/// byte as by `find -print0`. The names are relative to the current folder, as on a command
/// line, and no patterns. Empty lines count for nothing.
///
/// # Errors
/// When the list cannot be read, names nothing, or names something twice.
pub fn read_list(
    list: &Path,
    inputs: &mut Inputs,
    complain: &mut impl FnMut(&str),
) -> Result<(), FileError> {
    let text = read(list, MOST).at(list)?;
    let names = names(&text).map_err(|reason| FileError::new(list, reason))?;
    for name in names {
        add(&name, inputs, complain);
    }
    Ok(())
}

fn names(text: &[u8]) -> Result<Vec<PathBuf>, String> {
    let end = match text.contains(&0) {
        true => 0,
        false => b'\n',
    };
    let mut lines = HashMap::new();
    let mut names = Vec::new();
    for (line, name) in (1..).zip(text.split(|byte| *byte == end)) {
        let name = match end {
            0 => name,
            _ => name.strip_suffix(b"\r").unwrap_or(name),
        };
        if name.is_empty() {
            continue;
        }
        let path = path(name).ok_or_else(|| format!("line {line} is not UTF-8"))?;
        if let Some(before) = lines.insert(path.clone(), line) {
            return Err(format!(
                "line {line} names {} again, which line {before} does; each file once",
                path.display()
            ));
        }
        names.push(path);
    }
    match names.is_empty() {
        true => Err("names no file; one a line is needed".to_owned()),
        false => Ok(names),
    }
}

#[cfg(unix)]
fn path(name: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Some(OsString::from_vec(name.to_vec()).into())
}

#[cfg(not(unix))]
fn path(name: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(name).ok()?;
    Some(OsString::from(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_on_a_line_or_before_a_zero() {
        let two = [PathBuf::from("a b.mp4"), PathBuf::from("c[1].mp4")];
        for text in [
            "a b.mp4\nc[1].mp4",
            "\na b.mp4\r\n\nc[1].mp4\r\n",
            "a b.mp4\0c[1].mp4\0",
        ] {
            assert_eq!(names(text.as_bytes()).as_deref(), Ok(&two[..]), "{text:?}");
        }
        assert_eq!(names(b"a\nb\0"), Ok(vec![PathBuf::from("a\nb")]));
    }

    #[test]
    fn a_name_twice_is_told_with_both_lines() {
        let said = names(b"a\nb\na\n").expect_err("twice");
        assert!(
            said.starts_with("line 3 names a again, which line 1 does"),
            "{said}"
        );
        assert!(names(b"\n\n").is_err());
    }
}
