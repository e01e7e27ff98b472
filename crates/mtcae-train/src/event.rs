//! What a run tells its caller while it works.

use std::ops::ControlFlow;
use std::path::Path;

use crate::log::{EpochLine, StepLine};
use crate::{Error, MaskedEpoch, MaskedStep};

/// Something that happened. The caller's callback returns
/// [`ControlFlow::Break`] to stop the run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// One of several runs is next that take about equally long, as the folds of a
    /// cross-validation.
    Next {
        /// How many were done before it.
        done: usize,
        /// How many there are.
        of: usize,
    },
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
    /// A step of a pre-training was taken.
    MaskedStep(&'a MaskedStep),
    /// An epoch of a pre-training is over.
    MaskedEpoch(&'a MaskedEpoch),
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
pub type Watch<'a> = dyn FnMut(&Event<'_>) -> ControlFlow<()> + 'a;

/// Tells it.
///
/// # Errors
/// [`Error::Cancelled`] when the caller stops the run.
pub(crate) fn tell(watch: &mut Watch<'_>, event: &Event<'_>) -> Result<(), Error> {
    match watch(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}
