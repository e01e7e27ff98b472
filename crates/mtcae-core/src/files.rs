//! Files: read within bounds, written whole or not at all.
//!
//! What is read must be a regular file, since a pipe or a device can block or never
//! end. What is written comes under a temporary name in the same folder and takes its
//! own name when it is complete, so that nobody ever sees half of it and a failure
//! leaves what was there before.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, Metadata, TryLockError};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tempfile::TempPath;

use crate::archive::Piece;

/// What is wrong with a file or folder, with its path in front.
#[derive(Debug)]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Error,
}

impl FileError {
    /// A fault in words.
    pub fn new(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        let (path, reason) = (path.as_ref().to_owned(), Error::other(reason.into()));
        Self { path, reason }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}

/// Says of a fault which file it is of.
pub trait At<T> {
    /// The same, with the file's path in front of a fault.
    ///
    /// # Errors
    /// Where there was a fault before.
    fn at(self, path: impl AsRef<Path>) -> std::result::Result<T, FileError>;
}

impl<T, E: Into<Error>> At<T> for std::result::Result<T, E> {
    fn at(self, path: impl AsRef<Path>) -> std::result::Result<T, FileError> {
        self.map_err(|reason| FileError {
            path: path.as_ref().to_owned(),
            reason: reason.into(),
        })
    }
}

/// Opens a regular file to read.
///
/// # Errors
/// What the system reports, and [`ErrorKind::InvalidInput`] for a pipe, a socket or a
/// device, which is not opened.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    // Before opening, which would wait for a pipe's other end.
    regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`], and [`ErrorKind::FileTooLarge`] for a longer one.
pub fn read(path: impl AsRef<Path>, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    let mut data = Vec::new();
    if length <= most {
        data.reserve_exact(length as usize);
        // It may grow while it is read.
        file.take(most.saturating_add(1)).read_to_end(&mut data)?;
    }
    if length > most || data.len() as u64 > most {
        let reason = format!("larger than the {most} bytes that such a file may have");
        return Err(Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(data)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`], and [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_to_string(path: impl AsRef<Path>, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::new(
            ErrorKind::InvalidData,
            format!("not UTF-8 text from byte {at} on"),
        )
    })
}

/// SHA-256 of the content of a regular file, or of a member of an archive, in hexadecimal.
///
/// # Errors
/// As [`Piece::open`].
pub fn sha256(path: impl AsRef<Path>) -> Result<String> {
    let mut file = Piece::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hexadecimal(hash))
}

/// SHA-256 of these bytes, in hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new().chain_update(bytes))
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn regular(metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    if metadata.is_dir() {
        return Err(Error::from(ErrorKind::IsADirectory));
    }
    let reason = "not a regular file but a pipe, a socket or a device";
    Err(Error::new(ErrorKind::InvalidInput, reason))
}

/// What a file is, whatever name leads to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] PathBuf);

impl FileId {
    /// That of the file that a name leads to; `None` where there is none.
    pub fn of(path: impl AsRef<Path>) -> Option<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let file = std::fs::metadata(path).ok()?;
            Some(Self((file.dev(), file.ino())))
        }
        #[cfg(not(unix))]
        path.as_ref().canonicalize().ok().map(Self)
    }
}

/// Whether two names lead to one file. Names of files that are not there do not.
pub fn same_file(a: impl AsRef<Path>, b: impl AsRef<Path>) -> bool {
    FileId::of(a).is_some_and(|a| Some(a) == FileId::of(b))
}

/// Lets `write` fill a temporary file beside `path`, flushes it to the disk and
/// renames it to `path`.
///
/// # Errors
/// What `write` or the system reports; `path` is as it was then.
pub fn write_atomically(
    path: impl AsRef<Path>,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let draft = Draft::new(path)?;
    write(draft.path())?;
    draft.commit()
}

/// As [`write_atomically`], a text and the end of its last line.
///
/// # Errors
/// What the system reports; `path` is as it was then.
pub fn write_text_atomically(path: impl AsRef<Path>, text: &str) -> Result<()> {
    write_atomically(path, |temporary| {
        std::fs::write(temporary, format!("{}\n", text.trim_end()))
    })
}

/// A file that is being written under a temporary name.
///
/// Dropped without [`commit`](Self::commit), it is removed. Where the process was
/// killed instead, the next draft in the same folder removes it: a draft is locked as
/// long as somebody writes it.
#[derive(Debug)]
pub struct Draft {
    target: PathBuf,
    /// Holds the lock.
    file: File,
    temporary: Option<TempPath>,
}

