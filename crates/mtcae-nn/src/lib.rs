//! What Candle lacks for training and running video transformers.
//!
//! - [`ops`]: the kernels of `mtcae-kernels` as Candle operations, each with a
//!   backward. Candle's own fused softmax and LayerNorm have none and cut the
//!   gradient without an error.
//! - The layers made of them: [`LayerNorm`], [`Mlp`], [`SelfAttention`],
//!   [`CrossAttention`], [`TubeEmbedding`], [`DropPath`]; [`Lstm`], [`EncoderLayer`],
//!   [`WindowAttention`], [`CrossWindowAttention`], [`roi_warp`], [`Dropout`].
//! - [`volume`]: convolutions over (t, h, w) with BatchNorm, and pooling.
//! - [`Pass`]: what a forward pass carries besides tensors: whether it trains,
//!   and where named intermediates are recorded.
//! - [`plan`]: the same layers for inference on the CPU, packed once and without
//!   allocations.
//! - [`optim`]: AdamW with parameter groups and a state that can be saved.
//! - [`device`]: devices by name, and why one cannot be used.
//! - [`params`]: trainable parameters drawn from a seed; [`weights`]: strict
//!   loading that reports every missing, unexpected and wrongly shaped tensor.
//!
//! No model is known here. Shapes are written `(B, N, D)`: batch, tokens,
//! channels.

mod attention;
#[cfg(all(feature = "cuda", feature = "checks"))]
pub mod checks;
pub mod device;
mod drop_path;
mod dropout;
mod encoder_layer;
mod layer_norm;
mod linear;
mod lstm;
mod mlp;
pub mod ops;
pub mod optim;
pub mod params;
mod pass;
pub mod plan;
mod pool;
mod position;
mod precision;
mod roi;
mod tube;
pub mod volume;
pub mod weights;
mod window;

pub use attention::{CrossAttention, Over, SelfAttention};
pub use candle_core;
pub use candle_nn::VarBuilder;
pub use drop_path::DropPath;
pub use dropout::Dropout;
pub use encoder_layer::EncoderLayer;
pub use layer_norm::LayerNorm;
pub use linear::{INIT_STD, Linear, linear, linear_no_bias};
pub use lstm::Lstm;
pub use mlp::Mlp;
pub use mtcae_kernels::attention::window::Windows;
pub use mtcae_kernels::gather::Gather;
pub use mtcae_kernels::isa::{self, Isa, IsaError};
pub use mtcae_kernels::threads::on_pool;
pub use params::ParamStore;
pub use pass::Pass;
pub use pool::Pool;
pub use position::sin_cos_table;
pub use precision::{Precision, UnknownPrecision, Unsupported};
pub use roi::roi_warp;
pub use tube::{TubeEmbedding, tubes};
pub use window::{CrossWindowAttention, WindowAttention, WindowGrid};
