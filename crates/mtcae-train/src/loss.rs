//! The loss that a run's settings ask for.

use candle_core::{DType, Device, Var};
use mtcae_model::decoder::Structure;
use mtcae_model::{ACTION_UNITS, Config as ModelConfig, EXPRESSION, FACE_BOX, LANDMARKS};
use mtcae_nn::ParamStore;
use mtcae_objective::{
    Config, Contrast, LogVariances, Objective, Unit as LossUnit, Weighting as LossWeighting,
    Weights,
};

use crate::data::Dataset;
use crate::{ClassWeights, Error, TrainConfig, Unit, Weighting};

impl TrainConfig {
    /// The loss for a model whose frames are `image_size` pixels wide; balanced
    /// classes are counted in the clips at the places `train`.
    ///
    /// # Errors
    /// Names the setting at fault.
    pub fn objective(
        &self,
        data: &Dataset,
        train: &[usize],
        image_size: usize,
    ) -> Result<Objective, Error> {
        let unit = match self.unit {
            Unit::Fraction => LossUnit::Fraction,
            Unit::Pixel => LossUnit::Pixel(image_size as u32),
        };
        let class_weights = match self.class_weights {
            ClassWeights::Equal => None,
            ClassWeights::Balanced => {
                let classes = data.classes.len();
                let mut counts = vec![0usize; classes];
                for &i in train {
                    counts[data.items[i].class] += 1;
                }
                let there = counts.iter().filter(|n| **n > 0).count();
                let even = train.len() as f64 / there.max(1) as f64;
                let weight = |&n: &usize| if n == 0 { 0.0 } else { even / n as f64 };
                Some(counts.iter().map(weight).collect())
            }
        };
        Ok(Objective::new(Config {
            weights: Weights {
                boxes: self.box_weight,
                landmarks: self.landmark_weight,
                action_units: self.action_unit_weight,
                expression: self.expression_weight,
            },
            weighting: match self.weighting {
                Weighting::Fixed => LossWeighting::Fixed,
                Weighting::Uncertainty => LossWeighting::Uncertainty,
            },
            box_unit: unit,
            landmark_unit: unit,
            class_weights,
            label_smoothing: self.smoothing,
        })?)
    }
}

/// What the names of parameters begin with that are the loss's and no model's.
pub(crate) const LEARNED: &str = "loss.";

/// With the numbers that the loss learns among what is trained: one for each of the model's
/// tasks, from 0 on. They are no part of what is written.
pub(crate) fn learning(
    objective: Objective,
    model: &ModelConfig,
    trained: &mut Vec<(String, Var)>,
    device: &Device,
) -> Result<Objective, Error> {
    if objective.config().weighting != LossWeighting::Uncertainty {
        return Ok(objective);
    }
    let active = model.decoder.active_tasks();
    let mut learned = |task: &str| -> Result<_, Error> {
        if !active.iter().any(|known| known.name == task) {
            return Ok(None);
        }
        let var = Var::zeros(1, DType::F32, device)?;
        let tensor = var.as_tensor().clone();
        trained.push((format!("{LEARNED}log_variance.{task}"), var));
        Ok(Some(tensor))
    };
    let log_variances = LogVariances {
        boxes: learned(FACE_BOX)?,
        landmarks: learned(LANDMARKS)?,
        action_units: learned(ACTION_UNITS)?,
        expression: learned(EXPRESSION)?,
    };
    Ok(objective.learning(log_variances))
}

/// MTFormer's loss between tasks, where the settings give it a weight, with its mappings among what
/// is trained. They are no part of what is written.
///
/// # Errors
/// Names the setting where the model's tasks have no features alike to compare.
pub(crate) fn contrast(
    config: &TrainConfig,
    model: &ModelConfig,
    trained: &mut Vec<(String, Var)>,
    device: &Device,
) -> Result<Option<Contrast>, Error> {
    if config.contrastive == 0.0 {
        return Ok(None);
    }
    let decoder = &model.decoder;
    let alike = decoder.structure.has_stages() || decoder.structure == Structure::MtFormer;
    let tasks: Vec<&str> = decoder.active_tasks().iter().map(|t| &t.name[..]).collect();
    if !alike || tasks.len() < 2 {
        return Err(Error::Config {
            field: "contrastive",
            reason: format!(
                "compares tasks by features of the same width, which {} does not have; 0 leaves it out",
                decoder.structure
            ),
        });
    }
    let store = ParamStore::new(config.seed);
    let vb = store.builder(device).pp(format!("{LEARNED}contrastive"));
    let contrast = Contrast::new(decoder.width, Contrast::WIDTH, &tasks, &vb)?;
    trained.extend(store.vars());
    Ok(Some(contrast))
}
