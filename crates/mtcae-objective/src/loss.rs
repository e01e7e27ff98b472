//! The multi-task loss (paper, section III.D).

use mtcae_nn::candle_core::Tensor;

use crate::{Class, Config, Error, Weighting, cross_entropy, masked_mse};

/// L = λ_B · MSE(boxes) + λ_P · MSE(landmarks) + λ_A · MSE(action units)
/// + λ_E · CE(expression). The paper has no action units.
///
/// Where the config says so, each is weighted by what the model has learned of its noise ([`Weighting::Uncertainty`]).
#[derive(Clone, Debug)]
pub struct Objective {
    config: Config,
    learned: LogVariances,
}

/// s = log σ² of each task's loss, a tensor of one number each; of a task that the model
/// has not, none.
#[derive(Clone, Debug, Default)]
pub struct LogVariances {
    /// Of the boxes.
    pub boxes: Option<Tensor>,
    /// Of the landmarks.
    pub landmarks: Option<Tensor>,
    /// Of the action units.
    pub action_units: Option<Tensor>,
    /// Of the expression.
    pub expression: Option<Tensor>,
}

/// What the heads of a model say of B clips of T frames. A structure that lacks a task has
/// no head for it.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Face boxes (B, T, 4) as fractions of the frame.
    pub boxes: Option<&'a Tensor>,
    /// Landmarks (B, T, 5, 2) as fractions of the frame.
    pub landmarks: Option<&'a Tensor>,
    /// Strengths of U action units (B, T, U).
    pub action_units: Option<&'a Tensor>,
    /// Logits of the expression (B, C).
    pub logits: &'a Tensor,
}

/// Strengths of action units that a batch should give.
#[derive(Clone, Debug)]
pub struct UnitTargets {
    /// (B, T, U), from 0 at rest to 1 at the full strength.
    pub strengths: Tensor,
    /// (B, T), any type: 0 where a frame's are not known, 1 where they are.
    pub known: Tensor,
}

/// What a batch of B clips of T frames should give.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Face boxes (B, T, 4): x1, y1, x2, y2 as fractions of the frame.
    pub boxes: Tensor,
    /// Landmarks (B, T, 5, 2): x, y as fractions of the frame.
    pub landmarks: Tensor,
    /// (B, T), any type: 0 where a frame has no face, 1 where it has. Boxes and
    /// landmarks of frames without a face are not read.
    pub valid: Tensor,
    /// Action units; `None`: of no clip are any known.
    pub action_units: Option<UnitTargets>,
    /// The expression of each clip.
    pub class: Class,
}

/// The parts of the loss, each a scalar that carries gradients.
#[derive(Clone, Debug)]
pub struct Losses {
    /// Mean squared error of the boxes' coordinates, in the config's unit squared,
    /// not weighted. `None` without a head for boxes.
    pub boxes: Option<Tensor>,
    /// The same of the landmarks.
    pub landmarks: Option<Tensor>,
    /// Mean squared error of the known action units. `None` without a head for them, or
    /// where none are known.
    pub action_units: Option<Tensor>,
    /// Cross-entropy of the expression in nats, not weighted.
    pub expression: Tensor,
    /// The weighted sum: what to minimise. With learned weights it can be below 0.
    pub total: Tensor,
}

impl Objective {
    /// The loss of a config.
    ///
    /// # Errors
    /// [`Error::Config`] names the field at fault.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            config,
            learned: LogVariances::default(),
        })
    }

    /// The same loss with the numbers that [`Weighting::Uncertainty`] learns, which get
    /// gradients with the model's parameters. Where they begin at 0, the loss begins as that of
    /// fixed weights. Without this call they are all 0, and stay.
    #[must_use]
    pub fn learning(mut self, log_variances: LogVariances) -> Self {
        self.learned = log_variances;
        self
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The loss of a batch.
    ///
    /// The total of a model with no head but the expression's is the weighted
    /// cross-entropy alone, as in the paper's single-task structure.
    ///
    /// # Errors
    /// Names the tensor whose shape does not fit, or the clip whose class does not
    /// exist.
    pub fn forward(&self, heads: &Heads<'_>, targets: &Targets) -> Result<Losses, Error> {
        let (config, logits) = (&self.config, heads.logits);
        let clips = logits.dims().first().copied().unwrap_or(0);
        let error = |what, predicted: Option<&Tensor>, target: &Tensor, tail: &[usize], unit| {
            let Some(predicted) = predicted else {
                return Ok(None);
            };
            let fits = predicted.rank() == 2 + tail.len()
                && predicted.dims()[0] == clips
                && predicted.dims()[2..] == *tail;
            if !fits {
                let tail: String = tail.iter().map(|n| format!(", {n}")).collect();
                return Err(Error::Shape {
                    what,
                    expected: format!("({clips}, T{tail})"),
                    found: predicted.dims().to_vec(),
                });
            }
            masked_mse(predicted, target, &targets.valid, unit).map(Some)
        };
        let boxes = error(
            "boxes",
            heads.boxes,
            &targets.boxes,
            &[4],
            config.box_unit.per_frame(),
        )?;
        let landmarks = error(
            "landmarks",
            heads.landmarks,
            &targets.landmarks,
            &[5, 2],
            config.landmark_unit.per_frame(),
        )?;
        let action_units = match (heads.action_units, &targets.action_units) {
            (Some(said), Some(UnitTargets { strengths, known })) => {
                Some(masked_mse(said, strengths, known, 1.0)?)
            }
            _ => None,
        };
        let expression = cross_entropy(
            logits,
            &targets.class,
            config.class_weights.as_deref(),
            config.label_smoothing,
        )?;
        // Times a tensor: Candle prunes the graph at a multiplication by the number
        // 0, and a task of weight 0 would have no gradient instead of one of 0.
        let (dtype, device) = (expression.dtype(), logits.device());
        let weighted = |part: &Tensor, weight: f64, learned: &Option<Tensor>| {
            let part = part
                .to_dtype(dtype)?
                .mul(&Tensor::new(weight, device)?.to_dtype(dtype)?)?;
            match (config.weighting, learned) {
                (Weighting::Uncertainty, Some(s)) => {
                    let s = s.reshape(())?.to_dtype(dtype)?;
                    part.mul(&s.neg()?.exp()?)? + s
                }
                _ => Ok(part),
            }
        };
        let learned = &self.learned;
        let mut total = weighted(&expression, config.weights.expression, &learned.expression)?;
        for (part, weight, learned) in [
            (&boxes, config.weights.boxes, &learned.boxes),
            (&landmarks, config.weights.landmarks, &learned.landmarks),
            (
                &action_units,
                config.weights.action_units,
                &learned.action_units,
            ),
        ] {
            if let Some(part) = part {
                total = (total + weighted(part, weight, learned)?)?;
            }
        }
        Ok(Losses {
            boxes,
            landmarks,
            action_units,
            expression,
            total,
        })
    }
}
