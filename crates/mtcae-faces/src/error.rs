//! What can go wrong with faces.

/// What can go wrong with faces.
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
    /// The instruction set that the process is to be held to cannot be used.
    #[error(transparent)]
    Isa(#[from] mtcae_nn::IsaError),
    /// The device that computes has failed.
    #[error("face detection: {0}")]
    Device(#[from] candle_core::Error),
}
