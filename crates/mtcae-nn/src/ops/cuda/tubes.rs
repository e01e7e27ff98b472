use candle_core::{DType, Result, Tensor};
use mtcae_kernels::cuda::tubes::{Clips, cut as launch};

use super::{device_of, element, empty, pointer_to, run, tensor, unsupported};

const NAME: &str = "tubes";

/// frames (B, T, H, W, 3) of 8 bits, whole tubes, → tubes (B, N, 3·t·p²) of `dtype`.
pub(in crate::ops) fn cut(
    frames: &Tensor,
    table: &Tensor,
    tubelet: usize,
    patch: usize,
    dtype: DType,
) -> Result<Tensor> {
    let (batch, count, height, width, _) = frames.dims5()?;
    let device = device_of(NAME, frames)?;
    let (n, length) = (frames.elem_count(), 3 * tubelet * patch * patch);
    let tokens = count / tubelet * (height / patch) * (width / patch);
    let out = tensor(empty(&device, dtype, n)?, (batch, tokens, length));
    let clips = Clips {
        frames: batch * count,
        height,
        width,
        tubelet,
        patch,
    };
    let launch = launch(
        element(NAME, dtype)?,
        pointer_to(NAME, &out, dtype)?,
        pointer_to(NAME, frames, DType::U8)?,
        pointer_to(NAME, table, DType::F32)?,
        clips,
    )
    .map_err(unsupported)?;
    // SAFETY: frames and result hold n elements; `tubes` has checked that the table
    // holds 3×256.
    unsafe { run(&device, &launch) }?;
    Ok(out)
}
