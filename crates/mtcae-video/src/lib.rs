//! Video files to what a VideoMAE encoder eats.
//!
//! ```text
//! file ─ Video::open ─► packets ─ decode ─► frames ─ sample, resize ─► Clip (T, H, W, 3) u8
//!      Clip ─ tubes ─► (1568, 1536) f32, in the order of the Conv3d kernel
//! ```
//!
//! Everything after decoding builds without FFmpeg
//! (`default-features = false`); then bring your own frames:
//!
//! ```
//! use mtcae_video::{Normalization, TubeShape, tubes};
//! let frames = ndarray::Array4::<u8>::zeros((16, 224, 224, 3));
//! let tokens = tubes(frames.view(), &Normalization::IMAGENET, TubeShape::default())?;
//! assert_eq!(tokens.dim(), (1568, 1536));
//! # Ok::<(), mtcae_video::TubeError>(())
//! ```
#![cfg_attr(
    feature = "ffmpeg",
    doc = r#"
With the default feature `ffmpeg`:

```no_run
use mtcae_video::{ClipOptions, Normalization, Video};
let clip = Video::open("face.mp4")?.clip(&ClipOptions::default())?;
for warning in &clip.warnings {
    eprintln!("face.mp4: {warning}");
}
let tokens = clip.tubes(&Normalization::IMAGENET)?; // (1568, 1536)
# Ok::<(), Box<dyn std::error::Error>>(())
```
"#
)]
//! # Features
//! - `ffmpeg` (default): `Video`, `ClipWriter` and their options, through the
//!   system's FFmpeg libraries.
//!
//! # Decisions
//! - **Colour**: frames become full-range RGB by swscale with the frame's own
//!   matrix, range and chroma siting, flags `BICUBIC | ACCURATE_RND |
//!   FULL_CHR_H_INT`. An unspecified matrix is BT.601, whatever the size, as
//!   swscale does, and a [`Warning::UnknownMatrix`]; an unspecified range is
//!   limited; grey is full range; alpha is dropped.
//! - **Resizing** works on the full-size RGB frame, bilinear with
//!   antialiasing, and turns the small picture upright: within one level of
//!   turning first.
//! - **Coordinates**: [`Geometry::to_source`] gives source pixels, upright
//!   and before non-square pixels are stretched.
//! - **Times** count from the stream's start; frames are numbered in order of
//!   presentation, as the packets announce them, and after
//!   [`Warning::Resampled`] as they decoded.
//! - **Damage** in frames that no sampled frame needs is not met, and so not
//!   warned of.
//!
//! # What is promised
//! - Only the named file is ever read: playlists, concat scripts, image
//!   patterns, external references and network names are refused or plain
//!   paths.
//! - Nothing is silent: whatever was dropped, damaged, guessed or sampled
//!   again is a [`Warning`] of the clip.
//! - No panic, no printing, no exit on bad input; each [`Error`] names the
//!   file and the fault. FFmpeg's own log, which is one per process, is set to
//!   quiet at the first use.

mod clip;
mod endings;
mod error;
mod geometry;
pub mod inputs;
mod mask;
mod normalize;
mod resize;
mod tubes;
mod warp;

#[cfg(feature = "ffmpeg")]
mod ahead;
#[cfg(feature = "ffmpeg")]
mod choose;
#[cfg(feature = "ffmpeg")]
mod darkroom;
#[cfg(feature = "ffmpeg")]
mod decode;
#[cfg(feature = "ffmpeg")]
mod demuxer;
#[cfg(feature = "ffmpeg")]
mod ffi;
#[cfg(feature = "ffmpeg")]
mod frames;
#[cfg(feature = "ffmpeg")]
mod nal;
#[cfg(feature = "ffmpeg")]
mod open;
mod options;
#[cfg(feature = "ffmpeg")]
mod pump;
#[cfg(feature = "ffmpeg")]
mod references;
#[cfg(feature = "ffmpeg")]
mod scan;
#[cfg(feature = "ffmpeg")]
mod sequence;
#[cfg(feature = "ffmpeg")]
mod shrink;
#[cfg(feature = "ffmpeg")]
mod stream;
#[cfg(feature = "ffmpeg")]
mod tape;
#[cfg(feature = "ffmpeg")]
mod video;
#[cfg(feature = "ffmpeg")]
mod windows;
#[cfg(feature = "ffmpeg")]
mod writer;

/// Frames are arrays of this crate.
pub use ndarray;

pub use clip::{Clip, Warning, WindowClip};
pub use endings::{IMAGE_ENDINGS, VIDEO_ENDINGS, is_media, is_video};
pub use error::{Error, Fault, Result};
pub use geometry::{Geometry, Orientation};
pub use mask::TokenMask;
pub use normalize::Normalization;
pub use options::{ClipOptions, OpenOptions, WindowOptions};
pub use resize::FrameResizer;
pub use tubes::{TubeError, TubeShape, tubes, tubes_into, untube};
pub use warp::square_of;
#[cfg(feature = "ffmpeg")]
pub use {
    demuxer::VideoInfo,
    frames::FullFrame,
    stream::{Raw, Stream},
    video::{Frames, Video, Windows},
    writer::{ClipWriter, Sound, WriterOptions},
};
