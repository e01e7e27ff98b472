//! What an epoch adds up, batch by batch.

use candle_core::{DType, Tensor};
use mtcae_model::Outputs;
use mtcae_objective::{Class, Losses};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::batch::Batch;
use crate::clock::Clock;
use crate::learner::{self, StepFacts};
use crate::log::{EpochLine, Line, StepLine, TaskNorms, Validation};

/// What is known of a batch without its tensors.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub clips: usize,
    pub has_faces: bool,
    pub is_mixed: bool,
    /// Whether there are heads for boxes and landmarks.
    pub is_multi: bool,
    /// Whether there is a head for action units, and a clip of which they are known.
    pub has_units: bool,
    /// Whether there is a loss between tasks.
    pub has_contrast: bool,
}

/// Sums over clips. Part of the saved state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    pub clips: f64,
    /// Those in batches with a face to learn from: a cut batch has none.
    pub faces: f64,
    pub loss: f64,
    pub boxes: f64,
    pub landmarks: f64,
    /// Of the clips in batches where action units are known.
    #[serde(default)]
    pub action_units: f64,
    #[serde(default)]
    pub with_units: f64,
    pub expression: f64,
    /// MTFormer's loss between tasks, where there is one.
    #[serde(default)]
    pub contrastive: Option<f64>,
    /// Clips that were not mixed, and how many of them were recognised.
    pub plain: u64,
    pub right: u64,
    /// Whether there are heads for boxes and landmarks.
    pub multi: bool,
    pub gradients: Option<TaskNorms>,
}

impl Sums {
    /// What is to be known of a batch once it was computed, (7) on its device: the loss,
    /// that of boxes, of landmarks, of action units, of the expression and between tasks, and how
    /// many clips that were not mixed are recognised. It is read back once a step, with all the
    /// rest.
    pub fn measured(
        batch: &Batch,
        outputs: &Outputs,
        losses: &Losses,
        between: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let number = |t: &Tensor| t.detach().to_dtype(DType::F32)?.reshape(1);
        let zero = Tensor::zeros(1, DType::F32, outputs.logits.device())?;
        let maybe = |t: Option<&Tensor>| t.map_or_else(|| Ok(zero.clone()), number);
        let right = match &batch.targets.class {
            Class::Index(truth) => {
                let predicted = outputs.logits.detach().argmax(1)?;
                let right = predicted.eq(&truth.to_dtype(predicted.dtype())?)?;
                right.to_dtype(DType::F32)?.sum_all()?.reshape(1)?
            }
            Class::Soft(_) => zero.clone(),
        };
        let all = [
            number(&losses.total)?,
            maybe(losses.boxes.as_ref())?,
            maybe(losses.landmarks.as_ref())?,
            maybe(losses.action_units.as_ref())?,
            number(&losses.expression)?,
            maybe(between)?,
            right,
        ];
        Ok(Tensor::cat(&all, 0)?)
    }

    /// Those of one batch, of which this was measured.
    pub fn of(batch: &Facts, measured: &Tensor) -> Result<Self, Error> {
        let clips = batch.clips as f64;
        let values: Vec<f32> = measured.to_vec1()?;
        let sum = |place: usize| f64::from(values[place]) * clips;
        Ok(Self {
            clips,
            faces: if batch.has_faces { clips } else { 0.0 },
            loss: sum(0),
            boxes: sum(1),
            landmarks: sum(2),
            action_units: sum(3),
            with_units: if batch.has_units { clips } else { 0.0 },
            expression: sum(4),
            contrastive: batch.has_contrast.then(|| sum(5)),
            plain: if batch.is_mixed {
                0
            } else {
                batch.clips as u64
            },
            right: values[6] as u64,
            multi: batch.is_multi,
            ..Self::default()
        })
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.clips.max(1.0)
    }

    fn over_units(&self) -> Option<f64> {
        (self.with_units > 0.0).then(|| self.action_units / self.with_units)
    }

    fn over_faces(&self, sum: f64) -> Option<f64> {
        (self.multi && self.faces > 0.0).then(|| sum / self.faces)
    }
}

impl learner::Sums for Sums {
    type Validation = Validation;
    type Line = Line;

    fn add(&mut self, other: &Self) {
        self.clips += other.clips;
        self.faces += other.faces;
        self.loss += other.loss;
        self.boxes += other.boxes;
        self.landmarks += other.landmarks;
        self.action_units += other.action_units;
        self.with_units += other.with_units;
        self.expression += other.expression;
        if let Some(other) = other.contrastive {
            self.contrastive = Some(self.contrastive.unwrap_or(0.0) + other);
        }
        self.plain += other.plain;
        self.right += other.right;
        self.multi |= other.multi;
        // Those of the first batch that has any.
        self.gradients = self.gradients.or(other.gradients);
    }

    fn clips(&self) -> f64 {
        self.clips
    }

    fn losses(&self) -> Vec<(&'static str, f64)> {
        let all = [
            ("the loss of the boxes", self.boxes),
            ("the loss of the landmarks", self.landmarks),
            ("the loss of the action units", self.action_units),
            ("the loss of the expression", self.expression),
            ("the loss between tasks", self.contrastive.unwrap_or(0.0)),
            ("the loss", self.loss),
        ];
        all.map(|(name, sum)| (name, self.mean(sum))).to_vec()
    }

    fn step(&self, facts: StepFacts) -> Line {
        Line::Step(StepLine {
            step: facts.step,
            epoch: facts.epoch,
            lr: facts.lr,
            loss: self.mean(self.loss),
            boxes: self.over_faces(self.boxes),
            landmarks: self.over_faces(self.landmarks),
            action_units: self.over_units(),
            expression: self.mean(self.expression),
            contrastive: self.contrastive.map(|sum| self.mean(sum)),
            gradient_norm: facts.gradient_norm,
            parts: facts.clock.map(|clock| clock.parts()),
        })
    }

    fn epoch(&self, epoch: usize, clock: &Clock, validation: Option<Validation>) -> Line {
        Line::Epoch(EpochLine {
            epoch,
            loss: self.mean(self.loss),
            boxes: self.over_faces(self.boxes),
            landmarks: self.over_faces(self.landmarks),
            action_units: self.over_units(),
            expression: self.mean(self.expression),
            contrastive: self.contrastive.map(|sum| self.mean(sum)),
            accuracy: (self.plain > 0).then(|| self.right as f64 / self.plain as f64),
            gradients: self.gradients,
            validation,
            seconds: clock.seconds,
            waiting: clock.waiting(),
            clips_per_second: clock.rate(self.clips),
            parts: Some(clock.parts()),
        })
    }

    fn score(validation: &Validation) -> f64 {
        validation.uar
    }
}
