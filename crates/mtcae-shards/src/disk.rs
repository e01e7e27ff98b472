//! Files on a folder that several machines share.

use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

use mtcae_core::files::Temporary;

use crate::job::hexadecimal;

/// Sixteen random characters, by which what is written here is told from what others write.
pub fn random_id() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| Error::other(e.to_string()))?;
    Ok(hexadecimal(&bytes))
}

/// `path` with more put behind its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Writes a file under a name of its own, to the disk.
pub fn draft(path: PathBuf, bytes: &[u8]) -> Result<Temporary> {
    let (temporary, mut file) = Temporary::create(path)?;
    file.write_all(bytes)?;
    // Some file systems say only now that there is no room.
    file.sync_all()?;
    Ok(temporary)
}

/// Writes a file in the place of one that may be there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = draft(with_suffix(path, &format!(".{}", random_id()?)), bytes)?;
    std::fs::rename(temporary.path(), path)
}

/// Gives a whole file its name, if none has it yet; whether it was this one.
pub fn publish(temporary: &Temporary, path: &Path) -> Result<bool> {
    match std::fs::hard_link(temporary.path(), path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(e),
        // Where the file system knows no second names. Of two that come here at once one
        // replaces the other, whole by whole.
        Err(_) if path.symlink_metadata().is_err() => {
            std::fs::rename(temporary.path(), path).map(|()| true)
        }
        Err(_) => Ok(false),
    }
}
