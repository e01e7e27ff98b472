//! What can go wrong.

use std::path::PathBuf;

/// The fault of a request or of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting outside its range.
    #[error("`{field}` is {got}; it must be {want}")]
    Setting {
        /// Field of [`Take`](crate::Take) or [`Dataset`](crate::Dataset).
        field: &'static str,
        /// Value given.
        got: String,
        /// Values allowed.
        want: &'static str,
    },
    /// A file of a face model that is missing, cut off, or not what it should be.
    #[error(
        "{}: {reason}; a face model is the folder FaceXModel of ICT-FaceKit \
         (github.com/ICT-VGL/ICT-FaceKit)",
        path.display()
    )]
    FaceModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder cannot be made.
    #[error("{}: cannot be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A clip cannot be written.
    #[error(transparent)]
    Video(#[from] mtcae_video::Error),
}

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
