//! What MTCAE-DFER is trained for, and what it is judged by.
//!
//! - [`Objective`]: the multi-task loss of the paper (section III.D) on Candle
//!   tensors: masked mean squared errors of face boxes, landmarks and action units, and the
//!   cross-entropy of the expression, weighted and summed.
//! - [`Contrast`]: MTFormer's loss between the features of tasks.
//! - Measures on plain slices, in `f64`: [`ConfusionMatrix`] (UAR, WAR, recall,
//!   precision, F1), [`box_iou`], [`landmark_nme`], [`Agreement`], [`Calibration`], [`log_loss`],
//!   [`brier_score`], [`Bootstrap`] intervals, and [`Summary`], which gathers them for JSON.
//! - [`LogitScaling`]: temperature and vector scaling, fitted.
//!
//! Tensors are written `(B, T, …)`: clips, frames. Coordinates of labels and
//! predictions are fractions of the frame. No model is known here, and nothing
//! panics: input that cannot be measured, such as none at all or a NaN, is an
//! [`Error`] that says what is wrong with it.

mod action_units;
mod bootstrap;
mod calibration;
mod config;
mod confusion;
mod contrast;
mod cross_entropy;
mod error;
mod landmarks;
mod loss;
mod masked_mse;
mod overlap;
mod proper;
mod scaling;
mod summary;

pub use action_units::Agreement;
pub use bootstrap::{Bootstrap, Difference, Interval, holm};
pub use calibration::{Calibration, ReliabilityBin, TopLabels};
pub use config::{Config, Unit, Weighting, Weights};
pub use confusion::ConfusionMatrix;
pub use contrast::Contrast;
pub use cross_entropy::{Class, cross_entropy};
pub use error::Error;
pub use landmarks::landmark_nme;
pub use loss::{Heads, LogVariances, Losses, Objective, Targets, UnitTargets};
pub use masked_mse::masked_mse;
pub use mtcae_nn::candle_core;
pub use overlap::box_iou;
pub use proper::{Selective, brier_score, log_loss};
pub use scaling::{LogitScaling, RIDGE};
pub use summary::{ClassSummary, Summary, UnitSummary};
