//! From videos to labels: the faces of every frame, and what the datasets say of each
//! clip.
//!
//! - [`dataset`]: readers of RAVDESS, CREMA-D, MEAD, folders and tables; folds in
//!   which no subject is twice.
//! - [`labels`]: a [`Labeller`](labels::Labeller) writes down the faces that
//!   mtcae-faces finds and follows; label files (JSON Lines, `docs/label-format.md`)
//!   that survive a kill and a full disk.
#![cfg_attr(
    all(feature = "embedded-weights", feature = "ffmpeg"),
    doc = r#"
A dataset to a label file, resumable:

```no_run
use mtcae_faces::{Detector, DetectorConfig};
use mtcae_labels::dataset;
use mtcae_labels::labels::{LabelSettings, LabelWriter, Labeller, label_all};
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
//! - `ffmpeg` (default): video and image files, through mtcae-video.
//! - `embedded-weights` (default) and `cuda`: those of mtcae-faces.

pub mod dataset;
mod error;
pub mod labels;

pub use error::Error;
