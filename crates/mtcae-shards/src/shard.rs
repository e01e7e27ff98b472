//! Process I of N does every N-th file of the list, and appends the rows to a file of its own.
//!
//! Files are dealt by their place in the list: shards differ by one file at most, and files
//! that lie together, which tend to be of one length, are spread over all. A hash of the name
//! would leave most files where they are when one is added, but what was done of another list
//! can be gone on with in no way: [`merge`](mod@crate::merge) takes shards of one list alone.
//!
//! Beside the rows lies a record, `NAME.job.json`, of what they are of and whether they are
//! all there.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mtcae_core::files::{At, FileError, read};
use mtcae_core::in_order;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::disk::{replace, with_suffix};
use crate::job::hexadecimal;
use crate::row::about;
use crate::{Difference, Error, Job, Row, Task};

/// Most shards of a list.
pub const MOST: usize = 1_000_000;

/// What the names of records end in.
pub const RECORD: &str = ".job.json";

/// What `format` says in a record.
const FORMAT: &str = "mtcae-shard";

/// Longest record that is read.
const LONGEST: u64 = 1 << 24;

/// One share of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which, from 1.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// How many of `files` files it has.
    pub fn files(self, files: usize) -> usize {
        (files + self.of - self.number) / self.of
    }

    /// The place in the list of its n-th file, both from 0.
    pub fn place(self, n: usize) -> usize {
        n * self.of + self.number - 1
    }

    /// Where its rows go where those of all are to go to `out`:
    /// `labels.shard-003-of-008.jsonl`.
    pub fn path(self, out: &Path) -> PathBuf {
        let width = self.of.to_string().len().max(3);
        let (number, of) = (self.number, self.of);
        let mut name = out.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".shard-{number:0width$}-of-{of:0width$}"));
        if let Some(ending) = out.extension() {
            name.push(".");
            name.push(ending);
        }
        out.with_file_name(name)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.map(|(i, n)| (i.trim().parse(), n.trim().parse()));
        let Some((Ok(number), Ok(of))) = numbers else {
            return Err("a shard and how many there are are needed, as in 3/8".to_owned());
        };
        if !(1..=MOST).contains(&of) {
            return Err(format!("there can be 1 to {MOST} shards, not {of}"));
        }
        match number {
            0 => Err(format!(
                "shards are counted from 1: 1/{of} is the first and {of}/{of} the last; of an index from 0, give $((INDEX+1))/{of}"
            )),
            n if n > of => Err(format!(
                "there is no shard {n} of {of}: 1/{of} is the first and {of}/{of} the last"
            )),
            number => Ok(Self { number, of }),
        }
    }
}

/// What rows are of, and whether they are all there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: String,
    version: u32,
    /// The share of the list.
    #[serde(flatten)]
    pub shard: Shard,
    /// What is done to what.
    pub job: Job,
    /// What computed: devices and instruction sets.
    pub arithmetic: BTreeSet<String>,
    /// Rows that were there when this was written.
    pub rows: usize,
    /// How many of them say why nothing is said.
    pub failed: usize,
    /// Whether these are all.
    pub complete: bool,
    /// SHA-256 of the rows, where they are all there.
    pub sha256: Option<String>,
}

impl Record {
    /// Where the record of a file of rows lies.
    pub fn path(rows: &Path) -> PathBuf {
        with_suffix(rows, RECORD)
    }

