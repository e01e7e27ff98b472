//! How a model's logits become probabilities that can be believed.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Logits z become `scale · z + bias`, class by class, before softmax: temperature scaling
/// where all factors are 1/T and no bias is given, else vector scaling (Guo et al., 2017,
/// "On calibration of modern neural networks").
///
/// Logits themselves stay as they are in [`Outputs`](crate::Outputs), in traces and in
/// whatever is exported: this is applied where they become probabilities, and nowhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// A factor for each class, in the order of the logits; finite and positive.
    pub scale: Vec<f64>,
    /// What is added then, for each class; finite. `None` adds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<Vec<f64>>,
    /// What it was fitted on, in the writer's words.
    pub fitted_on: String,
}

impl Calibration {
    /// Checks every field, for a model of so many classes.
    ///
    /// # Errors
    /// Names the field at fault.
    pub(crate) fn validate(&self, classes: usize) -> Result<(), Error> {
        let fault = |field, reason| Err(Error::Config { field, reason });
        const SCALE: &str = "calibration.scale";
        const BIAS: &str = "calibration.bias";
        let bias = self.bias.as_ref();
        for (field, found) in [(SCALE, Some(&self.scale)), (BIAS, bias)] {
            if let Some(found) = found.filter(|v| v.len() != classes) {
                let n = found.len();
                return fault(
                    field,
                    format!("has {n} numbers, not {classes}, one a class"),
                );
            }
        }
        // What is computed with is f32.
        let usable = |v: f64| (v as f32).is_finite();
        if let Some(v) = self
            .scale
            .iter()
            .find(|v| !usable(**v) || (**v as f32) <= 0.0)
        {
            return fault(
                SCALE,
                format!("holds {v}; factors must be finite and positive"),
            );
        }
        if let Some(v) = bias.into_iter().flatten().find(|v| !usable(**v)) {
            return fault(BIAS, format!("holds {v}; biases must be finite"));
        }
        Ok(())
    }

    /// Scaled logits (B, C) of raw ones, of `f32`.
    pub(crate) fn apply(&self, logits: &Tensor) -> Result<Tensor, candle_core::Error> {
        let row = |values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            Tensor::new(values, logits.device())
        };
        let scaled = logits.broadcast_mul(&row(&self.scale)?)?;
        match &self.bias {
            Some(bias) => scaled.broadcast_add(&row(bias)?),
            None => Ok(scaled),
        }
    }
}
