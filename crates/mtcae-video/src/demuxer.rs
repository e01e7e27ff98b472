//! The packets of a file: what its headers say, and one packet after the other.

use std::io::{Read, Seek as _};
use std::path::{Path, PathBuf};

use crate::clip::Warning;
use crate::error::{Error, Fault, Result};
use crate::ffi::budget::{Budget, frame_bytes};
use crate::ffi::decoder::codec_name;
use crate::ffi::input::{Input, Packet};
use crate::ffi::pixel_format::format_name;
use crate::ffi::{reason, seconds};
use crate::geometry::{Geometry, Orientation};
use crate::open::open;
use crate::options::OpenOptions;
use crate::stream::Raw;

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
    /// [`Video::frame_count`](crate::Video::frame_count) counts.
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

/// How long a stream is taken to be where its length bounds what pictures may take.
const STREAM: u64 = 16 << 20;

/// An open file or stream, read packet by packet.
pub struct Demuxer {
    pub path: PathBuf,
    pub info: VideoInfo,
    /// As asked for, the number of threads resolved.
    pub options: OpenOptions,
    pub budget: Budget,
    pub input: Input,
    /// Whether packets were read since opening.
    started: bool,
}

impl Demuxer {
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let (file, budget) = open(path, options)?;
        let input = Input::open(file, budget).map_err(|fault| fault.of(path))?;
        let info = inspect(path, &input, options, budget)?;
        let mut options = options.clone();
        if options.threads == 0 {
            options.threads = rayon::current_num_threads();
        }
        Ok(Self {
            path: path.to_path_buf(),
            info,
            options,
            budget,
            input,
            started: false,
        })
    }

    /// Of a stream that is read once, called `name` in errors.
    pub fn open_stream(
        name: &str,
        stream: Box<dyn Read + Send>,
        raw: Option<&Raw>,
        options: &OpenOptions,
    ) -> Result<Self> {
        let path = PathBuf::from(name);
        let budget = Budget::new(options, STREAM);
        let input = Input::open_stream(stream, raw, budget).map_err(|fault| fault.of(&path))?;
        let info = inspect(&path, &input, options, budget)?;
        Ok(Self {
            path,
            info,
            options: OpenOptions {
                // A thread more is a frame more of delay.
                threads: options.threads.max(1),
                ..options.clone()
            },
            budget,
            input,
            started: false,
        })
    }

    /// The next packet as the container gives it; `Ok(None)` at the end.
    pub fn read(&mut self) -> Result<Option<Packet>, i32> {
        self.started = true;
        self.input.read()
    }

    /// The next packet; `Ok(None)` at the end, and with a warning where the container
    /// breaks off, `reached` seconds from the stream's start.
    pub fn next(&mut self, reached: f64, warnings: &mut Vec<Warning>) -> Result<Option<Packet>> {
        match self.read() {
            Ok(Some(packet)) if packet.is_encrypted() => Err(Fault::Encrypted.of(&self.path)),
            Ok(packet) => Ok(packet),
            Err(code) => {
                warnings.push(Warning::ReadError {
                    time: reached,
                    reason: reason(code),
                });
                Ok(None)
            }
        }
    }

    /// Goes to the last key frame at or before a time stamp. The caller checks where it
    /// arrived.
    pub fn seek(&mut self, timestamp: i64) -> Result<(), i32> {
        self.started = true;
        self.input.seek(timestamp)
    }

    /// Makes the next packet read the first: the open file is opened anew by
    /// the demuxer, the one way that works for every container.
    pub fn rewind(&mut self) -> Result<()> {
        if self.started {
            let fail = |source| Fault::Open { source }.of(&self.path);
            let mut file = self.input.file().map_err(fail)?;
            file.rewind().map_err(fail)?;
            self.input = Input::open(file, self.budget).map_err(|fault| fault.of(&self.path))?;
            self.started = false;
        }
        Ok(())
    }

    /// Seconds from the stream's start of a time stamp.
    pub fn time_of(&self, pts: i64) -> f64 {
        let origin = self.input.start_time().unwrap_or(0);
        seconds(pts.saturating_sub(origin), self.input.time_base())
    }

    /// The error of a video of which nothing decodes.
    pub fn no_frames(&self, warnings: &[Warning]) -> Error {
        let mut reason = warnings
            .iter()
            .find(|w| matches!(w, Warning::DecodeError { .. } | Warning::ReadError { .. }))
            .map_or_else(|| "the stream is empty".into(), ToString::to_string);
        if self.info.geometry.width == 0 {
            // The decoder refuses sizes over the limit before it tells them.
            let limit = self.budget.pixels(self.input.parameters().codec_id);
            reason +=
                &format!("; no size is known: it is damaged or over the limit of {limit} pixels");
        }
        Fault::NoFrames { reason }.of(&self.path)
    }
}

/// Codec tag of encrypted MP4 sample entries.
const ENCV: u32 = u32::from_le_bytes(*b"encv");

fn inspect(path: &Path, input: &Input, options: &OpenOptions, budget: Budget) -> Result<VideoInfo> {
    let p = input.parameters();
    if p.codec_tag == ENCV {
        return Err(Fault::Encrypted.of(path));
    }
    let (width, height) = (p.width.max(0) as u32, p.height.max(0) as u32);
    let pixels = u64::from(width) * u64::from(height);
    if pixels > options.max_pixels {
        return Err(Fault::TooLarge {
            width,
            height,
            limit: options.max_pixels,
        }
        .of(path));
    }
    let bytes = frame_bytes(p.codec_id, p.format, pixels);
    if bytes > budget.bytes() {
        return Err(Fault::TooMuchMemory {
            width,
            height,
            bytes,
            limit: budget.bytes(),
        }
        .of(path));
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
