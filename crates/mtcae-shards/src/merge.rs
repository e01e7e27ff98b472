//! What many processes wrote, as one would have written it.

mod blocks;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use mtcae_core::files::{At, FileError, same_file, write_atomically};
use sha2::{Digest, Sha256};

use crate::job::{ListDigest, hexadecimal};
use crate::lease::{Folder, JOB};
use crate::row::about;
use crate::shard::{RECORD, Record, Shard};
use crate::{Difference, Error, Job};
use blocks::Blocks;

/// How rows are merged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Merge what there is where some is missing.
    pub partial: bool,
    /// Overwrite what is there.
    pub force: bool,
}

/// What was merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Rows in the file.
    pub rows: usize,
    /// Files of the list.
    pub files: usize,
    /// Rows that say why nothing is said.
    pub failed: usize,
    /// The first of these: its file, and why.
    pub first_failed: Option<(String, String)>,
    /// What computed: devices and instruction sets.
    pub arithmetic: BTreeSet<String>,
    /// What is missing, in words.
    pub missing: Vec<String>,
}

/// Merges shards, or the parts of a folder of leases, to `out`. `from` names shards by their
/// rows or their records, folders in which all shards are meant, or one folder of leases.
///
/// # Errors
/// When something is missing (unless `partial`), is there twice, was damaged, or is of another
/// job; `out` is as it was then.
pub fn merge(out: &Path, from: &[PathBuf], options: Options) -> Result<Merged, Error> {
    if from.is_empty() {
        return Err(refuse(
            "nothing to merge: name shards, or a folder of leases",
        ));
    }
    let source = Source::find(from)?;
    if let Some(read) = source.files().find(|path| same_file(path, out)) {
        let reason = format!("is merged from {}; give another name", read.display());
        return Err(FileError::new(out, reason).into());
    }
    if out.symlink_metadata().is_ok() && !options.force {
        let reason = "exists already; --force overwrites it";
        return Err(FileError::new(out, reason).into());
    }
    let missing = source.missing();
    if !missing.is_empty() && !options.partial {
        return Err(Error::Incomplete { missing });
    }
    let mut merged = Merged {
        files: source.job().inputs.files,
        missing,
        ..Merged::default()
    };
    let mut fault = None;
    let written = write_atomically(out, |temporary| {
        let mut sink = Sink {
            out: BufWriter::with_capacity(1 << 20, File::create(temporary)?),
            path: out,
            merged: &mut merged,
            names: HashSet::new(),
            digest: ListDigest::default(),
        };
        let result = source
            .write(&mut sink)
            .and_then(|()| sink.finish(source.job()));
        result.map_err(|e| match e {
            Error::File(e) if e.path == out => e.reason,
            other => {
                fault = Some(other);
                std::io::Error::other("not merged")
            }
        })
    });
    match fault {
        Some(fault) => Err(fault),
        None => {
            written.at(out)?;
            Ok(merged)
        }
    }
}

fn refuse(reason: impl Into<String>) -> Error {
    Error::Merge {
        reason: reason.into(),
    }
}

/// Where rows are merged from.
enum Source {
    /// By their numbers: the file of rows, and what is said of it.
    Shards(BTreeMap<usize, (PathBuf, Record)>),
    Parts(Folder),
}

impl Source {
    fn find(from: &[PathBuf]) -> Result<Self, Error> {
        let mut records: Vec<PathBuf> = Vec::new();
        for path in from {
            if path.join(JOB).is_file() {
                if from.len() > 1 {
                    return Err(refuse(format!(
                        "{} is a folder of leases, which is merged by itself",
                        path.display()
                    )));
                }
                return Folder::read(path).map(Self::Parts);
            }
            if path.is_dir() {
                records.extend(records_in(path)?);
            } else if path.to_string_lossy().ends_with(RECORD) {
                records.push(path.clone());
            } else {
                let record = Record::path(path);
                if record.symlink_metadata().is_err() {
                    let reason = match path.symlink_metadata() {
                        Ok(_) => format!(
                            "not a shard: its record {} is not beside it",
                            record.display()
                        ),
                        Err(_) => "no such shard".to_owned(),
                    };
                    return Err(FileError::new(path, reason).into());
                }
                records.push(record);
            }
        }
        let mut shards: BTreeMap<usize, (PathBuf, Record)> = BTreeMap::new();
        let mut first: Option<(PathBuf, Job, Shard)> = None;
        for path in records {
            let record = Record::read(&path)?;
            // Without `.job` and `.json`.
            let rows = path.with_extension("").with_extension("");
            if let Some((other, job, shard)) = &first {
                let advice = "only shards of one job can be merged";
                record
                    .job
                    .same(job, other, advice)
                    .map_err(|e| at(e, &path))?;
                if shard.of != record.shard.of {
                    return Err(Difference {
                        path: other.clone(),
                        field: "of".to_owned(),
                        there: shard.of.to_string(),
                        here: record.shard.of.to_string(),
                        place: format!("in {}", path.display()),
                        advice,
                    }
                    .into());
                }
            } else {
                first = Some((path.clone(), record.job.clone(), record.shard));
            }
            let number = record.shard.number;
            if let Some((before, _)) = shards.get(&number) {
                return Err(refuse(format!(
                    "shard {} is given twice: {} and {}",
                    record.shard,
                    before.display(),
                    rows.display()
                )));
            }
            shards.insert(number, (rows, record));
        }
        Ok(Self::Shards(shards))
    }

