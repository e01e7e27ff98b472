//! The list of files that a model is measured on, and the marks that a person set in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use mtcae_core::files::{At, open, read_to_string, sha256};
use serde::Deserialize;

use crate::Fault;

/// Columns that a list must have.
const NEEDED: [&str; 3] = ["id", "file", "sha256"];
/// Columns that it may have besides.
const KNOWN: [&str; 7] = ["kind", "person", "label", "tone", "faces", "start", "end"];
/// Columns that say where a file is from and how it was chosen, which is for people to read.
const ORIGIN: [&str; 6] = [
    "source",
    "licence",
    "frames_used",
    "label_by",
    "what",
    "notes",
];
/// Longer marks are not read.
const MOST: u64 = 64 << 20;

/// A line of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name in reports.
    pub id: String,
    /// Relative to the folder of the files.
    pub file: String,
    /// In lower-case hexadecimal.
    pub sha256: String,
    /// `video` or `picture`, or another word.
    pub kind: String,
    /// Who is to be seen; where that is not said, somebody who is in no other file.
    pub person: String,
    /// Their expression.
    pub label: Option<String>,
    /// Group of skin tones.
    pub tone: Option<String>,
    /// How many faces there are to be seen at once.
    pub faces: Option<u32>,
    /// Only the file's frames from this second on …
    pub start: Option<f64>,
    /// … and before this one.
    pub end: Option<f64>,
}

/// What a list says.
#[derive(Debug, PartialEq)]
pub struct List {
    pub entries: Vec<Entry>,
    /// Columns that say nothing to this program.
    pub unknown: Vec<String>,
}

/// Five landmarks that a person set.
#[derive(Clone, Debug, Deserialize)]
pub struct Mark {
    /// The list's name of the file, or the entry's id.
    pub file: String,
    /// The frame's number in the file, from 0.
    #[serde(default)]
    pub frame: u64,
    /// Left eye, right eye, nose, left and right corner of the mouth, left being the viewer's
    /// left, in pixels of the file's picture as it is shown.
    pub landmarks: [[f64; 2]; 5],
}

/// Marks by the id of their entry.
pub type Marks = BTreeMap<String, Vec<Mark>>;

