//! Opening a file: it alone, and none whose pictures lie elsewhere or are too large.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::Path;

use mtcae_core::archive::Piece;

use crate::error::{Fault, Result};
use crate::ffi::budget::{Budget, png};
use crate::options::OpenOptions;
use crate::references::{Elsewhere, elsewhere};

/// Opens a file that has its pictures in it, and reckons what these may take.
pub fn open(path: &Path, options: &OpenOptions) -> Result<(Piece, Budget)> {
    let mut file = open_file(path)?;
    let fail = |source| Fault::Open { source }.of(path);
    match elsewhere(&mut file).map_err(fail)? {
        None => {}
        Some(Elsewhere::Place(place)) => return Err(Fault::Elsewhere { place }.of(path)),
        Some(Elsewhere::Hidden) => {
            let reason = "its header is compressed, so that it cannot be seen whether its pictures lie in another file".into();
            return Err(Fault::Unreadable { reason }.of(path));
        }
    }
    let budget = Budget::new(options, file.length().map_err(fail)?);
    let mut header = [0; 26];
    let read = file.read_exact(&mut header);
    file.rewind().map_err(fail)?;
    if let (Ok(()), Some((width, height, bytes))) = (read, png(&header))
        && bytes > budget.bytes()
    {
        return Err(Fault::TooMuchMemory {
            width,
            height,
            bytes,
            limit: budget.bytes(),
        }
        .of(path));
    }
    Ok((file, budget))
}

/// Opens the named file, or member of an archive, and nothing else: no FIFO that blocks, no
/// device.
fn open_file(path: &Path) -> Result<Piece> {
    let fail = |source| Fault::Open { source }.of(path);
    if let Some(piece) = Piece::member(path).map_err(fail)? {
        return match piece.length().map_err(fail)? {
            0 => Err(Fault::Empty.of(path)),
            _ => Ok(piece),
        };
    }
    let mut open = File::options();
    open.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A FIFO without a writer would block in open; no effect on files.
        open.custom_flags(libc::O_NONBLOCK);
    }
    let not_a_file = |kind| Fault::NotAFile { kind }.of(path);
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
        return Err(Fault::Empty.of(path));
    }
    Ok(Piece::of(file))
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
