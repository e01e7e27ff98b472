//! The VideoMAE encoder in S, B, L and H, and checkpoints of it in every
//! published spelling.
//!
//! ```no_run
//! use mtcae_encoder::candle_core::{DType, Device, Tensor};
//!
//! # fn main() -> Result<(), mtcae_encoder::Error> {
//! let checkpoint = mtcae_encoder::open("videomae-large")?;
//! let encoder = checkpoint.load(&Device::Cpu)?;
//! // (B, T, C, H, W), normalised as `checkpoint.preprocessing` says.
//! let clips = Tensor::zeros((1, 16, 3, 224, 224), DType::F32, &Device::Cpu)?;
//! let features = encoder.forward(&clips)?; // (1, 1568, 1024)
//! # Ok(())
//! # }
//! ```
//!
//! - [`Config`]: the sizes, as presets and from Hugging Face's `config.json`.
//! - [`Encoder`]: the model, for inference and in training.
//! - [`InferencePlan`]: the same for inference on the CPU, with packed weights.
//! - [`open`]: a checkpoint, as a file or a folder, under whatever names.
//! - [`open_named`]: the same by `hub:ORG/NAME`.

mod checkpoint;
mod config;
mod encoder;
mod error;
mod hub;
mod hugging_face;
mod json;
mod names;
mod pickle;
mod preprocessing;
mod renamed;
mod source;

use std::path::Path;

use mtcae_core::files;

pub use checkpoint::{Checkpoint, Overrides, open, open_with};
pub use config::{Config, Position};
pub use encoder::{Encoder, InferencePlan};
pub use error::{Error, HubFault};
#[cfg(feature = "hub")]
pub use hub::Hub;
pub use hub::{HubName, Progress, fetch_folder, open_named};
pub use mtcae_nn::candle_core;
pub use names::Spelling;
pub use preprocessing::{Preprocessing, Resize};
pub use source::Below;

/// The longest JSON that is read, and a hundred times what any config takes.
const LONGEST_JSON: u64 = 4 << 20;

/// The text of a small file.
fn read_text(path: &Path) -> Result<String, Error> {
    files::read_to_string(path, LONGEST_JSON).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}
