//! How well boxes overlap.

use crate::Error;
use crate::error::{finite, same_length};

/// Intersection over union of two boxes x1, y1, x2, y2, in [0, 1].
///
/// It does not depend on the unit nor on the frame's aspect: fractions and pixels
/// give the same. A box whose corners are in the wrong order is empty; two empty
/// boxes have an overlap of 0.
///
/// # Errors
/// [`Error::Value`] when a coordinate is not finite.
pub fn box_iou(a: [f64; 4], b: [f64; 4]) -> Result<f64, Error> {
    finite("box", 0, &a)?;
    finite("box", 1, &b)?;
    iou(a, b, 0)
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
        sum += iou(*p, *t, i)?;
    }
    Ok(sum / truth.len() as f64)
}

fn iou(a: [f64; 4], b: [f64; 4], index: usize) -> Result<f64, Error> {
    let area = |[x1, y1, x2, y2]: [f64; 4]| (x2 - x1).max(0.0) * (y2 - y1).max(0.0);
    let both = area([
        a[0].max(b[0]),
        a[1].max(b[1]),
        a[2].min(b[2]),
        a[3].min(b[3]),
    ]);
    let either = area(a) + area(b) - both;
    if !either.is_finite() {
        return Err(Error::Value {
            what: "boxes",
            index,
            reason: "their areas overflow".to_owned(),
        });
    }
    Ok(if both > 0.0 { both / either } else { 0.0 })
}