    /// Reads one.
    ///
    /// # Errors
    /// Names the file, and what in it is none of a record.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read(path, LONGEST).at(path)?;
        let fault = |reason| FileError::new(path, reason);
        let record: Self = serde_json::from_slice(&text)
            .map_err(|e| fault(format!("not the record of a shard: {e}")))?;
        let Shard { number, of } = record.shard;
        if record.format != FORMAT || record.version != 1 || number == 0 || number > of || of > MOST
        {
            let reason = "not the record of a shard, or of a later version";
            return Err(fault(reason.to_owned()).into());
        }
        Ok(record)
    }

    /// Refuses to go on with rows of another job or shard.
    fn go_on_with(&mut self, rows: &Path, path: &Path) -> Result<(), Error> {
        if path.symlink_metadata().is_err() {
            // Killed before the record was written, which comes before the first row.
            if rows.metadata().is_ok_and(|m| m.is_file() && m.len() == 0) {
                return Ok(());
            }
            let reason = format!(
                "{} is not beside it, so that it cannot be seen what wrote it; give another name",
                path.display()
            );
            return Err(FileError::new(rows, reason).into());
        }
        let before = Self::read(path)?;
        let advice = "--resume goes on with rows of the same job; give another name";
        self.job.same(&before.job, path, advice)?;
        if before.shard != self.shard {
            return Err(Difference {
                path: path.to_owned(),
                field: "shard".to_owned(),
                there: before.shard.to_string(),
                here: self.shard.to_string(),
                place: "here".to_owned(),
                advice,
            }
            .into());
        }
        self.arithmetic.extend(before.arithmetic);
        Ok(())
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let mut text = serde_json::to_vec_pretty(self).at(path)?;
        text.push(b'\n');
        Ok(replace(path, &text).at(path)?)
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows that are there.
    pub rows: usize,
    /// Of these, rows of earlier runs.
    pub before: usize,
    /// Rows that say why nothing is said.
    pub failed: usize,
}