    fn job(&self) -> &Job {
        match self {
            Self::Parts(folder) => &folder.job,
            Self::Shards(shards) => {
                // There is one at least, or none could have been found.
                #[allow(clippy::expect_used, reason = "`find` refuses to find none")]
                let (_, record) = shards.values().next().expect("a shard");
                &record.job
            }
        }
    }

    fn files(&self) -> Box<dyn Iterator<Item = PathBuf> + '_> {
        match self {
            Self::Shards(shards) => Box::new(shards.values().map(|s| s.0.clone())),
            Self::Parts(folder) => Box::new((0..folder.parts()).map(|part| folder.path(part))),
        }
    }

    /// What is missing, in words.
    fn missing(&self) -> Vec<String> {
        let mut said = Vec::new();
        match self {
            Self::Shards(shards) => {
                let of = shards.values().next().map_or(0, |s| s.1.shard.of);
                let absent = (1..=of).filter(|n| !shards.contains_key(n));
                let absent = ranges(absent);
                if !absent.is_empty() {
                    said.push(format!("of {of} shards, {absent} are missing"));
                }
                for (path, record) in shards.values().filter(|s| !s.1.complete) {
                    said.push(format!(
                        "{} is not at its end: run shard {} again with --resume",
                        path.display(),
                        record.shard
                    ));
                }
            }
            Self::Parts(folder) => {
                let absent: Vec<usize> = (0..folder.parts())
                    .filter(|&part| folder.path(part).symlink_metadata().is_err())
                    .collect();
                if let Some(&first) = absent.first() {
                    let mut text = format!(
                        "of {} parts, {} are missing: {}",
                        folder.parts(),
                        absent.len(),
                        ranges(absent.iter().copied())
                    );
                    if let Some(owner) = folder.owner(first) {
                        text += &format!(" (of part {first} {owner} has the lease)");
                    }
                    text += "; run a worker to its end";
                    said.push(text);
                }
            }
        }
        said
    }

    fn write(&self, sink: &mut Sink<'_>) -> Result<(), Error> {
        match self {
            Self::Parts(folder) => {
                for part in 0..folder.parts() {
                    let Some((text, end)) = folder.rows(part)? else {
                        continue;
                    };
                    sink.merged.arithmetic.insert(end.arithmetic);
                    for line in text.split_inclusive(|b| *b == b'\n') {
                        sink.add(&folder.path(part), line)?;
                    }
                }
                Ok(())
            }
            Self::Shards(shards) => {
                let files = self.job().inputs.files;
                let mut open: BTreeMap<usize, Hashed<'_>> = BTreeMap::new();
                for (number, (path, record)) in shards {
                    sink.merged
                        .arithmetic
                        .extend(record.arithmetic.iter().cloned());
                    let rows = Blocks::open(path).at(path)?;
                    let hash = Sha256::new();
                    open.insert(
                        *number,
                        Hashed {
                            path,
                            rows,
                            hash,
                            count: 0,
                        },
                    );
                }
                let of = shards.values().next().map_or(1, |s| s.1.shard.of);
                let mut line = Vec::new();
                for place in 0..files {
                    let Some(shard) = open.get_mut(&(place % of + 1)) else {
                        continue;
                    };
                    if shard.next(&mut line)? {
                        sink.add(shard.path, &line)?;
                    }
                }
                for (number, shard) in open {
                    shard.finish(&shards[&number].1)?;
                }
                Ok(())
            }
        }
    }
}

