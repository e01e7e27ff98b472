//! What a cross-validation is of, and what each of its folds gives.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use mtcae_core::Sampling;
use mtcae_objective::Summary;
use serde::{Deserialize, Serialize};

use crate::TrainConfig;
use crate::data::Dataset;
use crate::start::Start;

/// A cross-validation and where its files go.
pub struct CrossValidation<'a> {
    /// Its folder: `fold-0` and so on below it, the report in it.
    pub folder: &'a Path,
    /// Where each fold's weights begin.
    pub start: &'a Start,
    /// The labelled clips.
    pub data: &'a Arc<Dataset>,
    /// Where features are kept, for a frozen encoder; `None` for none.
    pub cache: Option<&'a Path>,
    /// Whether each fold's model is written as a checkpoint.
    pub save_models: bool,
    /// Which frames it is tested on; `None` for those that it is trained on.
    pub test: Option<Sampling>,
    /// How.
    pub config: &'a TrainConfig,
    /// Where.
    pub device: &'a Device,
}

/// The outcome of one fold; `fold.json` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldResult {
    /// The fold that was held out, from 0.
    pub fold: u32,
    /// Clips trained on.
    pub train: usize,
    /// Clips of the validation subjects.
    pub validation: usize,
    /// Clips tested on.
    pub test: usize,
    /// The epoch whose weights were tested, from 0.
    pub epoch: usize,
    /// Trained parameters.
    pub parameters: usize,
    /// The measures of the held-out fold.
    pub summary: Summary,
}
