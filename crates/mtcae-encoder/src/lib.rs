//! Video encoders behind one seam, and checkpoints of them in every published spelling.
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
//! - [`Encoder`], [`EncoderConfig`], [`EncoderPlan`]: the seam, which other crates may
//!   implement too.
//! - [`Config`], [`Families`]: the config of an encoder of any family, and how it is read.
//! - [`VideoMae`] in S, B, L and H, and MARLIN, which is one too; [`LgiFormer`] of MAE-DFER;
//!   [`Tpsbt`] of SVFAP; [`ResNet`] over frames and over volumes.
//! - [`masked`]: the same encoders in masked pre-training.
//! - [`open`]: a checkpoint, as a file or a folder, under whatever names.
//! - [`open_named`]: the same by `hub:ORG/NAME`.

mod block;
mod checkpoint;
mod classifier;
mod embedding;
mod error;
mod family;
mod hub;
mod json;
mod lgi_former;
pub mod masked;
mod pickle;
mod preprocessing;
mod published;
mod release;
mod renamed;
mod resnet;
mod seam;
mod sizes;
mod source;
mod tpsbt;
mod videomae;

use std::path::Path;

use mtcae_core::files::{self, At};

pub use checkpoint::{Checkpoint, open, open_with};
pub use classifier::{Classifier, Protocol};
pub use embedding::Position;
pub use error::{Error, HubFault};
pub use family::{Factory, Families};
#[cfg(feature = "hub")]
pub use hub::Hub;
pub use hub::{HubName, Progress, fetch_folder, open_named};
pub use lgi_former::{Features, LgiFormer, LgiFormerConfig};
pub use mtcae_nn as nn;
pub use mtcae_nn::candle_core;
pub use preprocessing::{Preprocessing, Resize};
pub use published::{OWN, Overrides};
pub use resnet::{Block as ResNetBlock, ClipGroups, Over, ResNet, ResNetConfig};
pub use seam::{
    Config, Encoder, EncoderConfig, EncoderPlan, Group, Input, Layout, Output, Parameter,
};
pub use source::Below;
pub use tpsbt::{Tpsbt, TpsbtConfig};
pub use videomae::{VideoMae, VideoMaeConfig};

/// The longest JSON that is read, and a hundred times what any config takes.
const LONGEST_JSON: u64 = 4 << 20;

/// The text of a small file.
fn read_text(path: &Path) -> Result<String, Error> {
    Ok(files::read_to_string(path, LONGEST_JSON).at(path)?)
}