impl List {
    /// Reads a list: text with a tab between two cells, a header, and `#` before remarks.
    ///
    /// # Errors
    /// Names the file, the line and the column at fault.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let shown = path.display();
        let mut table = csv::ReaderBuilder::new()
            .delimiter(b'\t')
            .quoting(false)
            .comment(Some(b'#'))
            .from_reader(open(path).at(path)?);
        let named = |e: csv::Error| format!("{shown}: {e}");
        let head: Vec<String> = table
            .headers()
            .map_err(named)?
            .iter()
            .map(trimmed)
            .collect();
        let place = |name: &str| head.iter().position(|column| column == name);
        if let Some(missing) = NEEDED.iter().find(|name| place(name).is_none()) {
            return Err(format!(
                "{shown}: has no column {missing}; a list has the columns {} and may have {}, with \
                 a tab between two",
                NEEDED.join(", "),
                KNOWN.join(", ")
            )
            .into());
        }
        let is_known = |c: &&String| {
            [&NEEDED[..], &KNOWN, &ORIGIN]
                .concat()
                .contains(&c.as_str())
        };
        let unknown = head.iter().filter(|c| !is_known(c)).cloned().collect();
        let mut entries: Vec<Entry> = Vec::new();
        let mut ids = BTreeSet::new();
        for row in table.records() {
            let row = row.map_err(named)?;
            let line = row.position().map_or(0, csv::Position::line);
            let cell = |name: &str| {
                let cell = place(name).and_then(|at| row.get(at));
                cell.map(trimmed).filter(|cell| !cell.is_empty())
            };
            let fault =
                |column: &str, reason: &str| format!("{shown}: line {line}: {column}: {reason}");
            let needed = |name: &str| cell(name).ok_or_else(|| fault(name, "is empty"));
            let number = |name: &str| {
                let number = cell(name).map(|text| text.parse::<f64>().map_err(|_| text));
                let number = number.transpose();
                let number =
                    number.map_err(|text| fault(name, &format!("{text:?} is no number")))?;
                match number {
                    Some(n) if !(n.is_finite() && n >= 0.0) => {
                        Err(fault(name, &format!("is {n}; must be 0 or more")))
                    }
                    number => Ok(number),
                }
            };
            let entry = Entry {
                id: needed("id")?,
                file: needed("file")?,
                sha256: needed("sha256")?.to_lowercase(),
                kind: cell("kind").unwrap_or_else(|| "file".to_owned()),
                person: cell("person")
                    .unwrap_or_else(|| format!("of {}", row.get(0).unwrap_or(""))),
                label: cell("label"),
                tone: cell("tone"),
                faces: number("faces")?.map(|n| n as u32),
                start: number("start")?,
                end: number("end")?,
            };
            let parts = Path::new(&entry.file).components();
            if parts
                .into_iter()
                .any(|part| !matches!(part, Component::Normal(_)))
            {
                let reason = format!("{:?} is not below the folder of the files", entry.file);
                return Err(fault("file", &reason).into());
            }
            let is_digit = |c: char| c.is_ascii_hexdigit();
            if entry.sha256.len() != 64 || !entry.sha256.chars().all(is_digit) {
                return Err(fault("sha256", "is not 64 hexadecimal digits").into());
            }
            if entry.start.unwrap_or(0.0) >= entry.end.unwrap_or(f64::INFINITY) {
                return Err(fault("end", "is not after start").into());
            }
            if !ids.insert(entry.id.clone()) {
                return Err(fault("id", &format!("{:?} is there twice", entry.id)).into());
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(format!("{shown}: lists no file").into());
        }
        Ok(Self { entries, unknown })
    }
}

fn trimmed(cell: &str) -> String {
    cell.trim().to_owned()
}

impl Entry {
    /// The file below a folder, where it is the one that is listed.
    ///
    /// # Errors
    /// Says what is there instead.
    pub fn find(&self, root: &Path) -> Result<PathBuf, String> {
        let path = root.join(&self.file);
        let found = match sha256(&path) {
            Ok(found) => found,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err("missing".to_owned()),
            Err(e) => return Err(e.to_string()),
        };
        match found == self.sha256 {
            true => Ok(path),
            false => Err(format!("another file: its SHA-256 is {found}")),
        }
    }
}

