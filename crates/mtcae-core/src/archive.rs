//! Members of tar archives, read where they lie in the archive: `clips-003.tar/a.mp4` is the
//! member `a.mp4` of `clips-003.tar`. Nothing is unpacked, and nothing is written.
//!
//! An archive is refused as a whole where its end is missing, a member is named by an absolute
//! path or by `..`, or a picture or video in it is no plain file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tar::{EntryType, PaxExtensions};

use crate::files::{open, same_file};

/// Most members of an archive: their names are kept in memory.
const MOST_MEMBERS: usize = 1 << 20;
/// Longest header that names a member, in bytes: it is read into memory.
const LONGEST_NAME: u64 = 1 << 16;
/// Archives whose members are known at once.
const MOST_KNOWN: usize = 64;

/// A plain file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: relative, parts separated by `/`.
    pub name: String,
    /// Where its content lies in the archive.
    range: Range<u64>,
}

/// What is in an archive.
#[derive(Debug)]
pub struct Contents {
    /// The plain files, in the order of the archive.
    pub members: Vec<Member>,
    places: HashMap<String, usize>,
    /// What is neither a plain file nor a folder, and what it is.
    odd: BTreeMap<String, &'static str>,
}

/// Whether a file is named as an archive whose members can be read.
pub fn is_archive(path: impl AsRef<Path>) -> bool {
    let ending = path.as_ref().extension();
    ending.is_some_and(|e| e.eq_ignore_ascii_case("tar"))
}

/// The archive and the member's name of a path that leads into an archive.
pub fn split(path: &Path) -> Option<(&Path, &Path)> {
    let mut above = path.ancestors().skip(1);
    let archive = above.find(|a| is_archive(a) && a.is_file())?;
    Some((archive, path.strip_prefix(archive).ok()?))
}

/// What is in an archive, which is read once as long as it does not change.
///
/// # Errors
/// What the system reports, and [`ErrorKind::InvalidData`] for what is no archive or none to be
/// trusted.
pub fn contents(path: &Path) -> Result<Arc<Contents>> {
    let mut file = open(path)?;
    known(path, &mut file)
}

type Stamp = (u64, Option<SystemTime>);

/// Contents by the archive's name, each with what the archive was like.
static KNOWN: Mutex<Vec<(PathBuf, Stamp, Arc<Contents>)>> = Mutex::new(Vec::new());

fn known(path: &Path, file: &mut File) -> Result<Arc<Contents>> {
    let metadata: Metadata = file.metadata()?;
    let stamp = (metadata.len(), metadata.modified().ok());
    let lock = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = |known: &[(PathBuf, Stamp, Arc<Contents>)]| {
        let mut same = known.iter().filter(|k| k.0 == path && k.1 == stamp);
        same.next().map(|k| k.2.clone())
    };
    if let Some(contents) = found(&lock()) {
        return Ok(contents);
    }
    let contents = Arc::new(Contents::read(file, metadata.len())?);
    let mut known = lock();
    known.retain(|k| k.0 != path);
    if known.len() >= MOST_KNOWN {
        known.remove(0);
    }
    known.push((path.to_owned(), stamp, contents.clone()));
    Ok(contents)
}

fn damaged(reason: String) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

/// What a header before a member says of it.
#[derive(Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Contents {
    fn read(file: &mut File, length: u64) -> Result<Self> {
        file.rewind()?;
        let mut archive = tar::Archive::new(file);
        let mut contents = Self {
            members: Vec::new(),
            places: HashMap::new(),
            odd: BTreeMap::new(),
        };
        let mut end = 0;
        let mut ahead = Ahead::default();
        // Raw: the library would read a name of any length into memory.
        for entry in archive.entries_with_seek()?.raw(true) {
            let mut entry = entry.map_err(|e| {
                damaged(format!("no tar archive, or damaged after byte {end}: {e}"))
            })?;
            let start = entry.raw_file_position();
            let size = entry.header().entry_size()?;
            let name = ahead.name.take();
            let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
            let shown = String::from_utf8_lossy(&name).into_owned();
            let stop = start.checked_add(size).filter(|stop| *stop <= length);
            end = stop.ok_or_else(|| {
                damaged(format!(
                    "cut off: {shown} has {size} bytes, of which {} are there",
                    length.saturating_sub(start)
                ))
            })?;
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::XHeader | EntryType::GNULongName) {
                if size > LONGEST_NAME {
                    let reason = format!("a name of {size} bytes before byte {start} is too long");
                    return Err(damaged(reason));
                }
                let mut text = Vec::new();
                entry.read_to_end(&mut text)?;
                ahead = match kind {
                    EntryType::XHeader => extensions(&text)?,
                    _ => Ahead {
                        name: Some(text.split(|b| *b == 0).next().unwrap_or(&[]).to_owned()),
                        size: None,
                    },
                };
                continue;
            }
            if ahead.size.take().is_some_and(|said| said != size) {
                let reason = format!(
                    "{shown} is too large for its header; members of 8 GB and more must be stored in GNU's format (tar --format=gnu)"
                );
                return Err(damaged(reason));
            }
            let odd = match kind {
                EntryType::Regular | EntryType::Continuous => None,
                EntryType::Directory | EntryType::XGlobalHeader | EntryType::GNULongLink => {
                    continue;
                }
                EntryType::Link | EntryType::Symlink => Some("a link"),
                EntryType::GNUSparse => Some("a file with holes"),
                _ => Some("a device, a pipe or of an unknown kind"),
            };
            let name = plain(&name)?;
            if contents.places.len() + contents.odd.len() >= MOST_MEMBERS {
                let reason =
                    format!("more than {MOST_MEMBERS} members; make several archives of it");
                return Err(damaged(reason));
            }
            if let Some(odd) = odd {
                contents.odd.insert(name, odd);
                continue;
            }
            let place = contents.members.len();
            if contents.places.insert(name.clone(), place).is_some() {
                return Err(damaged(format!("{name} is in it twice")));
            }
            let range = start..end;
            contents.members.push(Member { name, range });
        }
        // Two empty blocks end an archive; what was cut off between two members has none.
        if end.next_multiple_of(512) >= length {
            let reason = format!("cut off after byte {end}: the end of the archive is missing");
            return Err(damaged(reason));
        }
        Ok(contents)
    }

    /// What a member is, where it is no plain file.
    pub fn odd(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.odd.iter().map(|(name, what)| (&**name, *what))
    }

    fn range(&self, name: &Path) -> Result<Range<u64>> {
        let name = name.to_str().unwrap_or_default();
        #[cfg(windows)]
        let name = &name.replace('\\', "/");
        if let Some(place) = self.places.get(name) {
            return Ok(self.members[*place].range.clone());
        }
        Err(match self.odd.get(name) {
            Some(what) => damaged(format!("is {what}; only plain files in archives are read")),
            None => Error::new(ErrorKind::NotFound, "no member of this name in the archive"),
        })
    }
}

