//! Opening a file and what is known of it before decoding.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ffmpeg_next::ffi;

use crate::clip::{Clip, Warning};
use crate::error::{Error, Result};
use crate::ffi::budget::{Budget, frame_bytes, png};
use crate::ffi::decoder::{Decoder, codec_name};
use crate::ffi::input::{Input, OpenFault};
use crate::ffi::pixel_format::format_name;
use crate::ffi::{reason, seconds};
use crate::frames::{Frames, FullFrame};
use crate::geometry::{Geometry, Orientation};
use crate::options::{ClipOptions, OpenOptions, WindowOptions};
use crate::references::{Elsewhere, elsewhere};
use crate::scan::Scan;
use crate::windows::Windows;

/// What the headers say; nothing here was checked by decoding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VideoInfo {
    /// Container format, FFmpeg's short name(s).
    pub format: String,
    /// Codec, FFmpeg's name.
    pub codec: String,
    /// Pixel format, FFmpeg's name.
    pub pixel_format: String,
    /// Size, pixel aspect and orientation.
    pub geometry: Geometry,
    /// Number of the stream in the file.
    pub stream: u32,
    /// Number of video streams (cover pictures not counted).
    pub video_streams: u32,
    /// Frames the container announces; often missing, sometimes wrong:
    /// [`Video::frame_count`] counts.
    pub announced_frames: Option<u64>,
    /// Seconds the container announces.
    pub duration: Option<f64>,
    /// Average frames per second (25 when unknown); only a mean when the rate
    /// varies.
    pub fps: f64,
    /// The frame rate as a fraction.
    pub frame_rate: (u32, u32),
    /// Absolute time of the stream's start in seconds; all times handed out
    /// are relative to it.
    pub start: f64,
    /// What the headers already give away.
    pub warnings: Vec<Warning>,
}

/// An open video or image file.
pub struct Video {
    pub(crate) path: PathBuf,
    pub(crate) input: Input,
    pub(crate) options: OpenOptions,
    pub(crate) budget: Budget,
    pub(crate) info: VideoInfo,
    pub(crate) scan: Option<Scan>,
    /// Whether packets were read since opening.
    pub(crate) started: bool,
    pub(crate) watch: Option<Watch>,
}

/// Who is shown the frames that clips are made of.
pub(crate) type Watch = Arc<dyn Fn(FullFrame) + Send + Sync>;

impl std::fmt::Debug for Video {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Video")
            .field("path", &self.path)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Video {
    /// Opens a video or image file with the default options.
    ///
    /// The name is a plain path: `http:x` or `concat:a|b` is a file of that
    /// name. Only regular files are opened.
    ///
    /// # Errors
    /// Every fault of the file has its own [`Error`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// As [`Video::open`], with options.
    ///
    /// # Errors
    /// As [`Video::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let (file, budget) = open(&path, options)?;
        let input = Input::open(file, budget).map_err(|fault| open_error(&path, fault))?;
        let info = inspect(&path, &input, options, budget)?;
        let mut options = options.clone();
        if options.threads == 0 {
            options.threads = rayon::current_num_threads();
        }
        Ok(Self {
            path,
            input,
            options,
            budget,
            info,
            scan: None,
            started: false,
            watch: None,
        })
    }

