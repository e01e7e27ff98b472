//! What can go wrong with a report.

use mtcae_core::files::FileError;

/// What can go wrong with a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder that cannot be read or written; the message names it.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of results that is none; the message names it.
    #[error(transparent)]
    Results(#[from] mtcae_dfer::Error),
    /// Labels that cannot be read; the message names their file.
    #[error(transparent)]
    Labels(#[from] mtcae_labels::Error),
    /// Answers that cannot be measured.
    #[error(transparent)]
    Measure(#[from] mtcae_objective::Error),
    /// What is to be written is no JSON.
    #[error("the page's data: {0}")]
    Json(#[from] serde_json::Error),
}
