//! Opening a file: it alone, and none whose pictures lie elsewhere or are too large.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::Path;

use ffmpeg_next::ffi;

use crate::error::{Error, Result};
use crate::ffi::budget::{Budget, png};
use crate::ffi::input::OpenFault;
use crate::ffi::reason;
use crate::options::OpenOptions;
use crate::references::{Elsewhere, elsewhere};

/// Opens a file that has its pictures in it, and reckons what these may take.
pub fn open(path: &Path, options: &OpenOptions) -> Result<(File, Budget)> {
    let mut file = open_file(path)?;
    let fail = |source| Error::Open {
        path: path.to_path_buf(),
        source,
    };
    let path_buf = || path.to_path_buf();
    match elsewhere(&mut file).map_err(fail)? {
        None => {}
        Some(Elsewhere::Place(place)) => {
            let path = path_buf();
            return Err(Error::Elsewhere { path, place });
        }
        Some(Elsewhere::Hidden) => {
            return Err(Error::Unreadable {
                path: path_buf(),
                reason: "its header is compressed, so that it cannot be seen whether its pictures lie in another file".into(),
            });
        }
    }
    let budget = Budget::new(options, file.metadata().map_err(fail)?.len());
    let mut header = [0; 26];
    let read = file.read_exact(&mut header);
    file.rewind().map_err(fail)?;
    if let (Ok(()), Some((width, height, bytes))) = (read, png(&header))
        && bytes > budget.bytes()
    {
        return Err(Error::TooMuchMemory {
            path: path.to_path_buf(),
            width,
            height,
            bytes,
            limit: budget.bytes(),
        });
    }
    Ok((file, budget))
}

/// Opens the named file and nothing else: no FIFO that blocks, no device.
fn open_file(path: &Path) -> Result<File> {
    let fail = |source| Error::Open {
        path: path.to_path_buf(),
        source,
    };
    let mut open = File::options();
    open.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A FIFO without a writer would block in open; no effect on files.
        open.custom_flags(libc::O_NONBLOCK);
    }
    let not_a_file = |kind| Error::NotAFile {
        path: path.to_path_buf(),
        kind,
    };
    let file = match open.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::IsADirectory || path.is_dir() => {
            return Err(not_a_file("a directory"));
        }
        // Sockets and some devices refuse to open.
        Err(e) => {
            return match std::fs::metadata(path) {
                Ok(m) if !m.is_file() => Err(not_a_file(kind_of(&m))),
                _ => Err(fail(e)),
            };
        }
    };
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(not_a_file(kind_of(&meta)));
    }
    if meta.len() == 0 {
        return Err(Error::Empty {
            path: path.to_path_buf(),
        });
    }
    Ok(file)
}

fn kind_of(meta: &std::fs::Metadata) -> &'static str {
    if meta.is_dir() {
        return "a directory";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let t = meta.file_type();
        if t.is_fifo() {
            return "a FIFO";
        }
        if t.is_socket() {
            return "a socket";
        }
        if t.is_char_device() || t.is_block_device() {
            return "a device";
        }
    }
    "a special file"
}

pub fn open_error(path: &Path, fault: OpenFault) -> Error {
    let path = path.to_path_buf();
    match fault {
        OpenFault::Forbidden => Error::ForbiddenFormat { path },
        OpenFault::NoVideo(found) => Error::NoVideo { path, found },
        OpenFault::Memory => Error::Unreadable {
            path,
            reason: "out of memory".into(),
        },
        OpenFault::Code(code) => {
            let text = if code == ffi::AVERROR_INVALIDDATA {
                "its bytes match no known container, or its headers are damaged or missing".into()
            } else if code == ffi::AVERROR_EOF {
                "the file ends within its headers".into()
            } else {
                reason(code)
            };
            Error::Unreadable { path, reason: text }
        }
    }
}
