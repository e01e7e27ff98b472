//! Reading within bounds, and writing whole or not at all.

use std::fs;
use std::io::{Error, ErrorKind, Write};
use std::path::Path;

use mtcae_core::files::{Draft, open, read, read_to_string, same_file, write_atomically};

fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("listed");
    let mut names: Vec<String> = entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn what_is_written_is_there_whole_and_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.json");
    write_atomically(&path, |temporary| {
        assert!(!path.exists());
        fs::write(temporary, b"new")
    })
    .unwrap();
    assert_eq!(read(&path, 3).unwrap(), b"new");
    assert_eq!(listed(dir.path()), ["results.json"]);
    let plain = dir.path().join("plain");
    fs::write(&plain, b"").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions();
    assert_eq!(
        mode(&path),
        mode(&plain),
        "others may read it as any new file"
    );
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.json");
    fs::write(&path, b"old").unwrap();
    let failed = write_atomically(&path, |temporary| {
        fs::write(temporary, b"half")?;
        Err(Error::other("disk full"))
    });
    assert_eq!(failed.unwrap_err().to_string(), "disk full");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(listed(dir.path()), ["results.json"]);
    assert!(Draft::new(dir.path().join("nowhere/results.json")).is_err());
    assert!(Draft::new("/").is_err());
}

/// A killed process leaves its draft unlocked. One that is locked is somebody's.
#[test]
fn leftovers_of_the_killed_are_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let name = |n: &str| dir.path().join(n);
    fs::write(name(".state.abcdef.mtcae-part"), b"half").unwrap();
    fs::write(name("mine.mtcae-part"), b"a user's").unwrap();
    let held = fs::File::create(name(".other.abcdef.mtcae-part")).unwrap();
    held.lock().unwrap();
    write_atomically(name("state"), |temporary| fs::write(temporary, b"whole")).unwrap();
    assert_eq!(
        listed(dir.path()),
        [".other.abcdef.mtcae-part", "mine.mtcae-part", "state"]
    );
}

#[test]
fn long_and_odd_names_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("é".repeat(127));
    write_atomically(&long, |temporary| fs::write(temporary, b"x")).unwrap();
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.json"));
        write_atomically(&odd, |temporary| fs::write(temporary, b"x")).unwrap();
        assert_eq!(read(&odd, 9).unwrap(), b"x");
    }
}

#[test]
fn a_draft_is_written_through_its_own_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut draft = Draft::new(&path).unwrap();
    draft.file().write_all(b"text").unwrap();
    draft.commit().unwrap();
    assert_eq!(read_to_string(&path, 4).unwrap(), "text");
}

#[test]
fn bounds_are_kept_and_text_is_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, b"ab\xff").unwrap();
    let error = read(&path, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    assert!(error.to_string().contains("2 bytes"), "{error}");
    let error = read_to_string(&path, 3).unwrap_err().to_string();
    assert_eq!(error, "not UTF-8 text from byte 2 on");
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_folders_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [&pipe, Path::new("/dev/zero"), Path::new("/dev/null")] {
        let error = open(path).unwrap_err().to_string();
        assert_eq!(error, "not a regular file but a pipe, a socket or a device");
    }
    assert_eq!(
        open(dir.path()).unwrap_err().kind(),
        ErrorKind::IsADirectory
    );
    assert_eq!(open("/nowhere").unwrap_err().kind(), ErrorKind::NotFound);
}

#[cfg(unix)]
#[test]
fn one_file_under_two_names_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (
        dir.path().join("a"),
        dir.path().join("b"),
        dir.path().join("c"),
    );
    fs::write(&a, b"x").unwrap();
    fs::write(&c, b"x").unwrap();
    std::os::unix::fs::symlink(&a, &b).unwrap();
    assert!(same_file(&a, &b) && same_file(&a, dir.path().join("./a")));
    assert!(!same_file(&a, &c) && !same_file("/nowhere", "/nowhere"));
}
