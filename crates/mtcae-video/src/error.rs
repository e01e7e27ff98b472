//! What can go wrong: one variant a fault, each naming the file, the fault
//! and, where there is one, what would be right.

use std::io;
use std::path::PathBuf;

/// A file, and the fault of it or of a request on it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct Error {
    /// The named file.
    pub path: PathBuf,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// The fault of a file or of a request on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be opened or read: not there, no permission, I/O.
    #[error("cannot be opened: {source}")]
    Open {
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, FIFO, socket or device: only regular files are read,
    /// since anything else may block for ever or not be seekable.
    #[error("is {kind}, not a regular file; name a video or image file")]
    NotAFile {
        /// What it is: "a directory", "a FIFO", ….
        kind: &'static str,
    },
    /// A file of zero bytes.
    #[error("is empty (0 bytes)")]
    Empty,
    /// No allowed container recognises the bytes, or its headers are broken.
    #[error("is not a readable video or image: {reason}")]
    Unreadable {
        /// FFmpeg's or our finding.
        reason: String,
    },
    /// Bytes of a format that names other files or hosts (playlists, concat
    /// scripts, SDP) or that is not on the allow-list.
    #[error(
        "has a container format that is not allowed; only the named file is ever read, so playlists, concat scripts and stream descriptions are refused: give the media file itself"
    )]
    ForbiddenFormat,
    /// An mp4 or mov file whose pictures are said to lie in another file.
    #[error(
        "says that its pictures are stored elsewhere (`{place}`); only the named file is ever read: give the file that contains them"
    )]
    Elsewhere {
        /// Where the data reference points.
        place: String,
    },
    /// A container without a video stream.
    #[error("has no video stream ({found})")]
    NoVideo {
        /// What there is instead.
        found: String,
    },
    /// The installed FFmpeg has no decoder for the stream.
    #[error("no decoder for `{codec}` in the installed FFmpeg")]
    NoDecoder {
        /// Codec name.
        codec: String,
    },
    /// The video stream is encrypted (DRM, Common Encryption).
    #[error("the video stream is encrypted; give a decrypted copy")]
    Encrypted,
    /// Not one frame decodes.
    #[error("no frame can be decoded: {reason}")]
    NoFrames {
        /// What was tried.
        reason: String,
    },
    /// No frame lies in the asked interval.
    #[error(
        "no frame between {start:.3} s and {end:.3} s; the video's frames lie in 0 to {duration:.3} s"
    )]
    NoFramesBetween {
        /// Seconds from the stream's start.
        start: f64,
        /// Seconds, exclusive.
        end: f64,
        /// End of the video in seconds.
        duration: f64,
    },
    /// Larger than the limit in [`OpenOptions::max_pixels`](crate::OpenOptions).
    #[error(
        "frames of {width}x{height} pixels exceed the limit of {limit} pixels; store it smaller"
    )]
    TooLarge {
        /// Coded width.
        width: u32,
        /// Coded height.
        height: u32,
        /// The limit in pixels.
        limit: u64,
    },
    /// One frame would take more memory than
    /// [`OpenOptions::max_bytes`](crate::OpenOptions) gives a file of this size.
    #[error("a picture of {width}x{height} pixels takes about {} MB to decode, of which a file of its size may take {}; store it smaller", bytes.div_ceil(1_000_000), limit / 1_000_000)]
    TooMuchMemory {
        /// Coded width.
        width: u32,
        /// Coded height.
        height: u32,
        /// Bytes that decoding and converting a frame is reckoned to take.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A frame that the installed FFmpeg cannot turn into RGB.
    #[error("frame {index}: cannot be converted to RGB: {reason}")]
    Convert {
        /// Frame number in the stream.
        index: u64,
        /// Pixel format and FFmpeg's reason.
        reason: String,
    },
    /// A crop rectangle that has no pixel of the frame, or a size of zero.
    #[error("{reason}")]
    Resize {
        /// What is wrong and what would be right.
        reason: String,
    },
    /// An option outside its range.
    #[error("option `{option}` is {got}; it must be {want}")]
    Option {
        /// Field of the options struct.
        option: &'static str,
        /// Value given.
        got: String,
        /// Values allowed.
        want: &'static str,
    },
    /// More frames asked for at once than [`ClipOptions::max_frames`](crate::ClipOptions).
    #[error(
        "the clip would hold {frames} frames, the limit is {limit}; take windows, or raise ClipOptions::max_frames"
    )]
    TooManyFrames {
        /// Frames asked for.
        frames: u64,
        /// The limit.
        limit: u64,
    },
    /// A call into FFmpeg failed for another reason.
    #[error("{call}: {reason}")]
    Ffmpeg {
        /// What was being done.
        call: &'static str,
        /// FFmpeg's reason.
        reason: String,
    },
    /// A clip cannot be written.
    #[error("cannot be written: {reason}")]
    Write {
        /// The reason.
        reason: String,
    },
}

impl Fault {
    /// With the file in front.
    #[cfg(feature = "ffmpeg")]
    pub(crate) fn of(self, path: &std::path::Path) -> Error {
        let path = path.to_owned();
        Error { path, fault: self }
    }
}

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
