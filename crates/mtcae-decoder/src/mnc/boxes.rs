//! Boxes as fractions of the frame, by centre and size, and what they are for.

use candle_core::{DType, Result, Tensor};

/// The mean of the boxes (M, r, 4), `by` times larger and of at least these sizes: the
/// region (M, 4) that the frames of a slice share.
pub(super) fn grown(boxes: &Tensor, by: f64, least: [f64; 2]) -> Result<Tensor> {
    let mean = boxes.mean(1)?;
    let size = |i: usize| (mean.narrow(1, 2 + i, 1)? * by)?.maximum(least[i]);
    Tensor::cat(&[mean.narrow(1, 0, 2)?, size(0)?, size(1)?], 1)
}

/// Boxes (M, r, 4), moved by numbers (M, r, 4) of their size and scaled by their exponential.
pub(super) fn refined(boxes: &Tensor, by: &Tensor) -> Result<Tensor> {
    let size = boxes.narrow(2, 2, 2)?;
    let centre = (boxes.narrow(2, 0, 2)? + (&size * by.narrow(2, 0, 2)?)?)?;
    Tensor::cat(&[centre, (size * by.narrow(2, 2, 2)?.exp()?)?], 2)
}

/// Boxes (M, r, 4) as x1, y1, x2, y2.
pub(super) fn corners(boxes: &Tensor) -> Result<Tensor> {
    let (centre, half) = (boxes.narrow(2, 0, 2)?, (boxes.narrow(2, 2, 2)? * 0.5)?);
    Tensor::cat(&[(&centre - &half)?, (centre + half)?], 2)
}

/// Points (M, r, 5, 2) of regions (M, 4) as fractions of the frame.
pub(super) fn of_frame(points: &Tensor, regions: &Tensor) -> Result<Tensor> {
    let of = |i: usize| regions.narrow(1, i, 2)?.unsqueeze(1)?.unsqueeze(1);
    let (centre, size) = (of(0)?, of(2)?);
    (points - 0.5)?.broadcast_mul(&size)?.broadcast_add(&centre)
}

/// A Gaussian of `sigma` cells around each point, the mean over the frames of points
/// (M, r, 5, 2) in regions of `side` cells: their sum (M, S, S, 1), at most 1.
pub(super) fn masks(points: &Tensor, side: usize, sigma: f64) -> Result<Tensor> {
    let points = ((points.mean(1)? * side as f64)? - 0.5)?;
    let (count, five, _) = points.dims3()?;
    let cells = Tensor::arange(0u32, side as u32, points.device())?
        .to_dtype(DType::F32)?
        .to_dtype(points.dtype())?
        .reshape((1, 1, side))?;
    let along = |axis: usize| -> Result<Tensor> {
        let apart = points.narrow(2, axis, 1)?.broadcast_sub(&cells)?;
        (apart.sqr()? * (-0.5 / (sigma * sigma)))?.exp()
    };
    // A Gaussian is the product of those along x and y.
    let (x, y) = (along(0)?, along(1)?);
    let all = y
        .reshape((count, five, side, 1))?
        .broadcast_mul(&x.reshape((count, five, 1, side))?)?;
    all.sum(1)?.minimum(1.0)?.unsqueeze(3)
}
