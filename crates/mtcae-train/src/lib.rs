//! Training MTCAE-DFER.
//!
//! - [`TrainConfig`]: all settings; [`Recipe`]: their defaults, the paper's, VideoMAE's and those
//!   of the systems that the paper is compared with.
//! - [`Dataset`]: labelled clips, folds, validation subjects.
//! - [`fit()`]: one run on one split, which can be stopped at any moment and
//!   resumed to the bit on the same kind of CPU.
//! - [`pretrain()`]: an encoder on [`Videos`] that nobody has labelled.
//! - [`FeatureCache`]: F of a frozen encoder, computed once.
//! - [`predict`], [`summarise`]: what a model says of labelled clips, measured.
//! - [`calibrate`]: probabilities that can be believed, of people whom a model does not know.
//! - [`cross_validate`], [`ablate`]: the paper's protocol.
//! - [`compare`]: the systems that the paper compares with, under the same.
//!
//! Nothing is printed: what happens comes to the caller's callback as an
//! [`Event`].

mod ablation;
mod action_units;
mod average;
mod batch;
mod cache;
mod calibrate;
mod card;
mod choices;
mod clock;
pub mod compare;
mod config;
mod cropped;
mod cross_validation;
mod cut;
mod data;
mod digest;
mod disk;
mod erase;
mod error;
mod event;
mod events;
mod fit;
mod folder;
mod folds;
mod form;
mod learner;
pub mod log;
mod logs;
mod loss;
mod masked;
mod memory;
mod optimiser;
mod people;
mod photo;
mod predict;
mod prefetch;
pub mod published;
mod rand_augment;
mod random;
mod ranks;
mod recipes;
mod report;
mod schedule;
mod start;
mod state;
mod sums;
mod supervised;
mod task;
mod view;

pub use ablation::{Ablation, ablate};
pub use action_units::Units;
pub use batch::{Batch, Input, Loading, Source};
pub use cache::FeatureCache;
pub use calibrate::{Belief, Calibrated, Scaling, calibrate};
pub use card::{Alike, Noted};
pub use choices::{ClassWeights, EraseFill, Keep, Range, Tune, Unit, Weighting};
pub use clock::{Left, Parts};
pub use config::{FIELDS, Field, TrainConfig};
pub use cross_validation::{cross_validate, cross_validate_together};
pub use data::{Dataset, Item, Selection, Split};
pub use error::Error;
pub use event::{Event, Watch};
pub use folder::{EVENTS, LOG, PREDICTIONS, STATE};
pub use folds::{CrossValidation, FoldResult};
pub use masked::{
    Footage, MaskedEpoch, MaskedLine, MaskedStart, MaskedStep, MaskedValidation, Pretrained,
    Pretraining, Scales, Videos, pretrain, pretrain_together,
};
pub use mtcae_objective as objective;
pub use optimiser::Method;
pub use people::Acquaintance;
pub use predict::{
    ClipResult, predict, predict_together, read_table, summarise, summarise_units, write_table,
};
pub use rand_augment::RandAugment;
pub use ranks::Ranks;
pub use recipes::Recipe;
pub use report::{About, Report, Spread, capital, chance, published_table};
pub use schedule::{Epochs, Schedule};
pub use start::{Start, Started, group};
pub use supervised::{Fitted, Run, fit, fit_together};
pub use task::Task;
pub use view::{Augment, Frames, Viewer};
