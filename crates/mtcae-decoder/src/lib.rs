#![doc = include_str!("../README.md")]
//!
//! # Reading it beside the paper
//! [`Structure`] has the six structures of section IV.B.3 as lists of [`Stage`]s;
//! [`MultiTaskDecoder`] computes them: equations 4 to 6, each stage by Algorithm 1
//! (`stage.rs`, `layer.rs`), each head by equations 7 to 9 (`head.rs`).
//! [`InferencePlan`] computes the same on the CPU from packed weights.
//!
//! [`lstm`], [`mnc`], [`mtl_er`] and [`mtformer`] are the decoders of systems that the paper
//! compares with, over the same features, tasks and heads' outputs.

mod config;
mod error;
mod folder;
mod head;
mod layer;
mod layout;
pub mod lstm;
pub mod mnc;
pub mod mtformer;
pub mod mtl_er;
mod multi_task;
mod plan;
mod stage;
mod structure;
mod whole;

pub use candle_core;
pub use config::{Config, KvOrder};
pub use error::Error;
pub use layout::{ACTION_UNITS, FACE_BOX, LANDMARKS};
pub use mtcae_nn as nn;
pub use multi_task::{MultiTaskDecoder, Outputs};
pub use plan::InferencePlan;
pub use structure::{Input, Kind, Stage, Structure, Task};
