//! A video that is looked at while it comes, through a pipe or from a camera.

use std::fmt;
use std::io::Read;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mtcae_core::ParseError;

use crate::clip::Warning;
use crate::demuxer::{Demuxer, VideoInfo};
use crate::error::Result;
use crate::ffi::pixel_format::is_known;
use crate::frames::{FrameReader, FullFrame};
use crate::options::OpenOptions;

/// Pictures without a container, one after the other: `WIDTHxHEIGHT:FORMAT@FPS`, as in
/// `640x480:yuv420p@25`.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// FFmpeg's name: `rgb24`, `bgr24`, `gray`, `yuv420p`, `nv12`, …
    pub pixel_format: String,
    /// Pictures a second.
    pub fps: f64,
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            width,
            height,
            pixel_format,
            fps,
        } = self;
        write!(f, "{width}x{height}:{pixel_format}@{fps}")
    }
}

impl FromStr for Raw {
    type Err = ParseError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseError> {
        let known = "WIDTHxHEIGHT:FORMAT@FPS, as in 640x480:rgb24@25, in a pixel format of FFmpeg";
        let bad = || ParseError::new("description of raw pictures", text, known);
        let (size, rest) = text.split_once(':').ok_or_else(bad)?;
        let (width, height) = size.split_once('x').ok_or_else(bad)?;
        let (pixel_format, fps) = rest.split_once('@').ok_or_else(bad)?;
        let side = |text: &str| text.parse().ok().filter(|&n: &u32| n > 0 && n <= 1 << 16);
        let fps = fps.parse().ok().filter(|f: &f64| *f > 0.0 && *f <= 1e4);
        match (side(width), side(height), fps) {
            (Some(width), Some(height), Some(fps)) if is_known(pixel_format) => Ok(Self {
                width,
                height,
                pixel_format: pixel_format.to_owned(),
                fps,
            }),
            _ => Err(bad()),
        }
    }
}

/// A video that is read once, from its beginning to its end, while it comes.
pub struct Stream {
    demuxer: Demuxer,
    reader: FrameReader,
    /// Nanoseconds that were waited for the source.
    waited: Arc<AtomicU64>,
}

/// A source, and how long it was waited for.
struct Timed<R> {
    source: R,
    waited: Arc<AtomicU64>,
}

impl<R: Read> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let began = Instant::now();
        let read = self.source.read(buffer);
        let nanoseconds = began.elapsed().as_nanos().try_into().unwrap_or(u64::MAX);
        self.waited.fetch_add(nanoseconds, Ordering::Relaxed);
        read
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("name", &self.demuxer.path)
            .field("info", &self.demuxer.info)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Reads as much of a stream as tells what is in it: a container that can be read without
    /// going back (Matroska, WebM, MPEG-TS, Y4M, …), or `raw` pictures. Errors call it `name`.
    /// The decoder has one thread unless more are asked for: each is a frame of delay.
    ///
    /// # Errors
    /// When it is no video, or one that is refused as a file would be.
    pub fn open(
        stream: impl Read + Send + 'static,
        name: &str,
        raw: Option<&Raw>,
        options: &OpenOptions,
    ) -> Result<Self> {
        let waited = Arc::new(AtomicU64::new(0));
        let timed = Timed {
            source: stream,
            waited: waited.clone(),
        };
        let mut demuxer = Demuxer::open_stream(name, Box::new(timed), raw, options)?;
        Ok(Self {
            reader: FrameReader::new(&mut demuxer)?,
            demuxer,
            waited,
        })
    }

    /// How long was waited for the source so far.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// What its headers say.
    pub fn info(&self) -> &VideoInfo {
        &self.demuxer.info
    }

    /// The next frame that is shown at `time` or later, in seconds from the stream's start,
    /// upright and at full size. Those before are decoded and not converted. `None` where the
    /// stream ends. Waits for what is to come.
    ///
    /// # Errors
    /// When no frame decodes at all, or one cannot be converted.
    pub fn next_from(&mut self, time: f64) -> Result<Option<FullFrame>> {
        self.reader.next_from(&mut self.demuxer, time)
    }

    /// Takes what was dropped, damaged or assumed since it was asked last.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        self.reader.take_warnings()
    }
}
