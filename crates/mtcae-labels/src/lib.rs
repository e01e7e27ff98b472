//! Labels.

pub mod dataset;
mod error;
pub mod mtcnn;
pub mod tracks;

pub use error::Error;
pub use mtcnn::{Detector, DetectorConfig, Face, Keep};