/// The fault, with what it was found in.
fn at(mut error: Error, found: &Path) -> Error {
    if let Error::OtherJob(difference) = &mut error {
        difference.place = format!("in {}", found.display());
    }
    error
}

/// The records in a folder, in the order of their names.
fn records_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        if path.to_string_lossy().ends_with(RECORD) {
            found.push(path);
        }
    }
    if found.is_empty() {
        let reason = format!("neither shards (*{RECORD}) nor leases ({JOB}) in this folder");
        return Err(FileError::new(folder, reason).into());
    }
    found.sort_unstable();
    Ok(found)
}

/// Numbers in words: `1, 4-7`; of many the first.
fn ranges(numbers: impl Iterator<Item = usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match ranges.last_mut() {
            Some(last) if last.1 + 1 == n => last.1 = n,
            _ => ranges.push((n, n)),
        }
    }
    let more = ranges.len() > 20;
    let mut words: Vec<String> = ranges
        .iter()
        .take(20)
        .map(|(a, b)| match a == b {
            true => a.to_string(),
            false => format!("{a}-{b}"),
        })
        .collect();
    if more {
        words.push("…".to_owned());
    }
    words.join(", ")
}

/// A shard's rows, while they are read.
struct Hashed<'a> {
    path: &'a Path,
    rows: Blocks,
    hash: Sha256,
    count: usize,
}

impl Hashed<'_> {
    /// The next row with its line feed; `false` at the end and where the last one is torn.
    fn next(&mut self, line: &mut Vec<u8>) -> Result<bool, Error> {
        line.clear();
        self.rows.line(line).at(self.path)?;
        if !line.ends_with(b"\n") {
            return Ok(false);
        }
        self.hash.update(&*line);
        self.count += 1;
        Ok(true)
    }

    /// Whether the rows were those of the record, where it says that they are all.
    fn finish(mut self, record: &Record) -> Result<(), Error> {
        let mut rest = Vec::new();
        let more = self.next(&mut rest)?;
        let hash = hexadecimal(&self.hash.finalize());
        let as_said = record.sha256.as_ref().is_none_or(|said| *said == hash);
        if more || (record.complete && !(as_said && self.count == record.rows && rest.is_empty())) {
            return Err(Error::Rows {
                path: self.path.to_owned(),
                reason: format!(
                    "has other rows than its record says ({} in place of {}, or changed ones): it was damaged after it was written; remove it and its record, and run shard {} again",
                    self.count, record.rows, record.shard
                ),
            });
        }
        Ok(())
    }
}

/// What rows are merged into.
struct Sink<'a> {
    out: BufWriter<File>,
    path: &'a Path,
    merged: &'a mut Merged,
    /// Starts of the digests of the names, which fit into memory where names do not.
    names: HashSet<[u8; 16]>,
    digest: ListDigest,
}

impl Sink<'_> {
    /// Adds a row with its line feed, which was read from `path`.
    fn add(&mut self, path: &Path, line: &[u8]) -> Result<(), Error> {
        let (file, error) = about(line).map_err(|reason| Error::Rows {
            path: path.to_owned(),
            reason,
        })?;
        let digest = Sha256::digest(&file);
        let mut start = [0; 16];
        start.copy_from_slice(&digest[..16]);
        if !self.names.insert(start) {
            return Err(Error::Rows {
                path: path.to_owned(),
                reason: format!("has a row of {file}, of which another was merged before"),
            });
        }
        self.digest.add(&file);
        self.merged.rows += 1;
        if let Some(error) = error {
            self.merged.failed += 1;
            self.merged.first_failed.get_or_insert((file, error));
        }
        Ok(self.out.write_all(line).at(self.path)?)
    }

    fn finish(mut self, job: &Job) -> Result<(), Error> {
        self.out.flush().at(self.path)?;
        let digest = std::mem::take(&mut self.digest).finish();
        if self.merged.missing.is_empty() && digest != job.inputs {
            return Err(refuse(format!(
                "the rows are of {} files, and not of the {} of the list in their order: something was damaged after it was written",
                digest.files, job.inputs.files
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_in_ranges() {
        assert_eq!(ranges([1, 4, 5, 6, 9].into_iter()), "1, 4-6, 9");
        assert_eq!(ranges(std::iter::empty()), "");
        assert!(ranges((0..100).step_by(2)).ends_with("38, …"));
    }
}
