//! What masked pre-training adds up, and how its log says it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::learner::{self, StepFacts, Told};
use crate::{Event, Parts};

/// A line of the log of a pre-training: `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum MaskedLine {
    /// A step of the optimiser.
    Step(MaskedStep),
    /// The end of an epoch.
    Epoch(MaskedEpoch),
}

/// A step of the optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedStep {
    /// From 0.
    pub step: u64,
    /// From 0.
    pub epoch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Mean squared error over the numbers of the masked tubes; of normalised targets that of
    /// each tube's mean is 1.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// What its time was spent on, where that is asked for (`times`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

/// The end of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedEpoch {
    /// From 0.
    pub epoch: usize,
    /// Mean over its clips, as in [`MaskedStep`].
    pub loss: f64,
    /// The videos that are kept for it.
    pub validation: Option<MaskedValidation>,
    /// Clips of other videos that stand for those that cannot be read.
    pub replaced: u64,
    /// Seconds that the epoch took.
    pub seconds: f64,
    /// Share of them that the model waited for clips.
    pub waiting: f64,
    /// Clips a second.
    pub clips_per_second: f64,
    /// What the seconds were spent on.
    pub parts: Parts,
}

/// What a model makes of the videos that it is not trained on, under masks that stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedValidation {
    /// As in [`MaskedStep`].
    pub loss: f64,
}

impl Told for MaskedLine {
    fn event(&self) -> Event<'_> {
        match self {
            Self::Step(line) => Event::MaskedStep(line),
            Self::Epoch(line) => Event::MaskedEpoch(line),
        }
    }
}

/// Sums over clips. Part of the saved state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MaskedSums {
    pub clips: f64,
    pub loss: f64,
    pub replaced: u64,
    /// What could not be read, a line each.
    #[serde(default)]
    pub faults: BTreeSet<String>,
}

/// Lines about what cannot be read that are kept of an epoch.
const MOST_FAULTS: usize = 100;

impl MaskedSums {
    fn mean(&self) -> f64 {
        self.loss / self.clips.max(1.0)
    }
}

impl learner::Sums for MaskedSums {
    type Validation = MaskedValidation;
    type Line = MaskedLine;

    fn add(&mut self, other: &Self) {
        self.clips += other.clips;
        self.loss += other.loss;
        self.replaced += other.replaced;
        let room = MOST_FAULTS.saturating_sub(self.faults.len());
        self.faults.extend(other.faults.iter().take(room).cloned());
    }

    fn clips(&self) -> f64 {
        self.clips
    }

    fn losses(&self) -> Vec<(&'static str, f64)> {
        vec![("the loss", self.mean())]
    }

    fn step(&self, facts: StepFacts) -> MaskedLine {
        MaskedLine::Step(MaskedStep {
            step: facts.step,
            epoch: facts.epoch,
            lr: facts.lr,
            loss: self.mean(),
            gradient_norm: facts.gradient_norm,
            parts: facts.clock.map(|clock| clock.parts()),
        })
    }

    fn epoch(
        &self,
        epoch: usize,
        clock: &Clock,
        validation: Option<MaskedValidation>,
    ) -> MaskedLine {
        MaskedLine::Epoch(MaskedEpoch {
            epoch,
            loss: self.mean(),
            validation,
            replaced: self.replaced,
            seconds: clock.seconds,
            waiting: clock.waiting(),
            clips_per_second: clock.rate(self.clips),
            parts: clock.parts(),
        })
    }

    fn score(validation: &MaskedValidation) -> f64 {
        -validation.loss
    }
}
