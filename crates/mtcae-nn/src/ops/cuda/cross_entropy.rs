use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Tensor};
use mtcae_kernels::cuda::cross_entropy as kernels;

use super::{device_of, element, empty, pointer, pointer_to, run, tensor, unsupported};

const NAME: &str = "cross-entropy";

/// Losses (B) of `f32` of logits (B, C) and targets (B, C) of `f32`.
pub(in crate::ops) fn forward(
    logits: &CudaStorage,
    of_logits: &Layout,
    targets: &CudaStorage,
    of_targets: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let (clips, classes) = of_logits.shape().dims2()?;
    let (device, dtype) = (logits.device(), logits.dtype());
    let losses = empty(device, DType::F32, clips)?;
    let launch = kernels::forward(
        element(NAME, dtype)?,
        pointer(NAME, &losses, &Layout::contiguous(clips), DType::F32)?,
        pointer(NAME, logits, of_logits, dtype)?,
        pointer(NAME, targets, of_targets, DType::F32)?,
        clips,
        classes,
    )
    .map_err(unsupported)?;
    // SAFETY: logits and targets hold clips × classes elements, the losses `clips`.
    unsafe { run(device, &launch) }?;
    Ok((losses, Shape::from(clips)))
}

/// The gradient of the logits from that of the losses (B).
pub(in crate::ops) fn backward(logits: &Tensor, targets: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (clips, classes) = logits.dims2()?;
    let (device, dtype) = (device_of(NAME, logits)?, logits.dtype());
    let out = tensor(empty(&device, dtype, clips * classes)?, logits.shape());
    let launch = kernels::backward(
        element(NAME, dtype)?,
        pointer_to(NAME, &out, dtype)?,
        pointer_to(NAME, logits, dtype)?,
        pointer_to(NAME, targets, DType::F32)?,
        pointer_to(NAME, grad, DType::F32)?,
        clips,
        classes,
    )
    .map_err(unsupported)?;
    // SAFETY: as above, with `clips` gradients.
    unsafe { run(&device, &launch) }?;
    Ok(out)
}
