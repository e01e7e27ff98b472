//! Members of archives that GNU tar and others made, and archives that are not to be trusted.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use mtcae_core::archive::{Piece, contents, holder, is_archive, same_content, split};
use mtcae_core::files::sha256;
use tar::{Builder, EntryType, Header};

/// A folder with three files, one of them in a folder and with a long name.
fn clips() -> (tempfile::TempDir, Vec<(String, Vec<u8>)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let long = format!("{}/{}.mp4", "folder".repeat(9), "ü".repeat(45));
    let files: Vec<(String, Vec<u8>)> = [("a.mp4", 1000), ("a.json", 0), (&long, 512)]
        .iter()
        .map(|(name, size)| {
            (
                name.to_string(),
                (0..*size).map(|i| (i * 7 % 251) as u8).collect(),
            )
        })
        .collect();
    for (name, content) in &files {
        let path = folder.path().join("in").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }
    (folder, files)
}

fn tar(folder: &Path, name: &str, args: &[&str]) -> PathBuf {
    let archive = folder.join(name);
    let made = Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .args(args)
        .current_dir(folder.join("in"))
        .status()
        .expect("tar");
    assert!(made.success());
    archive
}

#[test]
fn members_are_what_gnu_tar_put_in_in_each_of_its_formats() {
    let (folder, files) = clips();
    for format in ["gnu", "pax", "ustar"] {
        let archive = tar(
            folder.path(),
            &format!("{format}.tar"),
            &[&format!("--format={format}"), "."],
        );
        let contents = contents(&archive).expect(format);
        let mut names: Vec<&str> = contents.members.iter().map(|m| &*m.name).collect();
        names.sort_unstable();
        let mut wanted: Vec<&str> = files.iter().map(|f| &*f.0).collect();
        wanted.sort_unstable();
        assert_eq!(names, wanted, "{format}");
        for (name, content) in &files {
            let path = archive.join(name);
            let mut piece = Piece::open(&path).expect(name);
            assert_eq!(piece.length().expect("known"), content.len() as u64);
            let mut read = Vec::new();
            piece.read_to_end(&mut read).expect("read");
            assert!(read == *content, "{name}");
            let outside = folder.path().join("in").join(name);
            assert_eq!(
                sha256(&path).expect("read"),
                sha256(&outside).expect("read")
            );
            assert_eq!(holder(&path), archive);
            assert!(same_content(&path, &path) && !same_content(&path, &outside));
        }
    }
}

#[test]
fn a_member_is_read_from_any_place_and_never_past_its_end() {
    let (folder, files) = clips();
    let archive = tar(folder.path(), "a.tar", &["."]);
    let content = &files[0].1;
    let mut piece = Piece::open(archive.join("a.mp4")).expect("there");
    for (to, at) in [
        (SeekFrom::Start(10), 10),
        (SeekFrom::Current(5), 115),
        (SeekFrom::End(-100), 900),
        (SeekFrom::End(-20), 980),
        (SeekFrom::Start(5000), 5000),
    ] {
        assert_eq!(piece.seek(to).expect("within"), at);
        let mut read = Vec::new();
        piece
            .by_ref()
            .take(100)
            .read_to_end(&mut read)
            .expect("read");
        let (start, end) = (at.min(1000) as usize, (at + 100).min(1000) as usize);
        assert!(read == content[start..end], "{to:?}");
    }
    assert!(piece.seek(SeekFrom::End(-1001)).is_err());
}

#[test]
fn an_archive_that_changes_is_read_anew() {
    let (folder, _) = clips();
    let archive = tar(folder.path(), "a.tar", &["a.json"]);
    assert_eq!(contents(&archive).expect("read").members.len(), 1);
    tar(folder.path(), "a.tar", &["."]);
    assert_eq!(contents(&archive).expect("read").members.len(), 3);
}

#[test]
fn only_names_of_archives_lead_into_them() {
    let (folder, _) = clips();
    let archive = tar(folder.path(), "a.TAR", &["."]);
    assert!(is_archive(&archive) && !is_archive("a.tar.gz") && !is_archive("tar"));
    let (found, name) = split(&archive.join("x/y.mp4"))
        .map(|(a, n)| (a.to_owned(), n.to_owned()))
        .expect("into it");
    assert_eq!((found, name), (archive.clone(), PathBuf::from("x/y.mp4")));
    assert!(split(&archive).is_none());
    fs::create_dir(folder.path().join("b.tar")).expect("made");
    assert!(split(&folder.path().join("b.tar/a.mp4")).is_none());
    let error = Piece::open(archive.join("none.mp4")).expect_err("none");
    assert!(
        error.to_string().contains("no member of this name"),
        "{error}"
    );
}

