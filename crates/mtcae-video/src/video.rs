//! An open video, and what can be had of it: clips, windows, frames.

use std::path::Path;
use std::sync::Arc;

use crate::choose::check;
use crate::clip::{Clip, Warning, WindowClip};
use crate::darkroom::Watch;
use crate::decode::{self, Roll};
use crate::demuxer::{Demuxer, VideoInfo};
use crate::error::{Fault, Result};
use crate::frames::{FrameReader, FullFrame};
use crate::options::{ClipOptions, OpenOptions, WindowOptions};
use crate::scan::Scan;
use crate::windows::Way;

/// An open video or image file.
pub struct Video {
    demuxer: Demuxer,
    scan: Option<Scan>,
    watch: Option<Watch>,
}

impl std::fmt::Debug for Video {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Video")
            .field("path", &self.demuxer.path)
            .field("info", &self.demuxer.info)
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
    /// Every fault of the file has its own [`Error`](crate::Error).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// As [`Video::open`], with options.
    ///
    /// # Errors
    /// As [`Video::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        Ok(Self {
            demuxer: Demuxer::open(path.as_ref(), options)?,
            scan: None,
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
        &self.demuxer.info
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.demuxer.path
    }

    /// Frames to be shown, counted in the packets (one pass over the file,
    /// done once; nothing is decoded). Packets before an edit list's start are
    /// not counted.
    ///
    /// # Errors
    /// [`Fault::NoFrames`](crate::Fault::NoFrames)(crate::Fault::NoFrames) when there is none, [`Fault::Encrypted`](crate::Fault::Encrypted)(crate::Fault::Encrypted).
    pub fn frame_count(&mut self) -> Result<u64> {
        Ok(scanned(&mut self.scan, &mut self.demuxer)?.total())
    }

    /// Decodes, samples and resizes one clip; see [`ClipOptions`].
    ///
    /// The frames are counted first (see [`Video::frame_count`]); then only
    /// what the sampled frames need is decoded, and only they are converted.
    /// A multi-clip sampling has its clips one after the other.
    ///
    /// # Errors
    /// [`Error`](crate::Error); damage that leaves frames is a warning of the clip. A
    /// resizing that shows a frame several times is a
    /// [`Fault::Option`](crate::Fault::Option).
    pub fn clip(&mut self, options: &ClipOptions) -> Result<Clip> {
        if options.resize.crops() > 1 {
            return Err(Fault::Option {
                option: "resize",
                got: options.resize.to_string(),
                want: "one that makes one view of a frame; `Video::clips` gives several",
            }
            .of(&self.demuxer.path));
        }
        let roll = self.roll(options)?;
        Ok(roll.room.clip(&roll.picks, roll.warnings))
    }

    /// As [`Video::clip`], one clip a view: for each clip of a multi-clip sampling, one a
    /// part of the frame ([`Geometry::parts`](crate::Geometry::parts)). Each frame is
    /// decoded once.
    ///
    /// # Errors
    /// [`Error`](crate::Error); damage that leaves frames is a warning of each clip.
    pub fn clips(&mut self, options: &ClipOptions) -> Result<Vec<Clip>> {
        let roll = self.roll(options)?;
        Ok(roll.room.views(&roll.picks, &roll.warnings))
    }

    fn roll(&mut self, options: &ClipOptions) -> Result<Roll> {
        check(&self.demuxer, options)?;
        let scan = scanned(&mut self.scan, &mut self.demuxer)?;
        decode::roll(&mut self.demuxer, scan, options, self.watch.as_ref())
    }

    /// Clips of a sliding window, in order, in memory that grows with the
    /// window and not with the video.
    ///
    /// Window `k` covers the frames of time `[k·stride, k·stride + length)`
    /// and has the frames that [`Video::clips`] with these `start` and `end`
    /// would give. The window that reaches the end of the video is the last
    /// and may be shorter; windows without a frame (in a gap) are left out.
    ///
    /// # Errors
    /// [`Fault::Option`](crate::Fault::Option)(crate::Fault::Option) for a length or stride that is not above 0.
    pub fn windows(mut self, options: &WindowOptions) -> Result<Windows> {
        Ok(Windows {
            way: Way::new(&mut self.demuxer, options, self.watch.as_ref())?,
            video: self,
            done: false,
        })
    }

    /// Every frame, upright, at full size, decoded one at a time.
    ///
    /// # Errors
    /// When the decoder does not open.
    pub fn frames(mut self) -> Result<Frames> {
        Ok(Frames {
            reader: FrameReader::new(&mut self.demuxer)?,
            video: self,
            done: false,
        })
    }
}

/// The scan, made at the first call.
fn scanned<'a>(scan: &'a mut Option<Scan>, demuxer: &mut Demuxer) -> Result<&'a Scan> {
    match scan {
        Some(scan) => Ok(scan),
        None => Ok(scan.insert(Scan::of(demuxer)?)),
    }
}

/// Iterator over all frames of a video; holds the decoder's frames and one
/// converted frame, whatever the video's length.
pub struct Frames {
    video: Video,
    reader: FrameReader,
    done: bool,
}

impl Frames {
    /// What was dropped or assumed up to here; complete at the end.
    pub fn warnings(&self) -> &[Warning] {
        self.reader.warnings()
    }

    /// The video that is read.
    pub fn video(&self) -> &Video {
        &self.video
    }
}

impl Iterator for Frames {
    type Item = Result<FullFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.reader.next(&mut self.video.demuxer).transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

/// Iterator over the windows of a video: see [`Video::windows`].
pub struct Windows {
    video: Video,
    way: Way,
    done: bool,
}

impl Windows {
    /// The video that is read.
    pub fn video(&self) -> &Video {
        &self.video
    }
}

impl Iterator for Windows {
    type Item = Result<WindowClip>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.way.next(&mut self.video.demuxer).transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}
