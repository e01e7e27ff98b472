//! The files in the folders that runs write: their names, and how text comes into them.

use std::path::Path;

use mtcae_core::files::{At, write_text_atomically};
use serde::Serialize;

use crate::Error;

/// The state of a run: all that is needed to go on.
pub const STATE: &str = "state.safetensors";
/// The log of a run.
pub const LOG: &str = "metrics.jsonl";
/// The log once more, for TensorBoard.
pub const EVENTS: &str = "events.out.tfevents.run";
/// The kept weights of the best epoch, while a run goes on.
pub(crate) const BEST: &str = "best.safetensors";
/// What a cross-validation is one of.
pub(crate) const IDENTITY: &str = "run.json";
/// A fold's result, which is written last.
pub(crate) const RESULT: &str = "fold.json";
/// Seconds that a fold's test took, decoding included.
pub(crate) const TEST_SECONDS: &str = "test-seconds.json";
/// The table of predictions, of a fold and of the whole.
pub const PREDICTIONS: &str = "predictions.csv";

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).at(path)?;
    write_text(path, &text)
}

pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    Ok(write_text_atomically(path, text).at(path)?)
}