/// What the names of drafts end in; a dot, the target's name, another dot and six
/// random characters come before it.
const ENDING: &str = ".mtcae-part";

/// Files that this process writes now, under names that are not theirs.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

impl Draft {
    /// Begins a file that will be called `target`, in whose folder it lies.
    ///
    /// # Errors
    /// When the folder is not there or cannot be written into.
    pub fn new(target: impl AsRef<Path>) -> Result<Self> {
        let target = target.as_ref();
        let name = target.file_name().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "the name of a folder, not a file")
        })?;
        let folder = folder_of(target);
        remove_leftovers(folder);
        // A name may have 255 bytes on most systems; this leaves room for the rest.
        let shown: String = name.to_string_lossy().chars().take(50).collect();
        let prefix = format!(".{shown}.");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(ENDING);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What the umask leaves of this, as for any new file.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        loop {
            // Held while it is made, so that `remove_unfinished` misses none.
            let mut unfinished = lock(&UNFINISHED);
            let (file, temporary) = builder.tempfile_in(folder)?.into_parts();
            // Where the file system knows no locks, nobody takes it for a leftover.
            let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            if taken || is_removed(&file)? {
                continue; // by somebody who took it for one, before it was locked
            }
            unfinished.insert(temporary.to_path_buf());
            return Ok(Self {
                target: target.to_owned(),
                file,
                temporary: Some(temporary),
            });
        }
    }

    /// The temporary file, which is there and empty. It is to be filled in place:
    /// another file put under its name would be taken for a leftover.
    pub fn path(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(&self.target)
    }

    /// The temporary file, to read and write.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Flushes it to the disk and gives it its name, in the place of any file that has
    /// it.
    ///
    /// # Errors
    /// What the system reports; the file of that name is as it was then.
    pub fn commit(mut self) -> Result<()> {
        self.file.sync_all()?;
        if let Some(temporary) = self.temporary.take() {
            let path = temporary.to_path_buf();
            let renamed = temporary.persist(&self.target);
            lock(&UNFINISHED).remove(&path);
            renamed.map_err(|e| e.error)?;
        }
        // So that the name is on the disk as well; no file depends on it.
        #[cfg(unix)]
        if let Ok(folder) = File::open(folder_of(&self.target)) {
            drop(folder.sync_all());
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            lock(&UNFINISHED).remove(&*temporary);
        }
    }
}

/// A new file that is removed when this is dropped, and by [`remove_unfinished`] where the
/// program is told to stop. It is not locked, so that it serves on a file system shared with
/// other machines; what a killed process leaves stays.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// Makes a file, which must not be there, to read and write.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for a file that is there, and what the system reports.
    pub fn create(path: impl Into<PathBuf>) -> Result<(Self, File)> {
        let path = path.into();
        // Held while it is made, so that `remove_unfinished` misses none.
        let mut unfinished = lock(&UNFINISHED);
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        unfinished.insert(path.clone());
        Ok((Self(path), file))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut unfinished = lock(&UNFINISHED);
        if unfinished.remove(&self.0) {
            drop(std::fs::remove_file(&self.0));
        }
    }
}

/// Removes every file that this process has begun and not finished. For a program that
/// is told to stop, right before it ends: whoever begins or ends a file after this waits
/// for ever, so that none is left behind.
pub fn remove_unfinished() {
    let mut unfinished = lock(&UNFINISHED);
    for path in std::mem::take(&mut *unfinished) {
        drop(std::fs::remove_file(path));
    }
    std::mem::forget(unfinished);
}

/// Removes what killed processes left in a folder; once a process and folder, since
/// folders of results can be large.
fn remove_leftovers(folder: &Path) {
    static SEEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Ok(folder) = folder.canonicalize() else {
        return; // creating the draft will say why
    };
    if !lock(&SEEN).insert(folder.clone()) {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b".") && bytes.ends_with(ENDING.as_bytes()) {
            // Locked until it is gone, so that whoever makes one of this name now sees it.
            if let Ok(file) = open(entry.path())
                && file.try_lock().is_ok()
            {
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }
}

/// Whether nothing has this file's name any more.
fn is_removed(file: &File) -> Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Ok(file.metadata()?.nlink() == 0)
    }
    #[cfg(not(unix))]
    file.metadata().map(|_| false)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn lock(set: &Mutex<BTreeSet<PathBuf>>) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}
