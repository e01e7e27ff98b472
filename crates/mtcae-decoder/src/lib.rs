#![doc = include_str!("../README.md")]
//!
//! # Reading it beside the paper
//! [`VitDecoder`] is Algorithm 1, [`MultiTaskDecoder`] equations 4 to 6 and the
//! six structures of section IV.B.3, [`Head`] equations 7 to 9. [`InferencePlan`]
//! computes the same on the CPU from packed weights.

mod config;
mod error;
mod folder;
mod head;
mod layer;
mod multi_task;
mod plan;
mod stage;

pub use candle_core;
pub use config::{Config, KvOrder, Structure, Task};
pub use error::Error;
pub use head::Head;
pub use layer::{MlpLayer, VitLayer};
pub use mtcae_nn as nn;
pub use multi_task::{MultiTaskDecoder, Outputs};
pub use plan::InferencePlan;
pub use stage::{MlpDecoder, VitDecoder};
