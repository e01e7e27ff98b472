//! Faces in video: where they are, and whose they are over time. A [`Face`] and a [`Track`]
//! are mtcae-core's.
//!
//! - [`mtcnn`]: the [`Detector`]: boxes and five landmarks, the same faces as
//!   facenet-pytorch 2.6.0, several times faster.
//! - [`tracks`]: faces linked into identities, gaps filled, the clip's subject.
//! - [`people`]: tracks joined over gaps and cuts, for answers about each person.
#![cfg_attr(
    feature = "embedded-weights",
    doc = r#"
```
use mtcae_faces::{Detector, DetectorConfig};
let detector = Detector::new(DetectorConfig::default())?;
let frame = ndarray::Array3::<u8>::zeros((120, 160, 3)); // (H, W, 3), RGB
assert!(detector.detect(frame.view())?.is_empty());
# Ok::<(), mtcae_faces::Error>(())
```
"#
)]
//! # Features
//! - `embedded-weights` (default): MTCNN's weights inside the library.
//! - `cuda`: the detector's networks on NVIDIA GPUs ([`Detector::to_device`]).

//!
//! [`Face`]: mtcae_core::Face
//! [`Track`]: mtcae_core::Track

/// The README's example, compiled as a test.
#[cfg(all(doctest, feature = "embedded-weights"))]
#[doc = include_str!("../README.md")]
struct Readme;

mod error;
pub mod mtcnn;
pub mod people;
pub mod tracks;

/// Frames are arrays of this crate.
pub use ndarray;

pub use error::Error;
pub use mtcnn::{Detector, DetectorConfig, Keep};
