//! Any number of processes, on machines that share a folder, take a few files at a time.
//!
//! ```text
//! FOLDER/job.json          what is done to what, and how many files a part has
//! FOLDER/work/0000012.0    the lease of part 12: who works on it
//! FOLDER/parts/0000012.jsonl   its rows, and a last line that says they are all
//! ```
//!
//! **A lease** is a file that one process alone can make, since it must not be there. Who has
//! it changes it every quarter of its time of expiry, and who wants it watches: a lease that
//! did not change for that time, by the watcher's own clock, is expired. No time is compared
//! with that of another machine, so that their clocks may differ.
//!
//! **An expired lease** is not removed but followed by the next: `0000012.1` after `0000012.0`,
//! which again one process alone can make. A lease that was removed and made anew under the
//! same name could be taken from its new owner by who still means the old one.
//!
//! **Rows** are written under a name of the process's own and become the part by a second name
//! that must not be there yet. Whoever was thought dead and comes back finds that name taken,
//! and what it would have written was the same.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mtcae_core::files::{At, FileError, Temporary, read, sha256_of};
use mtcae_core::in_order;
use serde::{Deserialize, Serialize};

use crate::disk::{draft, publish, random_id};
use crate::{Difference, Error, Job, Row, Task};

/// The name of what describes the job in the folder.
pub const JOB: &str = "job.json";
const FORMAT: &str = "mtcae-job";
/// What `format` says in the last line of a part.
const PART: &str = "mtcae-part";

/// Longest description of a job, and longest lease, that is read.
const LONGEST_JOB: u64 = 1 << 24;
const LONGEST_LEASE: u64 = 1 << 12;
/// How often a part is begun before it is left alone.
const MOST_BEGUN: usize = 20;

#[derive(Serialize, Deserialize)]
struct Described {
    format: String,
    version: u32,
    files_per_part: usize,
    job: Job,
}

/// A folder of leases and parts.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    /// What is done to what.
    pub job: Job,
    digest: String,
    per_part: usize,
}

/// The last line of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    format: String,
    version: u32,
    part: usize,
    job: String,
    pub arithmetic: String,
    pub rows: usize,
    pub failed: usize,
    sha256: String,
}

