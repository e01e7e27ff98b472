//! What can go wrong with a picture.

use mtcae_core::files::FileError;

/// What can go wrong with a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A picture of no pixels, or too large a one.
    #[error("a picture of {width}×{height} pixels cannot be drawn")]
    Size {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
    },
    /// There is nothing to draw.
    #[error("{what}: nothing to draw")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// Two lists that belong together differ in length.
    #[error("{what}: {found} given, {expected} expected")]
    Length {
        /// The list at fault.
        what: String,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}
