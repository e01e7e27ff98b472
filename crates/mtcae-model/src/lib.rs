//! MTCAE-DFER assembled from one config: an encoder, the cascaded decoder and the
//! three heads.
//!
//! [`Mtcae`] takes clip tensors and gives head outputs, to be trained; [`Engine`] computes
//! them on its device as fast as can be; [`checkpoint`] reads and writes the folder that `docs/checkpoint-format.md` describes. Video files and
//! pixels of the source belong to the facade, `mtcae-dfer`.

mod answers;
mod calibration;
pub mod card;
pub mod checkpoint;
mod config;
mod engine;
mod error;
mod identity;
pub mod init;
mod model;
mod published;
mod subjects;

pub use answers::Answers;
pub use calibration::Calibration;
pub use candle_core;
pub use checkpoint::Checkpoint;
pub use config::{ACTION_UNITS, Config, EXPRESSION, FACE_BOX, LANDMARKS, Preprocessing};
pub use engine::Engine;
pub use error::Error;
pub use identity::Identity;
pub use model::{Mtcae, Outputs};
pub use mtcae_decoder as decoder;
pub use mtcae_encoder as encoder;
pub use mtcae_nn::Precision;
pub use published::Given;
pub use subjects::TrainedSubjects;