impl Folder {
    /// Reads what is done in a folder.
    ///
    /// # Errors
    /// Names the file, and what in it is none of a job.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join(JOB);
        let text = read(&path, LONGEST_JOB).at(&path)?;
        let fault = |reason: String| FileError::new(&path, reason);
        let described: Described = serde_json::from_slice(&text)
            .map_err(|e| fault(format!("not the description of a job: {e}")))?;
        if described.format != FORMAT || described.version != 1 || described.files_per_part == 0 {
            let reason = "not the description of a job, or of a later version";
            return Err(fault(reason.to_owned()).into());
        }
        Ok(Self {
            root: root.to_owned(),
            digest: described.job.digest().at(&path)?,
            job: described.job,
            per_part: described.files_per_part,
        })
    }

    /// Begins a job in a folder, which is made if need be, or joins it. A part has so many
    /// `files`, where that is asked for.
    ///
    /// # Errors
    /// [`Error::OtherJob`] where another is done in it.
    pub fn join(root: &Path, job: &Job, files: Option<usize>) -> Result<Self, Error> {
        for folder in [root.to_owned(), root.join("parts"), root.join("work")] {
            std::fs::create_dir_all(&folder).at(&folder)?;
        }
        let path = root.join(JOB);
        if path.symlink_metadata().is_err() {
            let described = Described {
                format: FORMAT.to_owned(),
                version: 1,
                files_per_part: files.unwrap_or_else(|| (job.inputs.files / 10_000).max(16)),
                job: job.clone(),
            };
            let mut text = serde_json::to_vec_pretty(&described).at(&path)?;
            text.push(b'\n');
            let own = root
                .join("work")
                .join(format!("job.{}", random_id().at(&path)?));
            let temporary = draft(own, &text).at(&path)?;
            publish(&temporary, &path).at(&path)?;
        }
        let folder = Self::read(root)?;
        let advice = "a folder of leases is of one job; give another --lease";
        job.same(&folder.job, &path, advice)?;
        match files {
            Some(files) if files != folder.per_part => Err(Difference {
                path,
                field: "files_per_part".to_owned(),
                there: folder.per_part.to_string(),
                here: files.to_string(),
                place: "here".to_owned(),
                advice,
            }
            .into()),
            _ => Ok(folder),
        }
    }

    /// How many parts the job has.
    pub fn parts(&self) -> usize {
        self.job.inputs.files.div_ceil(self.per_part)
    }

    /// The places in the list of a part's files.
    pub fn places(&self, part: usize) -> Range<usize> {
        let start = part * self.per_part;
        start..(start + self.per_part).min(self.job.inputs.files)
    }

    /// Where the rows of a part are when it is done.
    pub fn path(&self, part: usize) -> PathBuf {
        self.root.join("parts").join(format!("{part:07}.jsonl"))
    }

    fn is_done(&self, part: usize) -> bool {
        self.path(part).symlink_metadata().is_ok()
    }

    fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    fn lease_path(&self, part: usize, term: usize) -> PathBuf {
        self.work().join(format!("{part:07}.{term}"))
    }

    /// The last lease of a part, and what it says; `None` where there is none.
    fn last_lease(&self, part: usize) -> Result<Option<(usize, Vec<u8>)>, Error> {
        let mut last = None;
        for term in 0.. {
            let path = self.lease_path(part, term);
            match read(&path, LONGEST_LEASE) {
                Ok(text) => last = Some((term, text)),
                Err(e) if e.kind() == ErrorKind::NotFound => break,
                // Removed by another machine while it was read.
                Err(_) if path.symlink_metadata().is_err() => break,
                Err(e) => return Ok(Err(e).at(path)?),
            }
        }
        Ok(last)
    }

    /// Who works on a part, by its last lease.
    pub fn owner(&self, part: usize) -> Option<String> {
        let (_, text) = self.last_lease(part).ok()??;
        let said: Said = serde_json::from_slice(&text).ok()?;
        Some(format!("{}, process {}", said.host, said.pid))
    }

    /// The bytes of a part that is done: its rows, and what is said of them.
    pub(crate) fn rows(&self, part: usize) -> Result<Option<(Vec<u8>, End)>, Error> {
        let path = self.path(part);
        let mut text = match read(&path, u64::MAX >> 1) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Ok(Err(e).at(path)?),
        };
        let fault = |reason: &str| Error::Rows {
            path: path.clone(),
            reason: format!(
                "{reason}: it was changed or damaged after it was written; remove it, and the next worker makes it again"
            ),
        };
        let body = text.strip_suffix(b"\n");
        let body = body.ok_or_else(|| fault("its last line breaks off"))?;
        let start = body
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let end: End = serde_json::from_slice(&body[start..])
            .map_err(|_| fault("its last line does not say that it is all"))?;
        if end.format != PART || end.version != 1 || end.part != part {
            return Err(fault("its last line is of another part"));
        }
        if end.job != self.digest {
            return Err(fault("it is of another job"));
        }
        text.truncate(start);
        if end.rows != self.places(part).len() || end.sha256 != sha256_of(&text) {
            return Err(fault("its rows are not those that its last line is of"));
        }
        Ok(Some((text, end)))
    }

    fn finish(&self, part: usize, rows: &[Row], id: &str, arithmetic: &str) -> std::io::Result<()> {
        let mut text = Vec::new();
        for row in rows {
            text.extend_from_slice(&row.line);
            text.push(b'\n');
        }
        let end = End {
            format: PART.to_owned(),
            version: 1,
            part,
            job: self.digest.clone(),
            arithmetic: arithmetic.to_owned(),
            rows: rows.len(),
            failed: rows.iter().filter(|row| row.error.is_some()).count(),
            sha256: sha256_of(&text),
        };
        serde_json::to_writer(&mut text, &end)?;
        text.push(b'\n');
        let temporary = draft(self.work().join(format!("{part:07}.{id}.rows")), &text)?;
        match publish(&temporary, &self.path(part)) {
            // Who took the part over has cleaned up.
            Err(e) if e.kind() == ErrorKind::NotFound && !temporary.path().exists() => Ok(()),
            result => result.map(drop),
        }
    }

    /// Removes the leases of a part that is done, the last one first, so that there is never
    /// one without those before it.
    fn clear(&self, part: usize, last: usize) {
        for term in (0..=last).rev() {
            drop(std::fs::remove_file(self.lease_path(part, term)));
        }
    }

    /// Removes what killed processes left of parts that are done.
    fn sweep(&self) {
        for entry in std::fs::read_dir(self.work())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let part = name.to_str().and_then(|name| name.split_once('.'));
            let part = part.and_then(|(part, _)| part.parse().ok());
            if part.is_some_and(|part| self.is_done(part)) {
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }

    /// Removes rows that others began to write of a part that was taken over.
    fn clear_rows(&self, part: usize) {
        let start = format!("{part:07}.");
        for entry in std::fs::read_dir(self.work())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&start) && name.ends_with(".rows") {
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }
}

