//! What can go wrong in training.

use std::path::PathBuf;

use mtcae_core::files::FileError;

/// What can go wrong in training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error("{field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Labelled videos are not where they should be.
    #[error(
        "{}: {} below {}; `root` says in which folder they lie, and `allow_missing` leaves them out",
        labels.display(),
        list("labelled videos are missing", files),
        match root.as_os_str().is_empty() {
            true => "the current folder".into(),
            false => root.display().to_string(),
        }
    )]
    Missing {
        /// The label file.
        labels: PathBuf,
        /// The folder that they were looked for in.
        root: PathBuf,
        /// Their names in the label file.
        files: Vec<String>,
    },
    /// The folds cannot be used.
    #[error("fold {fold}: {reason}")]
    Fold {
        /// The fold, from 0.
        fold: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder cannot be read or written, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk has no room for what is about to be written.
    #[error(
        "{}: needs {} MiB, but only {} MiB are free",
        path.display(),
        need.div_ceil(1 << 20),
        free >> 20
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// Bytes that it needs.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The loss or a gradient is not a number.
    #[error(
        "{what} is {value} at step {step} (epoch {epoch}, clips {}); the state saved before is kept",
        clips.join(", ")
    )]
    NotFinite {
        /// What: a loss or the gradient's norm.
        what: String,
        /// Its value.
        value: f64,
        /// The step, from 0.
        step: u64,
        /// The epoch, from 0.
        epoch: usize,
        /// The files of the batch.
        clips: Vec<String>,
    },
    /// What the model says of a clip is not a number.
    #[error("{file}: {what} is {value}: the model's weights are spoilt")]
    NoNumber {
        /// What.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The clip's name in the label file.
        file: String,
    },
    /// A clip cannot be measured.
    #[error("{file}: {source}")]
    Clip {
        /// The clip's name in the label file.
        file: String,
        /// The cause.
        source: Box<Error>,
    },
    /// The caller's callback stopped the work.
    #[error("stopped; the state saved last can be resumed")]
    Cancelled,
    /// Ranks that train together have failed, or differ.
    #[error(transparent)]
    Ranks(#[from] mtcae_ranks::Error),
    /// The labels cannot be used.
    #[error(transparent)]
    Labels(#[from] mtcae_labels::Error),
    /// A clip cannot be decoded.
    #[error(transparent)]
    Video(#[from] mtcae_video::Error),
    /// The model cannot be built, loaded or run.
    #[error(transparent)]
    Model(#[from] mtcae_model::Error),
    /// The encoder cannot be loaded or run.
    #[error(transparent)]
    Encoder(#[from] mtcae_model::encoder::Error),
    /// Loss or metrics cannot be computed.
    #[error(transparent)]
    Objective(#[from] mtcae_objective::Error),
    /// Weights cannot be read or written.
    #[error(transparent)]
    Weights(#[from] mtcae_nn::weights::Error),
    /// A picture cannot be drawn or written.
    #[error(transparent)]
    Picture(#[from] mtcae_viz::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// `3 WHAT (a, b, c)`, at most five of them by name.
pub(crate) fn list(what: &str, files: &[String]) -> String {
    let shown = files.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = if files.len() > 5 { ", …" } else { "" };
    format!("{} {what} ({shown}{more})", files.len())
}

impl From<mtcae_ranks::TensorError> for Error {
    fn from(error: mtcae_ranks::TensorError) -> Self {
        match error {
            mtcae_ranks::TensorError::Ranks(error) => error.into(),
            mtcae_ranks::TensorError::Candle(error) => error.into(),
            other => mtcae_ranks::Error::Deal(other.to_string()).into(),
        }
    }
}
