//! How well boxes overlap.

use mtcae_core::iou;

use crate::Error;
use crate::error::{finite, same_length};

/// [`iou`] of two boxes x1, y1, x2, y2.
///
/// # Errors
/// [`Error::Value`] when a coordinate or an area is not finite.
pub fn box_iou(a: [f64; 4], b: [f64; 4]) -> Result<f64, Error> {
    finite("box", 0, &a)?;
    finite("box", 1, &b)?;
    overlap(a, b, 0)
}

/// The mean of [`box_iou`] over pairs.
///
/// # Errors
/// When there is no pair, the lists differ in length, or a coordinate is not
/// finite.
pub fn mean_box_iou(predicted: &[[f64; 4]], truth: &[[f64; 4]]) -> Result<f64, Error> {
    same_length("predicted boxes", truth.len(), predicted.len())?;
    if truth.is_empty() {
        return Err(Error::Empty { what: "boxes" });
    }
    let mut sum = 0.0;
    for (i, (p, t)) in predicted.iter().zip(truth).enumerate() {
        finite("predicted box", i, p)?;
        finite("true box", i, t)?;
        sum += overlap(*p, *t, i)?;
    }
    Ok(sum / truth.len() as f64)
}

fn overlap(a: [f64; 4], b: [f64; 4], index: usize) -> Result<f64, Error> {
    iou(a, b).ok_or_else(|| Error::Value {
        what: "boxes",
        index,
        reason: "their areas overflow".to_owned(),
    })
}
