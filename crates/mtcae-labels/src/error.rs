//! What can go wrong with labels.

use std::path::PathBuf;

/// What can go wrong with labels.
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
    /// A frame is neither RGB nor grey.
    #[error("a frame needs 3 channels (RGB) or 1 (grey), not {channels}")]
    Frame {
        /// Channels found.
        channels: usize,
    },
    /// MTCNN's weights cannot be loaded.
    #[error("MTCNN weights: {0}")]
    Weights(#[from] mtcae_nn::weights::Error),
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A manifest cannot be used.
    #[error("{}: {}", path.display(), faults.join("; "))]
    Manifest {
        /// The table.
        path: PathBuf,
        /// All that is wrong with it, by line.
        faults: Vec<String>,
    },
    /// Folds are not independent of subjects.
    #[error(
        "folds: {} subject(s) in several ({}); {without} sample(s) without a fold",
        torn.len(),
        torn.join("; ")
    )]
    Folds {
        /// Subjects in several folds, with these.
        torn: Vec<String>,
        /// Samples without a fold.
        without: usize,
    },
}
