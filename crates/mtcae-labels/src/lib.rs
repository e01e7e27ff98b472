//! From videos to labels: faces and landmarks of every frame, who is who over
//! time, and what the datasets say of each clip.
//!
//! - [`mtcnn`]: the [`Detector`]: boxes and five landmarks, the same faces as
//!   facenet-pytorch 2.6.0, several times faster.
//! - [`tracks`]: faces linked into identities, gaps filled, the clip's subject.
//! - [`people`]: tracks joined over gaps and cuts, for answers about each person.
//! - [`dataset`]: readers of RAVDESS, CREMA-D, MEAD, folders and tables; folds in
//!   which no subject is twice.
//! - [`labels`]: a [`Labeller`](labels::Labeller) puts them together; label files
//!   (JSON Lines, `docs/label-format.md`) that survive a kill and a full disk.
#![cfg_attr(
    feature = "embedded-weights",
    doc = r#"
```
use mtcae_labels::{Detector, DetectorConfig};
let detector = Detector::new(DetectorConfig::default())?;
let frame = ndarray::Array3::<u8>::zeros((120, 160, 3)); // (H, W, 3), RGB
assert!(detector.detect(frame.view())?.is_empty());
# Ok::<(), mtcae_labels::Error>(())
```
"#
)]
#![cfg_attr(
    all(feature = "embedded-weights", feature = "ffmpeg"),
    doc = r#"
A dataset to a label file, resumable:

```no_run
use mtcae_labels::labels::{LabelSettings, LabelWriter, Labeller, label_all};
use mtcae_labels::{Detector, DetectorConfig, dataset};
let clips = dataset::ravdess::read("RAVDESS", &Default::default())?;
println!("{}", dataset::Report::new(&clips));
let detector = Detector::new(DetectorConfig::default())?;
let labeller = Labeller::new(detector, LabelSettings::default())?;
let mut writer = LabelWriter::resume("labels.jsonl", &clips.samples, &labeller.run_settings())?;
let label = |sample: &_| labeller.label_file(sample);
let summary = label_all(&clips.samples, &mut writer, 2, label, |_| true)?;
writer.finish()?;
println!("{} clips without a face", summary.without_face.len());
# Ok::<(), mtcae_labels::Error>(())
```
"#
)]
//! # Features
//! - `embedded-weights` (default): MTCNN's weights inside the library.
//! - `ffmpeg` (default): video and image files, through mtcae-video.
//! - `cuda`: the detector's networks on NVIDIA GPUs ([`Detector::to_device`]).

/// The README's example, compiled as a test.
#[cfg(all(doctest, feature = "embedded-weights"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod dataset;
mod error;
pub mod labels;
pub mod mtcnn;
pub mod people;
pub mod tracks;

/// Frames are arrays of this crate.
pub use ndarray;

pub use error::Error;
pub use mtcnn::{Detector, DetectorConfig, Face, Keep};