/// What a lease says. Its length does not change.
#[derive(Serialize, Deserialize)]
struct Said {
    host: String,
    pid: u32,
    id: String,
    /// Seconds that it is believed without a change.
    expiry: f64,
    /// How often it was renewed.
    renewed: String,
}

/// A lease that this process has.
struct Lease {
    part: usize,
    term: usize,
    file: Temporary,
}

/// A process that takes leases.
struct Worker<'a> {
    folder: &'a Folder,
    id: String,
    host: String,
    expiry: Duration,
    /// The last lease of parts that others work on, and since when it has not changed.
    watched: HashMap<usize, (usize, Vec<u8>, Instant)>,
}

impl Worker<'_> {
    fn said(&self, renewed: u64) -> Vec<u8> {
        let said = Said {
            host: self.host.clone(),
            pid: std::process::id(),
            id: self.id.clone(),
            expiry: self.expiry.as_secs_f64(),
            renewed: format!("{renewed:012}"),
        };
        let mut text = serde_json::to_vec(&said).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Takes a part's lease, where nobody has it or it is expired.
    fn take(&mut self, part: usize, task: Task<'_>) -> Result<Option<Lease>, Error> {
        let term = match self.folder.last_lease(part)? {
            None => 0,
            Some((term, text)) => {
                let expiry = serde_json::from_slice::<Said>(&text)
                    .ok()
                    .and_then(|said| Duration::try_from_secs_f64(said.expiry).ok())
                    .unwrap_or(self.expiry);
                let now = Instant::now();
                match self.watched.get(&part) {
                    Some((t, before, since)) if *t == term && *before == text => {
                        if now.duration_since(*since) < expiry {
                            return Ok(None);
                        }
                    }
                    _ => {
                        self.watched.insert(part, (term, text, now));
                        return Ok(None);
                    }
                }
                term + 1
            }
        };
        if term >= MOST_BEGUN {
            let places = self.folder.places(part);
            let name = |place: usize| task.names.get(place).cloned().unwrap_or_default();
            return Err(Error::Fatal {
                path: self.folder.root.clone(),
                part,
                first: name(places.start),
                last: name(places.end.saturating_sub(1)),
                times: term,
            });
        }
        let path = self.folder.lease_path(part, term);
        let (temporary, mut file) = match Temporary::create(&path) {
            Ok(made) => made,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(e) => return Ok(Err(e).at(path)?),
        };
        file.write_all(&self.said(0)).at(&path)?;
        drop(file);
        self.watched.remove(&part);
        let lease = Lease {
            part,
            term,
            file: temporary,
        };
        if self.folder.is_done(part) {
            // Somebody was faster, and has removed the lease before it was looked for.
            self.folder.clear(part, lease.term);
            return Ok(None);
        }
        if term > 0 {
            self.folder.clear_rows(part);
        }
        Ok(Some(lease))
    }

    /// Shows that this process is alive; whether the lease is still its own.
    fn renew(&self, path: &Path, next: &Path, times: u64) -> bool {
        if next.symlink_metadata().is_ok() {
            return false;
        }
        // Opened anew each time, so that other machines see it at once. What cannot be
        // written now may be the next time.
        match File::options().write(true).open(path) {
            Ok(mut file) => {
                drop(file.write_all(&self.said(times)));
                true
            }
            Err(e) => e.kind() != ErrorKind::NotFound,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Parts that this process did.
    pub parts: usize,
    /// Files of these.
    pub rows: usize,
    /// Rows of these that say why nothing is said.
    pub failed: usize,
    /// Of these, parts whose lease another let expire.
    pub taken_over: usize,
}

/// Works on parts until all are done, by whomever: `make` gives the row of the file at a place
/// of the list, and `progress` is told how many parts are done and how many files are done here.
/// A lease that did not change for `expiry` is taken from who has it.
///
/// # Errors
/// When the folder cannot be read or written, as where its disk is full: parts that are done
/// stay, the lease is given back. [`Error::Fatal`] after all other parts are done.
pub fn run(
    task: Task<'_>,
    folder: &Folder,
    expiry: Duration,
    make: impl Fn(usize) -> Row + Sync,
    mut progress: impl FnMut(usize, usize),
) -> Result<Done, Error> {
    let id = random_id().at(&folder.root)?;
    let mut worker = Worker {
        folder,
        host: host(),
        expiry,
        watched: HashMap::new(),
        id: id.clone(),
    };
    let all = folder.parts();
    // Each begins somewhere else, so that they do not all want the same.
    let first = u64::from_str_radix(&id, 16).map_or(0, |n| n % all.max(1) as u64) as usize;
    let mut left: Vec<usize> = (first..all).chain(0..first).collect();
    let mut fatal = None;
    let mut done = Done::default();
    // By whomever.
    let mut finished = 0;
    while !left.is_empty() {
        let (mut still, mut worked) = (Vec::new(), false);
        for part in left {
            if folder.is_done(part) {
                finished += 1;
                continue;
            }
            let lease = match worker.take(part, task) {
                Ok(Some(lease)) => lease,
                Ok(None) => {
                    still.push(part);
                    continue;
                }
                Err(fault @ Error::Fatal { .. }) => {
                    fatal = fatal.or(Some(fault));
                    continue;
                }
                Err(other) => return Err(other),
            };
            progress(finished, done.rows);
            let rows = worker.hold(&lease, |lost| {
                rows_of(task, folder.places(part), &make, lost)
            });
            let Some(rows) = rows else {
                still.push(part);
                continue;
            };
            if let Err(e) = folder.finish(part, &rows, &id, task.arithmetic) {
                return Ok(Err(e).at(folder.path(part))?);
            }
            if !folder.is_done(part) {
                still.push(part);
                continue;
            }
            done.taken_over += usize::from(lease.term > 0);
            let last = lease.term;
            drop(lease);
            folder.clear(part, last);
            worked = true;
            finished += 1;
            done.parts += 1;
            done.rows += rows.len();
            done.failed += rows.iter().filter(|row| row.error.is_some()).count();
        }
        progress(finished, done.rows);
        left = still;
        if !worked && !left.is_empty() {
            std::thread::sleep((expiry / 4).min(Duration::from_secs(1)));
        }
    }
    folder.sweep();
    match fatal {
        None => Ok(done),
        Some(fault) => Err(fault),
    }
}

/// The rows of some files, unless the lease is `lost` meanwhile.
fn rows_of(
    task: Task<'_>,
    places: Range<usize>,
    make: &(impl Fn(usize) -> Row + Sync),
    lost: &AtomicBool,
) -> Option<Vec<Row>> {
    let wanted = places.len();
    let mut rows = Vec::with_capacity(wanted);
    in_order(places, task.at_once, make, |_, row| {
        rows.push(row);
        match lost.load(Ordering::Relaxed) {
            false => ControlFlow::Continue(()),
            true => ControlFlow::Break(()),
        }
    });
    (rows.len() == wanted).then_some(rows)
}

/// Ends the renewal of a lease, also where the work dies.
struct Ending<'a>(&'a Mutex<bool>, &'a Condvar);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }
}

impl Worker<'_> {
    /// Does work while a lease is renewed. The work is told when another has taken the part
    /// over.
    fn hold<T>(&self, lease: &Lease, work: impl FnOnce(&AtomicBool) -> T) -> T {
        let lost = AtomicBool::new(false);
        let (over, told) = (Mutex::new(false), Condvar::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let next = self.folder.lease_path(lease.part, lease.term + 1);
                let mut times = 0;
                let mut ended = over.lock().unwrap_or_else(PoisonError::into_inner);
                while !*ended {
                    let waited = told.wait_timeout(ended, self.expiry / 4);
                    ended = waited.unwrap_or_else(PoisonError::into_inner).0;
                    if *ended {
                        break;
                    }
                    drop(ended);
                    times += 1;
                    if !self.renew(lease.file.path(), &next, times) {
                        lost.store(true, Ordering::Relaxed);
                        return;
                    }
                    ended = over.lock().unwrap_or_else(PoisonError::into_inner);
                }
            });
            let _ending = Ending(&over, &told);
            work(&lost)
        })
    }
}

fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = named.or_else(|| std::env::var("HOSTNAME").ok());
    let named = named.or_else(|| std::env::var("COMPUTERNAME").ok());
    named.map_or_else(
        || "unknown".to_owned(),
        |name| name.trim().chars().take(200).collect(),
    )
}
