//! What can go wrong.

use mtcae_core::files::FileError;

use mtcae_nn::weights;

/// Everything that this crate reports. Each message is one line that names the
/// file, field, tensor or hub model at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A field of a configuration is missing or wrong.
    #[error("{origin}: {field}: {reason}")]
    Field {
        /// The file, or what else the configuration comes from.
        origin: String,
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is no JSON, or not the JSON it should be.
    #[error("{origin}: {}", weights::shown(&source.to_string()))]
    Json {
        /// The file, or what else the text comes from.
        origin: String,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// Nothing says how many attention heads an encoder has.
    #[error(
        "{origin}: neither a config.json nor the tensors tell how many attention heads there \
         are, and width {width} is none of the published sizes; their number must be given"
    )]
    Heads {
        /// The file of the weights.
        origin: String,
        /// Channels of a token.
        width: usize,
    },
    /// An input tensor has a shape that the encoder cannot take.
    #[error("{what} have shape {found:?}, the encoder takes {want}")]
    Input {
        /// Clips or tubes.
        what: &'static str,
        /// Their shape.
        found: Vec<usize>,
        /// The shape that the encoder takes.
        want: String,
    },
    /// A hub model cannot be had.
    #[error("{name}: {fault}")]
    Hub {
        /// The model's name as it was asked for.
        name: String,
        /// Why.
        fault: HubFault,
    },
    /// Tensors are missing, unexpected, wrongly shaped or unreadable.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] mtcae_nn::candle_core::Error),
}

/// Why a hub model cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubFault {
    /// The text is no name of a model.
    #[error("not of the form hub:ORG/NAME or hub:ORG/NAME@REVISION: {0}")]
    Name(String),
    /// This program was built without the feature that reaches the hub.
    #[error(
        "this program was built without the feature `hub`; download the model and give its folder"
    )]
    FeatureOff,
    /// The hub does not know the model or the revision, or hides it from this user.
    #[error(
        "the hub knows no such model or revision, or it is private ({file}: HTTP status {status})"
    )]
    Unknown {
        /// The file that was asked for.
        file: String,
        /// The hub's answer.
        status: u16,
    },
    /// The model exists but has no file with weights.
    #[error("the model has neither model.safetensors nor pytorch_model.bin")]
    NoWeights,
    /// The hub cannot be reached.
    #[error(
        "the hub cannot be reached and {file} is not in the cache; is this machine offline? ({reason})"
    )]
    Offline {
        /// The file that was asked for.
        file: String,
        /// What the connection said.
        reason: String,
    },
    /// The hub was reached, but the file did not arrive whole.
    #[error("{file} did not arrive: {reason}")]
    Transfer {
        /// The file.
        file: String,
        /// What happened.
        reason: String,
    },
}
