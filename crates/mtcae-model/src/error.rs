//! What can go wrong with a model.

use std::path::PathBuf;

use mtcae_core::files::FileError;

/// What can go wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A config cannot be parsed, or written down.
    #[error("{origin}: {reason}")]
    Json {
        /// The file, or what else the text is from.
        origin: String,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A file of others holds an encoder alone.
    #[error(
        "{}: an encoder without a classifier, which answers nothing by itself; `mtcae init \
         --encoder` puts a decoder on it, to be trained",
        path.display()
    )]
    NoClassifier {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file or folder of others where one of ours is needed.
    #[error(
        "{}: a model that others published, which is not trained from as it is; `mtcae init \
         --encoder` makes one of ours of its encoder",
        path.display()
    )]
    NotOurs {
        /// The file or folder.
        path: PathBuf,
    },
    /// A model of ours is given what its config says.
    #[error(
        "{}: a model of ours, whose config.json says its classes and sizes: none are taken \
         beside it",
        path.display()
    )]
    Ours {
        /// The folder.
        path: PathBuf,
    },
    /// The names of a published classifier's classes are missing, or too many or too few.
    #[error("{}: {reason}", path.display())]
    Classes {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or does not fit.
        reason: String,
    },
    /// The config is one of Hugging Face's where one of ours is needed.
    #[error(
        "{}: a Hugging Face model of type {model_type:?}, where a config of ours is needed; \
         `mtcae init --encoder` makes one of it",
        path.display()
    )]
    HuggingFace {
        /// The file.
        path: PathBuf,
        /// What it says it is of.
        model_type: String,
    },
    /// The folder holds an encoder and the decoder that it was pre-trained with.
    #[error(
        "{}: a pre-trained encoder with the decoder that predicts masked tubes, which answers \
         nothing by itself; `mtcae init --encoder` makes a model of it, to be trained",
        path.display()
    )]
    Masked {
        /// The config's file.
        path: PathBuf,
    },
    /// The folder is one that training writes, and not the model in it.
    #[error(
        "{}: the folder of a training run; its model is {}",
        folder.display(),
        model.display()
    )]
    TrainingRun {
        /// The folder.
        folder: PathBuf,
        /// The model's folder.
        model: PathBuf,
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
    /// Clips were given to a model that was built without its encoder.
    #[error("this model was built without its encoder, for features that were made before")]
    NoEncoder,
    /// Answers were asked of an engine that has an encoder alone.
    #[error("this engine was built without a decoder, for features alone")]
    NoDecoder,
    /// The encoder is not packed, and so computes on the CPU in `f32` alone.
    #[error("encoders of the family {family} compute in f32 on the CPU, not in {precision}")]
    NoPlan {
        /// The encoder's family.
        family: &'static str,
        /// What was asked for.
        precision: mtcae_nn::Precision,
    },
    /// The decoder is not packed, and so computes on the CPU in `f32` alone.
    #[error("the decoder {structure} computes in f32 on the CPU, not in {precision}")]
    NoDecoderPlan {
        /// The decoder's structure.
        structure: mtcae_decoder::Structure,
        /// What was asked for.
        precision: mtcae_nn::Precision,
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