/// Reads marks, a line of JSON each, by entry of a list; and the files of those that are of
/// none.
///
/// # Errors
/// Names the file and the line at fault.
pub fn read_marks(path: &Path, entries: &[Entry]) -> Result<(Marks, BTreeSet<String>), Fault> {
    let shown = path.display();
    let text = read_to_string(path, MOST).at(path)?;
    let (mut marks, mut strays) = (Marks::new(), BTreeSet::new());
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let mark: Mark =
            serde_json::from_str(line).map_err(|e| format!("{shown}: line {}: {e}", i + 1))?;
        if mark.landmarks.as_flattened().iter().any(|v| !v.is_finite()) {
            return Err(format!("{shown}: line {}: a landmark is no number", i + 1).into());
        }
        let mut of = entries
            .iter()
            .filter(|e| e.file == mark.file || e.id == mark.file);
        match of.next() {
            Some(entry) => marks.entry(entry.id.clone()).or_default().push(mark),
            None => {
                strays.insert(mark.file);
            }
        }
    }
    Ok((marks, strays))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc`, of FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn read(text: &str) -> Result<List, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list.tsv");
        std::fs::write(&path, text).expect("written");
        List::read(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn a_list_is_read_with_what_it_leaves_out() {
        let text = format!(
            "# a remark\nid\tfile\tsha256\tperson\tlabel\tlicence\tcolour\tend\n\
             a\tx/a.png\t{}\tp\thappy\tCC0\tred\t\n# more\nb\tb.mp4\t{ABC}\t\t\t\t\t2.5\n",
            ABC.to_uppercase()
        );
        let list = read(&text).expect("a list");
        assert_eq!(list.unknown, ["colour"]);
        let [a, b] = &list.entries[..] else {
            panic!("{list:?}")
        };
        assert_eq!(
            (a.person.as_str(), a.label.as_deref()),
            ("p", Some("happy"))
        );
        assert_eq!(a.sha256, ABC);
        assert_eq!(
            (b.person.as_str(), &b.label, b.end),
            ("of b", &None, Some(2.5))
        );
    }

    #[test]
    fn what_is_wrong_with_a_list_is_named() {
        let head = "id\tfile\tsha256\tstart\tend\n";
        for (text, said) in [
            ("id\tfile\n".to_owned(), "has no column sha256"),
            (head.to_owned(), "lists no file"),
            (format!("{head}a\t\t{ABC}\t\t\n"), "line 2: file: is empty"),
            (
                format!("{head}a\t../a\t{ABC}\t\t\n"),
                "line 2: file: \"../a\" is not below",
            ),
            (
                format!("{head}a\t/a\t{ABC}\t\t\n"),
                "line 2: file: \"/a\" is not below",
            ),
            (
                format!("{head}a\ta\t{}\t\t\n", &ABC[1..]),
                "sha256: is not 64",
            ),
            (
                format!("{head}a\ta\t{ABC}\tx\t\n"),
                "start: \"x\" is no number",
            ),
            (
                format!("{head}a\ta\t{ABC}\t3\t2\n"),
                "end: is not after start",
            ),
            (format!("{head}a\ta\t{ABC}\t\t-1\n"), "end: is -1; must be"),
            (
                format!("{head}a\ta\t{ABC}\t\t\na\tb\t{ABC}\t\t\n"),
                "line 3: id: \"a\" is there twice",
            ),
            (format!("{head}a\ta\n"), "list.tsv: "),
        ] {
            let error = read(&text).expect_err(said);
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn files_are_known_by_their_hash() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = read(&format!("id\tfile\tsha256\na\ta\t{ABC}\n")).expect("a list");
        let entry = &list.entries[0];
        assert_eq!(entry.find(folder.path()), Err("missing".to_owned()));
        std::fs::write(folder.path().join("a"), "abc").expect("written");
        assert_eq!(entry.find(folder.path()), Ok(folder.path().join("a")));
        std::fs::write(folder.path().join("a"), "abd").expect("written");
        let said = entry.find(folder.path()).expect_err("another");
        assert!(
            said.starts_with("another file: its SHA-256 is a52d159f"),
            "{said}"
        );
    }

    #[test]
    fn marks_belong_to_entries_by_file_or_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("marks.jsonl");
        let list = read(&format!("id\tfile\tsha256\na\tx.png\t{ABC}\n")).expect("a list");
        let points = "[[1,2],[3,4],[5,6],[7,8],[9,10]]";
        let line = |file: &str| format!("{{\"file\":\"{file}\",\"landmarks\":{points}}}\n");
        let text = [line("x.png"), line("a"), line("b")].concat();
        std::fs::write(&path, text).expect("written");
        let (marks, strays) = read_marks(&path, &list.entries).expect("marks");
        assert_eq!((marks["a"].len(), marks["a"][0].frame), (2, 0));
        assert_eq!(strays.into_iter().collect::<Vec<_>>(), ["b"]);
        std::fs::write(&path, "\n{\"file\":\"a\",\"landmarks\":[]}\n").expect("written");
        let error = read_marks(&path, &list.entries).expect_err("bad");
        assert!(
            error.to_string().contains("marks.jsonl: line 2: "),
            "{error}"
        );
    }
}
