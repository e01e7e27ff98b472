//! What can go wrong with a model.

use std::path::PathBuf;

/// What can go wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A config cannot be parsed.
    #[error("{}: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A field of the config cannot be used.
    #[error("model config: {field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// The input has another shape than the model takes.
    #[error("the model takes {expected}, not {found:?}")]
    Input {
        /// The shape it takes.
        expected: String,
        /// The shape given.
        found: Vec<usize>,
    },
    /// A file fault, with the file in front.
    #[error("{}: {source}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: Box<Error>,
    },
    /// The device does not compute in the precision that was asked for.
    #[error(transparent)]
    Precision(#[from] mtcae_nn::Unsupported),
    /// The encoder's fault.
    #[error(transparent)]
    Encoder(#[from] mtcae_encoder::Error),
    /// The decoder's fault.
    #[error(transparent)]
    Decoder(#[from] mtcae_decoder::Error),
    /// The weights' fault.
    #[error(transparent)]
    Weights(#[from] mtcae_nn::weights::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
