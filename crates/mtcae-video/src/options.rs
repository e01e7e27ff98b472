//! What a caller can ask of a video.

use mtcae_core::{Resize, Sampling};
use serde::{Deserialize, Serialize};

#[cfg(feature = "ffmpeg")]
use crate::clip::Clip;

/// How a file is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Threads to keep busy with decoding; 0 for as many as rayon's current pool has,
    /// on which frames are resized as well. From two on the decoder has one more,
    /// since pictures wait for each other. Frames are the same for any number.
    pub threads: usize,
    /// Largest picture accepted, in pixels (width times height): a guard
    /// against headers that claim absurd sizes. 2²⁷, 16384×8192.
    pub max_pixels: u64,
    /// Most bytes that decoding one frame and turning it into RGB may take, of a file
    /// of no size; each of its bytes adds 64. A guard against small files of vast
    /// pictures. 320 MiB, so that a file below a megabyte stays below 384 MiB.
    pub max_bytes: u64,
    /// Compressed bytes that may be kept between counting the frames and
    /// decoding them, so that a short file is read once. 64 MiB.
    pub cache_bytes: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            max_pixels: 1 << 27,
            max_bytes: 320 << 20,
            cache_bytes: 64 << 20,
        }
    }
}

/// What clip is made of a video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipOptions {
    /// Frames per clip; 16 for VideoMAE.
    pub frames: usize,
    /// Width and height of the clip's frames in pixels.
    pub size: (u32, u32),
    /// Which frames.
    pub sampling: Sampling,
    /// What part of each frame.
    pub resize: Resize,
    /// Only frames from this time on, in seconds from the stream's start.
    pub start: Option<f64>,
    /// Only frames before this time, in seconds from the stream's start.
    pub end: Option<f64>,
    /// Most frames that the views of a clip may hold together (it matters for
    /// `all`, `multi-clip` and `three-crop`): a guard on memory.
    pub max_frames: u64,
}

impl Default for ClipOptions {
    fn default() -> Self {
        Self {
            frames: 16,
            size: (224, 224),
            sampling: Sampling::Uniform,
            resize: Resize::Squash,
            start: None,
            end: None,
            max_frames: 1 << 14,
        }
    }
}

impl ClipOptions {
    /// The most views that a video or window gives: clips of the sampling times crops of
    /// the resizing.
    pub fn most_views(&self) -> usize {
        self.sampling.clips().saturating_mul(self.resize.crops())
    }

    /// Clips that were taken with these options, one a crop, as one clip a view: first
    /// all crops of the first clip of a [`Sampling::MultiClip`], then those of the next.
    #[cfg(feature = "ffmpeg")]
    pub(crate) fn views(&self, crops: Vec<Clip>) -> Vec<Clip> {
        let clips = self.sampling.clips();
        if clips == 1 {
            return crops;
        }
        let mut crops: Vec<_> = crops
            .iter()
            .map(|clip| clip.split(self.frames).into_iter())
            .collect();
        (0..clips)
            .flat_map(|_| {
                crops
                    .iter_mut()
                    .filter_map(Iterator::next)
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

/// Windows of `length` seconds every `stride` seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowOptions {
    /// Seconds per window, above 0.
    pub length: f64,
    /// Seconds from one window's start to the next one's, above 0; below
    /// `length` windows overlap, above it gaps are skipped.
    pub stride: f64,
    /// How each window's clip is made; its `start` and `end` bound the whole
    /// series.
    pub clip: ClipOptions,
}

#[cfg(feature = "ffmpeg")]
impl WindowOptions {
    /// Bounds of window `k` in seconds.
    pub(crate) fn bounds(&self, k: u64) -> (f64, f64) {
        let start = self.clip.start.unwrap_or(0.0) + k as f64 * self.stride;
        let end = start + self.length;
        (start, self.clip.end.map_or(end, |e| end.min(e)))
    }

    /// Number of the first window that may hold a frame at `time`, however long
    /// the gap before it.
    pub(crate) fn first_reaching(&self, time: f64) -> u64 {
        let (base, _) = self.bounds(0);
        let reach = (time - self.length - base) / self.stride;
        // A saturating cast; one window early is checked and skipped.
        reach.max(0.0) as u64
    }
}
