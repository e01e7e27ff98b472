//! A custom I/O context over one opened file or a stream: what keeps FFmpeg from opening
//! anything by name.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ptr;

use ffmpeg_next::ffi;
use libc::{c_int, c_void};
use mtcae_core::archive::Piece;

const BUFFER: usize = 64 * 1024;

/// An `AVIOContext` that reads or writes one file, or reads one stream, and nothing else.
pub struct FileIo {
    context: *mut ffi::AVIOContext,
    // Boxed: FFmpeg keeps its address as `opaque`.
    state: Box<State>,
}

struct State {
    medium: Medium,
    fault: Option<std::io::Error>,
}

/// What is read or written.
enum Medium {
    /// To write.
    File(File),
    /// To read, with its size when it was opened.
    Piece(Piece, u64),
    /// From its beginning to its end, once.
    Stream(Box<dyn Read + Send>),
}

// SAFETY: the context and the state it points to are owned by this object
// alone and FFmpeg calls back only from within calls made through its owner.
unsafe impl Send for FileIo {}

impl FileIo {
    /// To write a file. `None` when memory runs out.
    pub fn writing(file: File) -> Option<Self> {
        Self::over(Medium::File(file), true)
    }

    /// To read a file, or a member of an archive. `None` when memory runs out.
    pub fn reading(piece: Piece) -> Option<Self> {
        let size = piece.length().unwrap_or(0);
        Self::over(Medium::Piece(piece, size), false)
    }

    /// Of what can be read from its beginning to its end alone. `None` when memory runs out.
    pub fn of_stream(stream: Box<dyn Read + Send>) -> Option<Self> {
        Self::over(Medium::Stream(stream), false)
    }

    fn over(medium: Medium, writable: bool) -> Option<Self> {
        let seek = match medium {
            Medium::File(_) | Medium::Piece(..) => {
                Some(seek as unsafe extern "C" fn(*mut c_void, i64, c_int) -> i64)
            }
            Medium::Stream(_) => None,
        };
        let mut state = Box::new(State {
            medium,
            fault: None,
        });
        let opaque: *mut State = &raw mut *state;
        // SAFETY: av_malloc gives memory or null; avio_alloc_context takes the
        // buffer on success. `opaque` stays valid: the box lives as long as the
        // context and is not moved out of.
        unsafe {
            let buffer = ffi::av_malloc(BUFFER).cast::<u8>();
            if buffer.is_null() {
                return None;
            }
            let context = ffi::avio_alloc_context(
                buffer,
                BUFFER as c_int,
                c_int::from(writable),
                opaque.cast::<c_void>(),
                if writable { None } else { Some(read) },
                None,
                seek,
            );
            if context.is_null() {
                ffi::av_free(buffer.cast());
                return None;
            }
            if writable {
                // Set afterwards and through a transmute: the callback's buffer
                // became const in FFmpeg 7, which changes nothing in the ABI.
                #[allow(clippy::useless_transmute, reason = "of the same type before FFmpeg 7")]
                let callback = std::mem::transmute::<
                    unsafe extern "C" fn(*mut c_void, *mut u8, c_int) -> c_int,
                    _,
                >(write);
                (*context).write_packet = Some(callback);
            }
            Some(Self { context, state })
        }
    }

    /// The raw context, for `AVFormatContext::pb`.
    pub fn as_ptr(&self) -> *mut ffi::AVIOContext {
        self.context
    }

    /// The system's error behind a failed read or write, if there was one.
    pub fn take_fault(&mut self) -> Option<std::io::Error> {
        self.state.fault.take()
    }

    /// What is read; `None` of a stream.
    pub fn piece(&self) -> Option<&Piece> {
        match &self.state.medium {
            Medium::Piece(piece, _) => Some(piece),
            Medium::File(_) | Medium::Stream(_) => None,
        }
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) {
        // SAFETY: the context is valid until drop.
        unsafe { ffi::avio_flush(self.context) };
    }
}

impl Drop for FileIo {
    fn drop(&mut self) {
        // SAFETY: the context is ours; its buffer may have been replaced by
        // FFmpeg, so it is freed through the context, then the context.
        unsafe {
            ffi::av_freep((&raw mut (*self.context).buffer).cast());
            ffi::avio_context_free(&raw mut self.context);
        }
        self.context = ptr::null_mut();
    }
}

unsafe extern "C" fn read(opaque: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    // SAFETY: FFmpeg passes back the State given at creation, alive and not
    // otherwise borrowed during the call, and a buffer of `size` bytes.
    let (state, buffer) = unsafe {
        (
            &mut *opaque.cast::<State>(),
            std::slice::from_raw_parts_mut(buffer, size.max(0) as usize),
        )
    };
    loop {
        let read = match &mut state.medium {
            Medium::File(file) => file.read(buffer),
            Medium::Piece(piece, _) => piece.read(buffer),
            Medium::Stream(stream) => stream.read(buffer),
        };
        match read {
            Ok(0) => return ffi::AVERROR_EOF,
            Ok(n) => return n as c_int,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                state.fault = Some(e);
                return ffi::AVERROR(libc::EIO);
            }
        }
    }
}

unsafe extern "C" fn write(opaque: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    // SAFETY: as in `read`; the buffer is only read.
    let (state, buffer) = unsafe {
        (
            &mut *opaque.cast::<State>(),
            std::slice::from_raw_parts(buffer, size.max(0) as usize),
        )
    };
    let written = match &mut state.medium {
        Medium::File(file) => file.write_all(buffer),
        Medium::Piece(..) | Medium::Stream(_) => Err(std::io::ErrorKind::Unsupported.into()),
    };
    match written {
        Ok(()) => size,
        Err(e) => {
            state.fault = Some(e);
            ffi::AVERROR(libc::EIO)
        }
    }
}

unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in `read`.
    let state = unsafe { &mut *opaque.cast::<State>() };
    let to = match whence & !(ffi::AVSEEK_FORCE as c_int) {
        w if w == ffi::AVSEEK_SIZE as c_int => {
            return match &state.medium {
                Medium::File(file) => file.metadata().map_or(0, |m| m.len() as i64),
                Medium::Piece(piece, size) => piece.length().unwrap_or(*size) as i64,
                Medium::Stream(_) => i64::from(ffi::AVERROR(libc::ESPIPE)),
            };
        }
        libc::SEEK_SET if offset >= 0 => SeekFrom::Start(offset as u64),
        libc::SEEK_CUR => SeekFrom::Current(offset),
        libc::SEEK_END => SeekFrom::End(offset),
        _ => return i64::from(ffi::AVERROR(libc::EINVAL)),
    };
    let sought = match &mut state.medium {
        Medium::File(file) => file.seek(to),
        Medium::Piece(piece, _) => piece.seek(to),
        Medium::Stream(_) => return i64::from(ffi::AVERROR(libc::ESPIPE)),
    };
    match sought {
        Ok(at) => at as i64,
        Err(_) => i64::from(ffi::AVERROR(libc::EINVAL)),
    }
}
