//! How well boxes overlap.

use mtcae_core::iou;

use crate::Error;
use crate::error::finite;

/// [`iou`] of two boxes x1, y1, x2, y2.
///
/// # Errors
/// [`Error::Value`] when a coordinate or an area is not finite.
pub fn box_iou(a: [f64; 4], b: [f64; 4]) -> Result<f64, Error> {
    finite("box", 0, &a)?;
    finite("box", 1, &b)?;
    iou(a, b).ok_or_else(|| Error::Value {
        what: "boxes",
        index: 0,
        reason: "their areas overflow".to_owned(),
    })
}
