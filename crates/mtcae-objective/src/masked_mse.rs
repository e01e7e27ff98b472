//! The mean squared error over frames that have a label.

use mtcae_nn::candle_core::{DType, Tensor};

use crate::Error;

/// Σ valid · (scale · (prediction − target))² over the number of valid
/// coordinates, as a scalar.
///
/// `prediction` and `target` (B, T, …), `valid` (B, T) of any type, where 0 marks
/// a frame without a label. Targets of such frames may be anything, NaN included.
/// Without any valid frame the error is 0, and so is its gradient.
///
/// Half precision is computed in `f32`.
///
/// # Errors
/// [`Error::Shape`] names the tensor whose shape does not fit.
pub fn masked_mse(
    prediction: &Tensor,
    target: &Tensor,
    valid: &Tensor,
    scale: f64,
) -> Result<Tensor, Error> {
    let shape = prediction.dims();
    let [clips, frames, coordinates @ ..] = shape else {
        return Err(Error::Shape {
            what: "the prediction",
            expected: "(B, T, …)".to_owned(),
            found: shape.to_vec(),
        });
    };
    for (what, found, expected) in [
        ("the target", target.dims(), shape),
        ("valid", valid.dims(), &shape[..2]),
    ] {
        if found != expected {
            return Err(Error::Shape {
                what,
                expected: format!("{expected:?}"),
                found: found.to_vec(),
            });
        }
    }
    let (clips, frames) = (*clips, *frames);
    let coordinates: usize = coordinates.iter().product();
    let flat = (clips, frames, coordinates);

    let prediction = widened(prediction)?.reshape(flat)?;
    let dtype = prediction.dtype();
    let valid = valid.detach().ne(0u32)?;
    let mask = valid.to_dtype(dtype)?;
    // Not target · mask: 0 · NaN is NaN.
    let target = target.detach().to_dtype(dtype)?.reshape(flat)?;
    let target = valid
        .unsqueeze(2)?
        .broadcast_as(flat)?
        .where_cond(&target, &target.zeros_like()?)?;
    let error = (prediction - target)?
        .affine(scale, 0.0)?
        .broadcast_mul(&mask.unsqueeze(2)?)?;
    // At least 1, so that no valid frame gives 0/1. The count stays a tensor: to
    // read it would make a GPU wait.
    let count = (mask.sum_all()? * coordinates as f64)?.maximum(1f64)?;
    Ok(error.sqr()?.sum_all()?.div(&count)?)
}

/// `f16` and `bf16` as `f32`; their squares and sums would overflow or vanish.
pub(crate) fn widened(t: &Tensor) -> Result<Tensor, Error> {
    Ok(match t.dtype() {
        DType::F16 | DType::BF16 => t.to_dtype(DType::F32)?,
        _ => t.clone(),
    })
}
