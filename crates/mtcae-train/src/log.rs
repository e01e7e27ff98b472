//! The log of a run: `metrics.jsonl`, one line a step and one an epoch.

use mtcae_core::files::{At, FileError};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::learner::Told;
use crate::{Error, Event, Parts};

/// Bytes of the largest log: ten million steps.
const LARGEST: u64 = 4 << 30;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// A step of the optimiser.
    Step(StepLine),
    /// The end of an epoch.
    Epoch(EpochLine),
}

/// A step of the optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// From 0.
    pub step: u64,
    /// From 0.
    pub epoch: usize,
    /// Learning rate before the groups' factors.
    pub lr: f64,
    /// The weighted loss.
    pub loss: f64,
    /// Mean squared error of the boxes, not weighted; `null` without such a head, or
    /// where all clips were cut together and no face is whole.
    pub boxes: Option<f64>,
    /// Mean squared error of the landmarks.
    pub landmarks: Option<f64>,
    /// Mean squared error of the action units; none without such a head, or where none are
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_units: Option<f64>,
    /// Cross-entropy of the expression, in nats.
    pub expression: f64,
    /// MTFormer's loss between tasks, not weighted; none where it has no weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrastive: Option<f64>,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// What its time was spent on, where that is asked for (`times`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

/// The end of an epoch. Losses are means over its clips; those of boxes and
/// landmarks over the clips of batches with whole faces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochLine {
    /// From 0.
    pub epoch: usize,
    /// The weighted loss.
    pub loss: f64,
    /// As in [`StepLine`].
    pub boxes: Option<f64>,
    /// As in [`StepLine`].
    pub landmarks: Option<f64>,
    /// As in [`StepLine`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_units: Option<f64>,
    /// As in [`StepLine`].
    pub expression: f64,
    /// As in [`StepLine`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrastive: Option<f64>,
    /// Share of the training clips, as they were augmented, that were recognised
    /// (not counting mixed ones).
    pub accuracy: Option<f64>,
    /// Norm of each task's weighted gradient on F, on the epoch's first batch with
    /// whole faces.
    pub gradients: Option<TaskNorms>,
    /// The validation subjects.
    pub validation: Option<Validation>,
    /// Seconds that the epoch took.
    pub seconds: f64,
    /// Share of them that the model waited for clips.
    pub waiting: f64,
    /// Training clips a second.
    pub clips_per_second: f64,
    /// What the seconds were spent on; none in logs of before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

impl Told for Line {
    fn event(&self) -> Event<'_> {
        match self {
            Self::Step(line) => Event::Step(line),
            Self::Epoch(line) => Event::Epoch(line),
        }
    }
}

/// Norms of the tasks' weighted gradients on F.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskNorms {
    /// ‖∂(λ_B · L_B)/∂F‖.
    pub boxes: Option<f64>,
    /// ‖∂(λ_P · L_P)/∂F‖.
    pub landmarks: Option<f64>,
    /// ‖∂(λ_A · L_A)/∂F‖.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_units: Option<f64>,
    /// ‖∂(λ_E · L_E)/∂F‖.
    pub expression: f64,
}

/// What the model does on the validation subjects.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The weighted loss.
    pub loss: f64,
    /// Unweighted average recall.
    pub uar: f64,
    /// Accuracy.
    pub war: f64,
    /// Mean overlap of the boxes.
    pub mean_iou: Option<f64>,
    /// Normalised mean error of the landmarks.
    pub nme: Option<f64>,
}

/// Appends lines to a log.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Log {
    /// Goes on after the first `length` bytes; what came after them belongs to
    /// steps that were lost and will be taken again.
    pub fn open(path: &Path, length: u64) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(path).at(path)?;
        let found = file.metadata().at(path)?.len();
        if found < length {
            let reason = format!("has {found} bytes; the saved state belongs to {length} or more");
            return Err(FileError::new(path, reason).into());
        }
        file.set_len(length).at(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
        })
    }

    /// Bytes written.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn write(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_vec(line).at(&self.path)?;
        text.push(b'\n');
        self.file.write_all(&text).at(&self.path)?;
        self.length += text.len() as u64;
        Ok(())
    }

    /// Waits until the disk has what was written: a state must never be there
    /// without the lines that it counts on.
    pub fn sync(&self) -> Result<(), Error> {
        Ok(self.file.sync_data().at(&self.path)?)
    }
}

/// Reads a log.
///
/// # Errors
/// Names the file and the line that is broken.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Line>, Error> {
    let path = path.as_ref();
    let text = mtcae_core::files::read_to_string(path, LARGEST).at(path)?;
    let parse = |(i, line)| {
        serde_json::from_str(line)
            .map_err(|e| Error::File(FileError::new(path, format!("line {}: {e}", i + 1))))
    };
    text.lines().enumerate().map(parse).collect()
}
