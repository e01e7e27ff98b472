//! What can go wrong in the decoder.

use mtcae_core::files::FileError;

/// What can go wrong in the decoder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration cannot be used.
    #[error("decoder config: {field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// The features are not those the decoder was built for.
    #[error("the decoder takes features of shape (B, N, {width}), not {found:?}")]
    Features {
        /// D of the configuration.
        width: usize,
        /// The shape given.
        found: Vec<usize>,
    },
    /// There are more or fewer tokens than the grid has that the decoder was built for.
    #[error("the decoder takes the {want} tokens of a grid {grid:?}, not {found}")]
    Tokens {
        /// (t, h, w) of the configuration.
        grid: [usize; 3],
        /// Its tokens.
        want: usize,
        /// The number given.
        found: usize,
    },
    /// The structure is computed by the model alone.
    #[error("{structure} has no packed plan: it is computed by MultiTaskDecoder")]
    NoPlan {
        /// The structure.
        structure: crate::Structure,
    },
    /// A file or folder cannot be read or written, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// Tensors are missing, unexpected, wrongly shaped or unreadable.
    #[error(transparent)]
    Weights(#[from] mtcae_nn::weights::Error),
    /// A tensor operation or the parameters failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
