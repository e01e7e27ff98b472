//! What a model says of videos, in the formats of other programs.
//!
//! Annotations are made of [`Interval`]s, stretches of time in which the same is said of one
//! person; tables of [`Frame`]s. `docs/formats.md` says what is in each format, what is lost,
//! and which reader it was checked with.
//!
//! # Features
//! - `labels` (default): label files of mtcae-labels as tables and COCO.
//! - `parquet` (default): Parquet files.

mod about;
pub mod arrow;
pub mod bids;
pub mod boris;
pub mod captions;
pub mod coco;
mod csv;
pub mod elan;
mod error;
mod format;
mod frame;
mod interval;
#[cfg(feature = "labels")]
pub mod labels;
pub mod openface;
#[cfg(feature = "parquet")]
pub mod parquet;
mod table;
pub mod textgrid;

pub use arrow_array;
pub use arrow_schema;
pub use error::Error;
pub use format::{Columns, Document, Format};
pub use frame::{Frame, frames_of};
pub use interval::{Interval, intervals_of, milliseconds};

use mtcae_dfer::Results;

/// The file that results are about, where they are about one.
pub(crate) fn file_of(results: &Results) -> Option<String> {
    let predictions = results.answer.predictions();
    let file = predictions.first()?.file.as_ref()?;
    Some(file.to_string_lossy().into_owned())
}

/// Milliseconds as seconds with three digits.
pub(crate) fn decimal(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
