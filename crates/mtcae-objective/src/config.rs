//! What the loss is made of.

use serde::{Deserialize, Serialize};

use crate::Error;

/// How much each task counts in the total: λ_B, λ_P, λ_E of the paper, and λ_A of the action
/// units, which the paper does not have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Face boxes.
    pub boxes: f64,
    /// Landmarks.
    pub landmarks: f64,
    /// Action units.
    pub action_units: f64,
    /// Expression.
    pub expression: f64,
}

impl Default for Weights {
    /// The paper's 0.5, 0.5 and 1.5; action units count as boxes do.
    fn default() -> Self {
        Self {
            boxes: 0.5,
            landmarks: 0.5,
            action_units: 0.5,
            expression: 1.5,
        }
    }
}

/// In what the error of a coordinate is measured before it is squared.
///
/// The paper does not say. In pixels of a 224-pixel frame the squared error is
/// 224² = 50,176 times that in fractions, which shifts the balance of the tasks
/// as much as if the weight were that much larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Fractions of the frame, as the coordinates are.
    #[default]
    Fraction,
    /// Pixels of the model's square frame of this many pixels a side.
    Pixel(u32),
}

impl Unit {
    /// How many of this unit span the frame.
    pub fn per_frame(self) -> f64 {
        match self {
            Self::Fraction => 1.0,
            Self::Pixel(side) => f64::from(side),
        }
    }
}

/// How the losses of the tasks are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// Σ w·L: each by its weight.
    #[default]
    Fixed,
    /// Σ w·e^(−s)·L + s, where each task's s = log σ² is learned: what a task leaves
    /// unexplained counts less (Kendall, Gal and Cipolla, 2018, arXiv 1705.07115). See
    /// [`Objective::learning`](crate::Objective::learning).
    Uncertainty,
}

/// Everything that decides the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How much each task counts.
    pub weights: Weights,
    /// How they are added up.
    pub weighting: Weighting,
    /// The unit of the error of boxes.
    pub box_unit: Unit,
    /// The unit of the error of landmarks.
    pub landmark_unit: Unit,
    /// How much a clip of each class counts in the cross-entropy; one number a
    /// class. `None` counts all alike.
    pub class_weights: Option<Vec<f64>>,
    /// Share of a target's probability that is spread evenly over all classes, in
    /// [0, 1].
    pub label_smoothing: f64,
}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field at fault.
    pub fn validate(&self) -> Result<(), Error> {
        let fault = |field, reason: String| Err(Error::Config { field, reason });
        let weights = [
            ("weights.boxes", self.weights.boxes),
            ("weights.landmarks", self.weights.landmarks),
            ("weights.action_units", self.weights.action_units),
            ("weights.expression", self.weights.expression),
        ];
        for (field, weight) in weights {
            if !(weight.is_finite() && weight >= 0.0) {
                return fault(
                    field,
                    format!("must be finite and at least 0, not {weight}"),
                );
            }
        }
        if weights.iter().all(|(_, w)| *w == 0.0) {
            return fault("weights", "one of them must be above 0".to_owned());
        }
        for (field, unit) in [
            ("box_unit", self.box_unit),
            ("landmark_unit", self.landmark_unit),
        ] {
            if unit == Unit::Pixel(0) {
                return fault(field, "a frame has at least 1 pixel a side".to_owned());
            }
        }
        if let Some(weights) = &self.class_weights {
            if let Some(w) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
                return fault(
                    "class_weights",
                    format!("must be finite and at least 0, not {w}"),
                );
            }
            if weights.iter().all(|w| *w == 0.0) {
                return fault("class_weights", "one of them must be above 0".to_owned());
            }
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return fault(
                "label_smoothing",
                format!("must be in [0, 1], not {}", self.label_smoothing),
            );
        }
        Ok(())
    }
}
