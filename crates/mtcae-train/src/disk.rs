//! Room on a disk, and files read and written in places.

use mtcae_core::files::{At, FileError};
use std::fs::{File, TryLockError};
use std::path::Path;

use crate::Error;

/// A folder into which no other process writes a run meanwhile. The claim ends with
/// the process, however it ends.
pub struct Claim(#[allow(dead_code)] File); // Held for its lock.

impl Claim {
    /// Claims a folder, which is created if need be.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).at(folder)?;
        let file = File::create(folder.join(".lock")).at(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                Err(FileError::new(folder, "another process is writing a run here").into())
            }
            Err(TryLockError::Error(e)) => Ok(Err(e).at(folder)?),
        }
    }
}

/// Bytes that may be written below a folder.
pub fn free_space(folder: &Path) -> Result<u64, Error> {
    let stat = rustix::fs::statvfs(folder).at(folder)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Refuses a file that needs more than is free.
pub fn make_sure_of_room(path: &Path, need: u64, free: u64) -> Result<(), Error> {
    if need > free {
        let path = path.to_owned();
        return Err(Error::Full { path, need, free });
    }
    Ok(())
}

#[cfg(unix)]
pub fn read_at(file: &File, into: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

#[cfg(unix)]
pub fn write_at(file: &File, from: &[u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, from, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let path = Path::new("/data/features.cache");
        make_sure_of_room(path, 0, 0).expect("nothing to write");
        make_sure_of_room(path, 5 << 20, 5 << 20).expect("fits");
        let error = make_sure_of_room(path, (5 << 20) + 1, 5 << 20).expect_err("too big");
        assert_eq!(
            error.to_string(),
            "/data/features.cache: needs 6 MiB, but only 5 MiB are free"
        );
    }

    #[test]
    fn a_folder_has_one_writer_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let claim = Claim::of(folder.path()).expect("free");
        let error = Claim::of(folder.path()).err().expect("taken");
        assert!(error.to_string().contains("another process"), "{error}");
        drop(claim);
        Claim::of(folder.path()).expect("free again");
    }

    #[test]
    fn free_space_is_asked_of_the_folder_that_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(free_space(folder.path()).expect("known") > 0);
        let error = free_space(&folder.path().join("none")).expect_err("missing");
        assert!(error.to_string().contains("none"), "{error}");
    }
}