/// Name and size in a header of POSIX's extended format.
fn extensions(text: &[u8]) -> Result<Ahead> {
    let mut ahead = Ahead::default();
    for extension in PaxExtensions::new(text) {
        let extension = extension?;
        match extension.key_bytes() {
            b"path" => ahead.name = Some(extension.value_bytes().to_owned()),
            b"size" => ahead.size = extension.value().ok().and_then(|v| v.parse().ok()),
            // Files with holes, whose content is not what lies there.
            key if key.starts_with(b"GNU.sparse.") => {
                let reason = "has a file with holes; store it whole (tar without --sparse)";
                return Err(damaged(reason.to_owned()));
            }
            _ => {}
        }
    }
    Ok(ahead)
}

/// A member's name without `./`, where it leads nowhere else.
fn plain(name: &[u8]) -> Result<String> {
    let shown = String::from_utf8_lossy(name);
    let text = std::str::from_utf8(name)
        .map_err(|_| damaged(format!("the name {shown} of a member is not UTF-8")))?;
    let mut parts = Vec::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => {}
            _ => {
                let reason = format!(
                    "names {text}: absolute paths and `..` have no place in an archive of clips"
                );
                return Err(damaged(reason));
            }
        }
    }
    match parts.is_empty() || text.contains('\0') {
        true => Err(damaged(format!("has a member without a name ({text:?})"))),
        false => Ok(parts.join("/")),
    }
}

/// A regular file, or a member of an archive, to be read.
#[derive(Debug)]
pub struct Piece {
    file: File,
    /// Of a member, where it lies.
    range: Option<Range<u64>>,
    /// Of a member, what is read next, from its start.
    at: u64,
}

impl Piece {
    /// Opens what a path leads to, also into an archive.
    ///
    /// # Errors
    /// As [`files::open`](open), and what is wrong with the archive.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match Self::member(path)? {
            Some(piece) => Ok(piece),
            None => open(path).map(Self::of),
        }
    }

    /// Opens what a path leads to in an archive; `None` where it leads into none.
    ///
    /// # Errors
    /// What the system reports, and what is wrong with the archive.
    pub fn member(path: &Path) -> Result<Option<Self>> {
        let Some((archive, name)) = split(path) else {
            return Ok(None);
        };
        let mut file = open(archive)?;
        let range = known(archive, &mut file)?.range(name)?;
        Ok(Some(Self {
            file,
            range: Some(range),
            at: 0,
        }))
    }

    /// A whole file that is open.
    pub fn of(file: File) -> Self {
        Self {
            file,
            range: None,
            at: 0,
        }
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// What the system reports.
    pub fn length(&self) -> Result<u64> {
        match &self.range {
            Some(range) => Ok(range.end - range.start),
            None => Ok(self.file.metadata()?.len()),
        }
    }

    /// A second descriptor of the same open file. Both have one position in it.
    ///
    /// # Errors
    /// What the system reports.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            range: self.range.clone(),
            at: self.at,
        })
    }
}

impl Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(range) = &self.range else {
            return self.file.read(buffer);
        };
        let left = (range.end - range.start).saturating_sub(self.at);
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        self.file.seek(SeekFrom::Start(range.start + self.at))?;
        let read = self.file.read(&mut buffer[..wanted])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Piece {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let Some(range) = &self.range else {
            return self.file.seek(to);
        };
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => (range.end - range.start).checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// The file that a path's content is in: the archive where it leads into one.
pub fn holder(path: &Path) -> &Path {
    split(path).map_or(path, |(archive, _)| archive)
}

/// Whether two paths lead to the same content.
pub fn same_content(a: &Path, b: &Path) -> bool {
    match (split(a), split(b)) {
        (Some((a, x)), Some((b, y))) => x == y && same_file(a, b),
        (None, None) => same_file(a, b),
        _ => false,
    }
}
