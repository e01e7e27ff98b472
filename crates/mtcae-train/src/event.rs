//! What a run tells its caller while it works.

use std::path::Path;

use crate::log::{EpochLine, StepLine};

/// Something that happened. The caller's callback returns
/// [`std::ops::ControlFlow::Break`] to stop the run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A run begins, or goes on.
    Start {
        /// What it is: a fold, a structure.
        name: &'a str,
        /// Epochs in all.
        epochs: usize,
        /// Steps of an epoch.
        steps: u64,
        /// The step it begins with: above 0 when it goes on from a saved state.
        from_step: u64,
        /// Trained parameters.
        parameters: usize,
    },
    /// A feature cache is about to be filled.
    Cache {
        /// Its file.
        path: &'a Path,
        /// Bytes that will be written.
        bytes: u64,
        /// Bytes that are free on its disk.
        free: u64,
        /// Records that will be computed.
        missing: usize,
        /// Records in all.
        records: usize,
    },
    /// A record of the cache was computed.
    Cached {
        /// How many were.
        done: usize,
        /// How many will be.
        total: usize,
    },
    /// A step was taken.
    Step(&'a StepLine),
    /// An epoch is over.
    Epoch(&'a EpochLine),
    /// Clips are being predicted.
    Predicted {
        /// How many were.
        done: usize,
        /// How many will be.
        total: usize,
    },
    /// Something that the user should know.
    Notice(&'a str),
}

/// The caller's callback.
pub type Watch<'a> = dyn FnMut(&Event<'_>) -> std::ops::ControlFlow<()> + 'a;
