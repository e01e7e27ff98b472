//! The loss that a run's settings ask for.

use mtcae_objective::{Config, Objective, Unit as LossUnit, Weights};

use crate::data::Dataset;
use crate::{ClassWeights, Error, TrainConfig, Unit};

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
            box_unit: unit,
            landmark_unit: unit,
            class_weights,
            label_smoothing: self.smoothing,
        })?)
    }
}
