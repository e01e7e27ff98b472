//! 8-bit clips to tubes on the device that computes.

use candle_core::{DType, Device, Result, Tensor};

/// Clips (B, T, H, W, 3) of 8 bits → normalised tubes (B, N, 3·t·p²) of `dtype`, tokens
/// in the order (T/t, H/p, W/p), the numbers of one in the order (C, t, h, w).
///
/// `table` (3, 256) of `f32` says what each level of each channel becomes. On a GPU the
/// clips cross the bus in 8 bits and become tubes in one pass.
pub fn tubes(
    clips: &Tensor,
    table: &Tensor,
    tubelet: usize,
    patch: usize,
    dtype: DType,
) -> Result<Tensor> {
    let (batch, frames, height, width, channels) = clips.dims5()?;
    let whole = |n: usize, by: usize| by > 0 && n.is_multiple_of(by);
    if channels != 3
        || clips.dtype() != DType::U8
        || table.dims() != [3, 256]
        || table.dtype() != DType::F32
        || !whole(frames, tubelet)
        || !whole(height, patch)
        || !whole(width, patch)
    {
        candle_core::bail!(
            "tubes: clips {:?} {:?} and a table {:?} {:?}, not (B, T, H, W, 3) U8 in whole tubes of {tubelet}×{patch}×{patch} and [3, 256] F32",
            clips.dims(),
            clips.dtype(),
            table.dims(),
            table.dtype()
        );
    }
    #[cfg(feature = "cuda")]
    if clips.device().is_cuda() {
        return super::cuda::cut_tubes(
            &clips.contiguous()?,
            &table.contiguous()?,
            tubelet,
            patch,
            dtype,
        );
    }
    let levels: Vec<u8> = clips.flatten_all()?.to_vec1()?;
    let table: Vec<f32> = table.flatten_all()?.to_vec1()?;
    let values: Vec<f32> = levels
        .iter()
        .enumerate()
        .map(|(i, &level)| table[i % 3 * 256 + usize::from(level)])
        .collect();
    let (t, h, w) = (frames / tubelet, height / patch, width / patch);
    let tubes = Tensor::from_vec(
        values,
        &[batch, t, tubelet, h, patch, w, patch, 3][..],
        &Device::Cpu,
    )?
    .permute(&[0, 1, 3, 5, 7, 2, 4, 6][..])?
    .reshape((batch, t * h * w, 3 * tubelet * patch * patch))?;
    tubes.to_dtype(dtype)?.to_device(clips.device())
}

/// As [`tubes`], of levels (B, T, H, W, 3) that lie on the host; `size` is (T, H, W, 3).
pub fn tubes_of_levels(
    levels: Vec<u8>,
    [frames, height, width, channels]: [usize; 4],
    table: &[[f32; 256]; 3],
    (tubelet, patch): (usize, usize),
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let batch = levels.len() / (frames * height * width * channels).max(1);
    let clips = Tensor::from_vec(levels, (batch, frames, height, width, channels), device)?;
    let table = Tensor::from_slice(table.as_flattened(), (3, 256), device)?;
    tubes(&clips, &table, tubelet, patch, dtype)
}
