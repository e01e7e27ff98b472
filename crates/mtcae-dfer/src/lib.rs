//! Dynamic facial expression recognition: a video in; the face box and five
//! landmarks of each sampled frame and the probability of each expression out.
//!
//! This is the facade over the crates that do the work, which it re-exports, and
//! the one [`Pipeline`] from a video file, a clip or a tensor to a
//! [`Prediction`].
#![cfg_attr(
    feature = "ffmpeg",
    doc = r#"
```no_run
use mtcae_dfer::{Device, Pipeline};
let pipeline = Pipeline::load("checkpoint", &Device::Cpu)?;
let prediction = pipeline.predict("face.mp4")?;
println!("{} ({:.0}%)", prediction.expression, 100.0 * prediction.confidence);
# Ok::<(), mtcae_dfer::Error>(())
```
"#
)]
//! # Features
//! - `ffmpeg` (default): video files. Without it, clips and tensors.
//! - `faces` (default): MTCNN beside the model, and answers about each person
//!   (`FaceFinder`). It brings `ffmpeg`.
//! - `annotate` (default): answers drawn on contact sheets and videos (`annotate`). It
//!   brings `faces`.
//! - `cuda`: NVIDIA GPUs, by devices that [`device::open`] gives.
//! - `hub` (default): encoders from the Hugging Face hub, asked for by name.
//!
//! No network is used unless a hub name is given, and nothing about a video
//! leaves the machine.

#[cfg(feature = "annotate")]
pub mod annotate;
mod error;
#[cfg(feature = "faces")]
mod faces;
#[cfg(feature = "faces")]
mod footage;
#[cfg(feature = "faces")]
mod live;
#[cfg(feature = "faces")]
mod people;
mod pipeline;
mod prediction;
#[cfg(feature = "faces")]
mod refuse;
mod results;
mod table;
mod timeline;
#[cfg(feature = "ffmpeg")]
mod views;

pub use candle_core::{Device, Tensor};
pub use error::Error;
#[cfg(feature = "faces")]
pub use faces::{DetectAt, FaceFinder};
#[cfg(feature = "faces")]
pub use footage::{Footage, Times};
#[cfg(feature = "faces")]
pub use live::{Ended, LiveOptions, Said};
pub use mtcae_core::{Crop, Face, FaceBox, Landmarks, Rect, Refusal, Resize, Sampling, Square};
pub use mtcae_model as model;
pub use mtcae_nn::{Isa, IsaError, Pass, Precision, device};
pub use mtcae_video as video;
#[cfg(feature = "faces")]
pub use people::{People, PeopleOptions};
pub use pipeline::Pipeline;
#[cfg(feature = "ffmpeg")]
pub use pipeline::{Progress, Windowing};
pub use prediction::{ClassProbability, FaceWarning, FramePrediction, Prediction, Seen, Warning};
pub use results::{FORMAT, LINES, PURPOSE, Provenance, Results, SourceFile, Teller, VERSION};
pub use table::{FACE_COLUMNS, write_csv};
pub use timeline::{Answer, Timeline, TimelinePoint};