/// Works on a shard: `make` gives the row of the file at a place of the list, and `progress` is
/// told how many rows are there. With `resume` it goes on with rows that are there, of which a
/// torn last one is dropped; without, there must be none.
///
/// # Errors
/// When rows are there that this run would not write, or cannot be written; those that are
/// whole stay.
pub fn run(
    task: Task<'_>,
    shard: Shard,
    path: &Path,
    resume: bool,
    make: impl Fn(usize) -> Row + Sync,
    mut progress: impl FnMut(usize),
) -> Result<Done, Error> {
    let record_path = Record::path(path);
    let mut record = Record {
        format: FORMAT.to_owned(),
        version: 1,
        shard,
        job: task.job.clone(),
        arithmetic: BTreeSet::from([task.arithmetic.to_owned()]),
        rows: 0,
        failed: 0,
        complete: false,
        sha256: None,
    };
    let there = path.symlink_metadata().is_ok() || record_path.symlink_metadata().is_ok();
    if there && !resume {
        let reason = "exists already; --resume goes on with it, or give another name";
        return Err(FileError::new(path, reason).into());
    }
    if there {
        record.go_on_with(path, &record_path)?;
    }
    let mut rows = Rows::open(path)?;
    record.write(&record_path)?;
    rows.keep(|n| (n < shard.files(task.names.len())).then(|| &*task.names[shard.place(n)]))?;
    let before = rows.count;
    progress(before);
    let mut fault = Ok(());
    let all = shard.files(task.names.len());
    in_order(
        before..all,
        task.at_once,
        |n| make(shard.place(n)),
        |_, row| {
            fault = rows.append(&row);
            progress(rows.count);
            match fault {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        },
    );
    fault?;
    rows.file.sync_all().at(path)?;
    record.rows = rows.count;
    record.failed = rows.failed;
    record.complete = true;
    record.sha256 = Some(hexadecimal(&rows.hash.finalize()));
    record.write(&record_path)?;
    Ok(Done {
        rows: rows.count,
        before,
        failed: rows.failed,
    })
}

/// A file of rows that grows.
struct Rows {
    path: PathBuf,
    file: File,
    /// Of whole rows.
    hash: Sha256,
    length: u64,
    count: usize,
    failed: usize,
}

impl Rows {
    fn open(path: &Path) -> Result<Self, Error> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).at(path)?;
        if !file.metadata().at(path)?.is_file() {
            return Err(FileError::new(path, "not a regular file").into());
        }
        // Where the file system knows no locks, there is none: merging would tell.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(FileError::new(path, "another run is writing this shard").into());
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            hash: Sha256::new(),
            length: 0,
            count: 0,
            failed: 0,
        })
    }

    /// Keeps whole rows, which must be of the files that `name` gives by their numbers.
    fn keep<'a>(&mut self, name: impl Fn(usize) -> Option<&'a str>) -> Result<(), Error> {
        let mut lines = BufReader::new(&self.file);
        let mut text = Vec::new();
        loop {
            text.clear();
            let read = lines.read_until(b'\n', &mut text).at(&self.path)?;
            if !text.ends_with(b"\n") {
                break; // the end, or a torn row
            }
            let line = self.count + 1;
            let fault = |reason: String| Error::Rows {
                path: self.path.clone(),
                reason: format!("cannot resume: line {line} {reason}"),
            };
            let (file, error) =
                about(&text).map_err(|e| fault(format!("is {e}; remove it to begin again")))?;
            match name(self.count) {
                None => return Err(fault("is one more than the shard has files".to_owned())),
                Some(name) if name != file => {
                    return Err(fault(format!("is of {file}, not {name}")));
                }
                Some(_) => {}
            }
            self.hash.update(&text);
            self.length += read as u64;
            self.count += 1;
            self.failed += usize::from(error.is_some());
        }
        self.file.set_len(self.length).at(&self.path)?;
        self.file
            .seek(SeekFrom::Start(self.length))
            .at(&self.path)?;
        Ok(())
    }

    fn append(&mut self, row: &Row) -> Result<(), Error> {
        let line = [&row.line[..], b"\n"].concat();
        if let Err(source) = self.file.write_all(&line) {
            // Back to whole rows. If not even that works, the next run does it.
            let restored = self.file.set_len(self.length);
            drop(restored.and_then(|()| self.file.seek(SeekFrom::Start(self.length))));
            return Ok(Err(source).at(&self.path)?);
        }
        self.hash.update(&line);
        self.length += line.len() as u64;
        self.count += 1;
        self.failed += usize::from(row.error.is_some());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_one_shard() {
        for files in [0, 1, 7, 8, 9, 100] {
            for of in [1, 3, 8, 11] {
                let mut places: Vec<usize> = (1..=of)
                    .map(|number| Shard { number, of })
                    .flat_map(|s| (0..s.files(files)).map(move |n| s.place(n)))
                    .collect();
                places.sort_unstable();
                assert_eq!(places, (0..files).collect::<Vec<_>>(), "{files} in {of}");
            }
        }
    }

    #[test]
    fn shards_are_counted_from_one_and_others_are_refused() {
        assert_eq!("3/8".parse(), Ok(Shard { number: 3, of: 8 }));
        for (text, said) in [
            ("0/8", "counted from 1: 1/8 is the first and 8/8 the last"),
            ("9/8", "no shard 9 of 8"),
            ("1/0", "1 to 1000000 shards, not 0"),
            ("3", "as in 3/8"),
            ("-1/8", "as in 3/8"),
            ("a/b", "as in 3/8"),
        ] {
            let error = text.parse::<Shard>().expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_in_the_order_of_the_shards() {
        let path = |number, of, out: &str| {
            let path = Shard { number, of }.path(Path::new(out));
            (
                Record::path(&path).display().to_string(),
                path.display().to_string(),
            )
        };
        assert_eq!(
            path(3, 8, "x/labels.jsonl"),
            (
                "x/labels.shard-003-of-008.jsonl.job.json".to_owned(),
                "x/labels.shard-003-of-008.jsonl".to_owned()
            )
        );
        assert_eq!(
            path(12, 4096, "a.b.jsonl").1,
            "a.b.shard-0012-of-4096.jsonl"
        );
        assert_eq!(path(1, 2, "rows").1, "rows.shard-001-of-002");
    }
}
