//! MTCAE-DFER assembled from one config: the VideoMAE encoder, the cascaded
//! decoder and the three heads.
//!
//! [`Mtcae`] takes clip tensors and gives head outputs, and [`InferencePlan`]
//! computes them faster where no gradient is needed; [`checkpoint`] reads and
//! writes the folder that `docs/checkpoint-format.md` describes. Video files and
//! pixels of the source belong to the facade, `mtcae-dfer`.

pub mod checkpoint;
mod config;
mod error;
pub mod init;
mod model;
mod plan;
mod subjects;

pub use candle_core;
pub use config::{Config, EXPRESSION, FACE_BOX, LANDMARKS, Preprocessing};
pub use error::Error;
pub use model::{Mtcae, Outputs};
pub use mtcae_decoder as decoder;
pub use mtcae_encoder as encoder;
pub use mtcae_nn::Precision;
pub use plan::InferencePlan;
pub use subjects::TrainedSubjects;
