//! What an epoch adds up, batch by batch.

use mtcae_model::Outputs;
use mtcae_objective::{Class, Losses};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::batch::Batch;
use crate::log::{EpochLine, StepLine, TaskNorms, Validation};
use crate::predict::scalar;

/// Sums over clips. Part of the saved state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    pub clips: f64,
    /// Those in batches with a face to learn from: a cut batch has none.
    pub faces: f64,
    pub loss: f64,
    pub boxes: f64,
    pub landmarks: f64,
    pub expression: f64,
    /// Clips that were not mixed, and how many of them were recognised.
    pub plain: u64,
    pub right: u64,
    /// Whether there are heads for boxes and landmarks.
    pub multi: bool,
    pub gradients: Option<TaskNorms>,
    pub seconds: f64,
    pub waited: f64,
}

/// Whether a frame of the batch has a face to learn from.
pub fn has_faces(batch: &Batch) -> Result<bool, Error> {
    Ok(scalar(&batch.targets.valid.sum_all()?)? > 0.0)
}

impl Sums {
    /// Those of one batch.
    pub fn of(batch: &Batch, outputs: &Outputs, losses: &Losses) -> Result<Self, Error> {
        let clips = batch.items.len() as f64;
        let sum = |loss: &_| scalar(loss).map(|mean| mean * clips);
        let (mut plain, mut right) = (0, 0);
        let faces = match has_faces(batch)? {
            true => clips,
            false => 0.0,
        };
        if let Class::Index(truth) = &batch.targets.class {
            let truth: Vec<u32> = truth.to_vec1()?;
            let predicted: Vec<u32> = outputs.logits.argmax(1)?.to_vec1()?;
            plain = truth.len() as u64;
            right = truth.iter().zip(&predicted).filter(|(a, b)| a == b).count() as u64;
        }
        Ok(Self {
            clips,
            faces,
            loss: sum(&losses.total)?,
            boxes: losses.boxes.as_ref().map_or(Ok(0.0), sum)?,
            landmarks: losses.landmarks.as_ref().map_or(Ok(0.0), sum)?,
            expression: sum(&losses.expression)?,
            plain,
            right,
            multi: losses.boxes.is_some(),
            ..Self::default()
        })
    }

    /// Adds other clips' losses.
    pub fn add(&mut self, other: &Self) {
        self.clips += other.clips;
        self.faces += other.faces;
        self.loss += other.loss;
        self.boxes += other.boxes;
        self.landmarks += other.landmarks;
        self.expression += other.expression;
        self.plain += other.plain;
        self.right += other.right;
        self.multi |= other.multi;
    }

    /// The means, as a step's line in the log.
    pub fn step(&self, step: u64, epoch: usize, lr: f64, gradient_norm: f64) -> StepLine {
        StepLine {
            step,
            epoch,
            lr,
            loss: self.mean(self.loss),
            boxes: self.over_faces(self.boxes),
            landmarks: self.over_faces(self.landmarks),
            expression: self.mean(self.expression),
            gradient_norm,
        }
    }

    /// The means, as an epoch's line in the log.
    pub fn epoch(&self, epoch: usize, validation: Option<Validation>) -> EpochLine {
        EpochLine {
            epoch,
            loss: self.mean(self.loss),
            boxes: self.over_faces(self.boxes),
            landmarks: self.over_faces(self.landmarks),
            expression: self.mean(self.expression),
            accuracy: (self.plain > 0).then(|| self.right as f64 / self.plain as f64),
            gradients: self.gradients,
            validation,
            seconds: self.seconds,
            waiting: self.waited / self.seconds.max(1e-9),
            clips_per_second: self.clips / self.seconds.max(1e-9),
        }
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.clips.max(1.0)
    }

    fn over_faces(&self, sum: f64) -> Option<f64> {
        (self.multi && self.faces > 0.0).then(|| sum / self.faces)
    }
}
