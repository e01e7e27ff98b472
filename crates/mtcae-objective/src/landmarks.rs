//! How far landmarks are off.

use crate::Error;
use crate::error::finite;

/// Normalised mean error of one face: the mean distance of its five points from
/// the true ones, over the true distance between the eyes (points 0 and 1).
///
/// Points are x, y as fractions of the frame; `aspect` is the frame's width over
/// its height in pixels, because a distance is one of pixels: in a wide frame a
/// hundredth of the width is more than a hundredth of the height.
///
/// # Errors
/// [`Error::Value`] when a number is not finite, the aspect is not positive, or
/// the true eyes are one point.
pub fn landmark_nme(
    predicted: &[[f64; 2]; 5],
    truth: &[[f64; 2]; 5],
    aspect: f64,
) -> Result<f64, Error> {
    finite("predicted landmarks of face", 0, predicted.as_flattened())?;
    finite("true landmarks of face", 0, truth.as_flattened())?;
    if !(aspect.is_finite() && aspect > 0.0) {
        return Err(Error::Value {
            what: "aspect of face",
            index: 0,
            reason: format!("must be positive, not {aspect}"),
        });
    }
    // In units of the frame's height, which the ratio takes out again.
    let distance = |a: &[f64; 2], b: &[f64; 2]| (aspect * (a[0] - b[0])).hypot(a[1] - b[1]);
    let eyes = distance(&truth[0], &truth[1]);
    if eyes == 0.0 {
        return Err(Error::Value {
            what: "true landmarks of face",
            index: 0,
            reason: "both eyes are one point, so there is no distance to divide by".to_owned(),
        });
    }
    let sum: f64 = predicted
        .iter()
        .zip(truth)
        .map(|(p, t)| distance(p, t))
        .sum();
    let nme = sum / 5.0 / eyes;
    finite("error of face", 0, [&nme])?;
    Ok(nme)
}
