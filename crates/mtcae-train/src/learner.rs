//! The seam between the loop and what is learned: [`fit`](crate::fit) asks a [`Learner`] for all
//! that depends on the task, and knows none itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use mtcae_nn::Pass;
use mtcae_viz::Canvas;
use rand::seq::SliceRandom;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::event::{Event, Watch};
use crate::optimiser::Optimiser;
use crate::{Error, Ranks, TrainConfig, random};

/// A batch of an epoch: one leaf of a step's sum of gradients.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// From 0.
    pub epoch: usize,
    /// Its place in the epoch, from 0.
    pub number: usize,
    /// Its clips, by their places.
    pub clips: Vec<usize>,
}

/// How a batch is prepared by threads in the background.
pub(crate) type Loader<T> = Arc<dyn Fn(&Leaf) -> Result<T, Error> + Send + Sync>;

/// A batch on its way through the model.
pub(crate) struct Forward<M> {
    /// The mean loss over its clips, a scalar.
    pub loss: Tensor,
    /// The pass that it was computed in, which may have collected gradients.
    pub pass: Pass,
    /// What is to be known of it, still on the device.
    pub measured: M,
}

/// What is learned from which clips. All that it draws depends on the config's seed, the epoch
/// and the batch or clip alone: a run that is resumed draws the same.
pub(crate) trait Learner: Send + Sync + Sized {
    /// A batch as threads in the background hand it on.
    type Loaded: Send + 'static;
    /// What is measured of a batch, read back once a step is under way.
    type Measured: Send;
    /// What a batch, a step and an epoch add up.
    type Sums: Sums<Validation = Self::Validation>;
    /// What is measured on clips that are not trained on.
    type Validation;

    fn config(&self) -> &TrainConfig;

    fn device(&self) -> &Device;

    /// What a state must agree with to be gone on from, by name: JSON or digests.
    fn identity(&self) -> &BTreeMap<String, String>;

    /// What is trained, sorted by name but for numbers of the loss itself, which come last.
    fn trained(&self) -> &[(String, Var)];

    /// What moves without a gradient, as running means.
    fn followed(&self) -> &[(String, Var)];

    /// What moves the weights.
    fn optimiser(&self) -> Result<Optimiser, Error>;

    /// What the user should know before the first step.
    fn notices(&self) -> Vec<String>;

    /// Batches of an epoch.
    fn batches(&self) -> usize;

    /// The batches of an epoch: every clip once, in an order of the epoch's own.
    fn order(&self, epoch: usize) -> Vec<Vec<usize>>;

    /// What prepares a batch.
    fn loader(&self) -> Loader<Self::Loaded>;

    /// A clip's name, for messages.
    fn clip(&self, place: usize) -> &str;

    /// The loss of a batch. `so_far` is what the epoch has added up before this step.
    fn forward(
        &mut self,
        leaf: &Leaf,
        loaded: Self::Loaded,
        so_far: &Self::Sums,
    ) -> Result<Forward<Self::Measured>, Error>;

    /// The sums of a batch of which this was measured.
    fn sums(&self, measured: &Self::Measured) -> Result<Self::Sums, Error>;

    /// What the user should know of a step that added up to these numbers.
    fn news(&mut self, _: &Self::Sums) -> Vec<String> {
        Vec::new()
    }

    /// By the weights as they are; `None` where no clips are kept for it. Each rank measures some
    /// of the clips, all get the same.
    fn validate(
        &self,
        ranks: Ranks<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Self::Validation>, Error>;

    /// A picture at the end of an epoch, by the weights as they are; `None` where none is due.
    fn picture(&self, _epoch: usize) -> Result<Option<Drawn>, Error> {
        Ok(None)
    }
}

/// A picture of what a model does.
pub(crate) struct Drawn {
    /// The folder of such pictures, in that of the run.
    pub folder: &'static str,
    pub picture: Canvas,
}

/// Sums over clips. Part of the saved state.
pub(crate) trait Sums: Clone + Default + Sync + Serialize + DeserializeOwned {
    type Validation;
    /// A line of the log.
    type Line: Told;

    /// Adds those of clips that come after.
    fn add(&mut self, other: &Self);

    /// How many clips they are of.
    fn clips(&self) -> f64;

    /// The mean losses over the clips, each with its name: what must be a number.
    fn losses(&self) -> Vec<(&'static str, f64)>;

    /// The line of a step.
    fn step(&self, facts: StepFacts) -> Self::Line;

    /// The line of an epoch.
    fn epoch(
        &self,
        epoch: usize,
        clock: &Clock,
        validation: Option<Self::Validation>,
    ) -> Self::Line;

    /// By which epoch's weights are kept as the best: the higher the better.
    fn score(validation: &Self::Validation) -> f64;
}

/// What the loop knows of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepFacts {
    pub step: u64,
    pub epoch: usize,
    pub lr: f64,
    pub gradient_norm: f64,
    /// What it took, where the log is to say it.
    pub clock: Option<Clock>,
}

/// A line of a log, which callers are told as an event.
pub(crate) trait Told: Serialize {
    fn event(&self) -> Event<'_>;
}

/// The batches of an epoch: all of these places, in an order that depends on the seed and the
/// epoch. The last one may be smaller.
pub(crate) fn ordered(places: &[usize], seed: u64, epoch: usize, batch: usize) -> Vec<Vec<usize>> {
    let mut order = places.to_vec();
    order.shuffle(&mut random::generator("order", &[seed, epoch as u64]));
    order.chunks(batch).map(<[usize]>::to_vec).collect()
}
