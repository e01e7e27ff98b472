//! Regions of a map, warped to one size (Dai, He and Sun, 2016, arXiv 1512.04412, section
//! 3.2), with a gradient to the region.

use candle_core::{DType, Result, Shape, Tensor};

use crate::ops::limit_gradient;

/// Maps (M, H, W, C) and boxes (M, 4) of (x, y, w, h) in cells of the map → (M, S, S, C):
///
/// F'(u', v') = Σ κ(x + u'·w/S − u)·κ(y + v'·h/S − v)·F(u, v), κ(z) = max(0, 1 − |z|),
///
/// as two products, F' = A_y·F·A_xᵀ. The gradient of a box is that of κ, each number of it
/// no larger than `limit` where there is one.
///
/// # Errors
/// When the shapes do not fit, or a side is 0.
pub fn roi_warp(maps: &Tensor, boxes: &Tensor, side: usize, limit: Option<f64>) -> Result<Tensor> {
    let (count, height, width, channels) = maps.dims4()?;
    if boxes.dims() != [count, 4] || side == 0 {
        candle_core::bail!(
            "roi_warp: maps {:?} need boxes ({count}, 4) and a side of at least 1, not {:?} and \
             {side}",
            maps.dims(),
            boxes.dims()
        );
    }
    let boxes = match limit {
        Some(limit) => limit_gradient(boxes, limit)?,
        None => boxes.clone(),
    };
    let kernel = |axis: usize, cells: usize| -> Result<Tensor> {
        let (dtype, device) = (maps.dtype(), maps.device());
        let steps = (Tensor::arange(0u32, side as u32, device)?.to_dtype(DType::F32)?
            / side as f64)?
            .reshape((1, side))?
            .to_dtype(dtype)?;
        let of = |column: usize| boxes.narrow(1, column, 1);
        let at = of(axis)?.broadcast_add(&of(2 + axis)?.broadcast_mul(&steps)?)?;
        let cells = Tensor::arange(0u32, cells as u32, device)?
            .to_dtype(DType::F32)?
            .reshape((1, 1, cells))?
            .to_dtype(dtype)?;
        let apart = at.unsqueeze(2)?.broadcast_sub(&cells)?.abs()?;
        (1.0 - apart)?.relu()
    };
    let rows = kernel(1, height)?; // (M, S, H)
    let columns = kernel(0, width)?; // (M, S, W)
    let across = rows.matmul(&maps.reshape((count, height, width * channels))?)?;
    let across = across.reshape((count * side, width, channels))?;
    let shape = Shape::from((count, side, side, width));
    let columns = columns
        .unsqueeze(1)?
        .broadcast_as(shape)?
        .contiguous()?
        .reshape((count * side, side, width))?;
    columns
        .matmul(&across)?
        .reshape((count, side, side, channels))
}