fn header(name: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

/// An archive with a good member before the others.
fn made(members: &[(Header, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    archive
        .append(&header(b"a.mp4", EntryType::Regular, 5), &b"aaaaa"[..])
        .expect("added");
    for (header, content) in members {
        archive.append(header, *content).expect("added");
    }
    archive.into_inner().expect("ended")
}

#[test]
fn archives_that_are_damaged_or_lead_elsewhere_are_refused_in_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = made(&[(header(b"b.mp4", EntryType::Regular, 700), &[7; 700])]);
    let regular = |name: &[u8]| made(&[(header(name, EntryType::Regular, 2), b"xx")]);
    let mut flipped = good.clone();
    flipped[1024 + 3] ^= 1;
    let long = made(&[(
        header(b"././@LongLink", EntryType::GNULongName, 1 << 17),
        &[b'a'; 1 << 17],
    )]);
    let claims = |size: u64| {
        let mut bytes = made(&[(header(b"b.mp4", EntryType::Regular, size), b"x")]);
        bytes.truncate(2048 + 512);
        bytes
    };
    let mut larger = Builder::new(Vec::new());
    larger
        .append_pax_extensions([("size", &b"9000000000"[..])])
        .expect("added");
    larger
        .append(&header(b"b.mp4", EntryType::Regular, 1), &b"x"[..])
        .expect("added");
    let larger = larger.into_inner().expect("ended");
    for (what, bytes, words) in [
        (
            "cut in a member",
            good[..1024 + 512 + 600].to_vec(),
            "cut off: b.mp4 has 700 bytes, of which 600 are there",
        ),
        (
            "cut between members",
            good[..1024].to_vec(),
            "cut off after byte 517: the end of the archive is missing",
        ),
        (
            "cut in a header",
            good[..1024 + 100].to_vec(),
            "damaged after byte 517",
        ),
        ("a flipped bit", flipped, "damaged after byte 517"),
        (
            "no archive",
            b"no archive at all".repeat(100),
            "no tar archive, or damaged after byte 0",
        ),
        (
            "absolute",
            regular(b"/etc/x.mp4"),
            "names /etc/x.mp4: absolute paths",
        ),
        (
            "above",
            regular(b"a/../../x.mp4"),
            "names a/../../x.mp4: absolute paths",
        ),
        ("no name", regular(b"./"), "a member without a name"),
        ("no text", regular(b"\xff.mp4"), "is not UTF-8"),
        ("twice", regular(b"./a.mp4"), "a.mp4 is in it twice"),
        ("an endless name", long, "a name of 131072 bytes"),
        (
            "a huge member",
            claims(1 << 40),
            "b.mp4 has 1099511627776 bytes",
        ),
        ("the hugest", claims(u64::MAX), "damaged after byte 517"),
        ("two sizes", larger, "--format=gnu"),
    ] {
        let path = folder.path().join(format!("{what}.tar"));
        fs::write(&path, &bytes).expect("written");
        let error = contents(&path).expect_err(what).to_string();
        assert!(
            error.contains(words) && !error.contains('\n'),
            "{what}: {error}"
        );
        assert!(Piece::open(path.join("a.mp4")).is_err(), "{what}");
    }
    let path = folder.path().join("good.tar");
    fs::write(&path, &good).expect("written");
    assert_eq!(contents(&path).expect("good").members.len(), 2);
}

#[test]
fn links_and_devices_are_told_from_plain_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut link = header(b"b.mp4", EntryType::Symlink, 0);
    link.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
    link.set_cksum();
    let device = header(b"c.mp4", EntryType::Char, 0);
    let path = folder.path().join("a.tar");
    fs::write(&path, made(&[(link, b""), (device, b"")])).expect("written");
    let contents = contents(&path).expect("read");
    assert_eq!(contents.members.len(), 1);
    let odd: Vec<_> = contents.odd().collect();
    assert_eq!(odd[0], ("b.mp4", "a link"));
    assert_eq!(odd[1].0, "c.mp4");
    let error = Piece::open(path.join("b.mp4"))
        .expect_err("a link")
        .to_string();
    assert!(error.contains("is a link; only plain files"), "{error}");
}
