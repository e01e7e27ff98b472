//! What can go wrong with an export.

use std::path::PathBuf;

use mtcae_core::files::FileError;
use mtcae_decoder::Structure;

/// What can go wrong with an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The encoder is of a family whose graph is not known here.
    #[error(
        "encoders of the family {family} are not exported: ONNX is written of videomae, lgi-former \
         and tpsbt"
    )]
    Family {
        /// The family.
        family: String,
    },
    /// The decoder is none of the six structures.
    #[error(
        "the decoder {structure} is not exported: ONNX is written of the six structures of the \
         paper, and of the encoder alone"
    )]
    Structure {
        /// The structure.
        structure: Structure,
    },
    /// A decoder was asked for where there is none.
    #[error(
        "the structure {structure} has no decoder: its head reads the features themselves, and is \
         exported with the whole model"
    )]
    NoDecoder {
        /// The structure.
        structure: Structure,
    },
    /// The file of weights cannot be named in the model, which names it in UTF-8.
    #[error(
        "{}: not a name in UTF-8, by which the model could say where its weights are", path.display()
    )]
    Name {
        /// The model's file.
        path: PathBuf,
    },
    /// The config cannot be written down or read again.
    #[error("model config: {0}")]
    Json(#[from] serde_json::Error),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The checkpoint's fault.
    #[error(transparent)]
    Model(#[from] mtcae_model::Error),
    /// A tensor of the checkpoint cannot be read.
    #[error(transparent)]
    Weights(#[from] mtcae_nn::weights::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] mtcae_nn::candle_core::Error),
}