    /// Shows `watch` each frame that clips and windows are made of at full size,
    /// upright, as they come from the decoder: several at a time on rayon's threads, so
    /// that what it waits for must not wait for these. A frame that
    /// windows share is shown once; all are shown again where a clip has to be sampled
    /// anew because frames did not decode, so that those of its
    /// [`indices`](Clip::indices) are what counts, each as it was shown last.
    #[must_use]
    pub fn watched_by(mut self, watch: impl Fn(FullFrame) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    /// What the headers say.
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frames to be shown, counted in the packets (one pass over the file,
    /// done once; nothing is decoded). Packets before an edit list's start are
    /// not counted.
    ///
    /// # Errors
    /// [`Error::NoFrames`] when there is none, [`Error::Encrypted`].
    pub fn frame_count(&mut self) -> Result<u64> {
        Ok(self.scan()?.total())
    }

    /// Decodes, samples and resizes one clip; see [`ClipOptions`].
    ///
    /// The frames are counted first (see [`Video::frame_count`]); then only
    /// what the sampled frames need is decoded, and only they are converted.
    ///
    /// # Errors
    /// [`Error`]; damage that leaves frames is a warning of the clip.
    pub fn clip(&mut self, options: &ClipOptions) -> Result<Clip> {
        crate::decode::clip(self, options)
    }

    /// As [`Video::clip`], one clip per group of a multi-clip sampling.
    ///
    /// # Errors
    /// As [`Video::clip`].
    pub fn clips(&mut self, options: &ClipOptions) -> Result<Vec<Clip>> {
        Ok(options.views(self.clip(options)?))
    }

    /// Clips of a sliding window, in order, in memory that grows with the
    /// window and not with the video.
    ///
    /// Window `k` covers the frames of time `[k·stride, k·stride + length)`
    /// and has the frames that [`Video::clip`] with these `start` and `end`
    /// would give. The window that reaches the end of the video is the last
    /// and may be shorter; windows without a frame (in a gap) are left out.
    ///
    /// # Errors
    /// [`Error::Option`] for a length or stride that is not above 0.
    pub fn windows(self, options: &WindowOptions) -> Result<Windows> {
        Windows::new(self, options)
    }

    /// Every frame, upright, at full size, decoded one at a time.
    ///
    /// # Errors
    /// When the decoder does not open.
    pub fn frames(self) -> Result<Frames> {
        Frames::new(self)
    }

    /// Threads as asked for, 0 resolved.
    pub(crate) fn threads(&self) -> usize {
        self.options.threads
    }

    pub(crate) fn decoder(&self) -> Result<Decoder> {
        match Decoder::open(&self.input, self.threads(), self.budget) {
            Ok(Some(d)) => Ok(d),
            Ok(None) => Err(Error::NoDecoder {
                path: self.path.clone(),
                codec: self.info.codec.clone(),
            }),
            Err(code) => Err(self.fault("opening the decoder", code)),
        }
    }

    pub(crate) fn fault(&self, call: &'static str, code: i32) -> Error {
        Error::Ffmpeg {
            path: self.path.clone(),
            call,
            reason: reason(code),
        }
    }

    /// Makes the next packet read the first: the open file is opened anew by
    /// the demuxer, the one way that works for every container.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        if self.started {
            let mut file = self.input.file().map_err(|source| Error::Open {
                path: self.path.clone(),
                source,
            })?;
            file.rewind().map_err(|source| Error::Open {
                path: self.path.clone(),
                source,
            })?;
            self.input =
                Input::open(file, self.budget).map_err(|fault| open_error(&self.path, fault))?;
            self.started = false;
        }
        Ok(())
    }

    /// Seconds from the stream's start of a time stamp.
    pub(crate) fn time_of(&self, pts: i64) -> f64 {
        let origin = self.input.start_time().unwrap_or(0);
        seconds(pts.saturating_sub(origin), self.input.time_base())
    }
}

/// Opens a file that has its pictures in it, and reckons what these may take.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<(File, Budget)> {
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

pub(crate) fn open_error(path: &Path, fault: OpenFault) -> Error {
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
                "its bytes are of no known container, or the headers are damaged or missing".into()
            } else if code == ffi::AVERROR_EOF {
                "the file ends within its headers".into()
            } else {
                reason(code)
            };
            Error::Unreadable { path, reason: text }
        }
    }
}

/// Codec tag of encrypted MP4 sample entries.
const ENCV: u32 = u32::from_le_bytes(*b"encv");

fn inspect(path: &Path, input: &Input, options: &OpenOptions, budget: Budget) -> Result<VideoInfo> {
    let p = input.parameters();
    if p.codec_tag == ENCV {
        return Err(Error::Encrypted {
            path: path.to_path_buf(),
        });
    }
    let (width, height) = (p.width.max(0) as u32, p.height.max(0) as u32);
    let pixels = u64::from(width) * u64::from(height);
    if pixels > options.max_pixels {
        return Err(Error::TooLarge {
            path: path.to_path_buf(),
            width,
            height,
            limit: options.max_pixels,
        });
    }
    let bytes = frame_bytes(p.codec_id, p.format, pixels);
    if bytes > budget.bytes() {
        return Err(Error::TooMuchMemory {
            path: path.to_path_buf(),
            width,
            height,
            bytes,
            limit: budget.bytes(),
        });
    }
    let mut warnings = Vec::new();
    let orientation = match input.orientation() {
        Ok(o) => o.unwrap_or_default(),
        Err(()) => {
            warnings.push(Warning::OddRotation);
            Orientation::default()
        }
    };
    if input.video_streams() > 1 {
        warnings.push(Warning::SeveralStreams {
            chosen: input.stream_index(),
            count: input.video_streams(),
        });
    }
    let (num, den) = input.frame_rate().unwrap_or((25, 1));
    Ok(VideoInfo {
        format: input.format(),
        codec: codec_name(p),
        pixel_format: format_name(p.format),
        geometry: Geometry::new(width, height, input.sample_aspect(), orientation),
        stream: input.stream_index(),
        video_streams: input.video_streams(),
        announced_frames: input.frames(),
        duration: input.duration(),
        fps: f64::from(num) / f64::from(den),
        frame_rate: (num as u32, den as u32),
        start: seconds(input.start_time().unwrap_or(0), input.time_base()),
        warnings,
    })
}
