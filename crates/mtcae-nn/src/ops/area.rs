//! Area resampling of 8-bit pictures.

use candle_core::{DType, Result, Tensor};
use mtcae_kernels::area::{Crop, Picture, Resampler};

/// Crops of pictures (T, H, W, 3) of 8 bits, each resampled to `to` = (width, height), as
/// (value − 127.5)/128: (crops, to.1, to.0, 3) of `f32`.
pub fn area_resample(pictures: &Tensor, crops: &[Crop], to: (usize, usize)) -> Result<Tensor> {
    let (count, height, width, channels) = pictures.dims4()?;
    if channels != 3 || pictures.dtype() != DType::U8 || crops.is_empty() || to.0 * to.1 == 0 {
        candle_core::bail!(
            "area_resample: {} crops of pictures {:?} {:?} to {}×{}, not some of (T, H, W, 3) U8",
            crops.len(),
            pictures.dims(),
            pictures.dtype(),
            to.0,
            to.1
        );
    }
    let inside = |start: usize, length: usize, all| {
        length > 0 && start.checked_add(length).is_some_and(|end| end <= all)
    };
    if let Some(crop) = crops.iter().find(|c| {
        c.picture >= count || !inside(c.x, c.width, width) || !inside(c.y, c.height, height)
    }) {
        candle_core::bail!("area_resample: {crop:?} of {count} pictures of {width}×{height}");
    }
    let pictures = pictures.contiguous()?;
    #[cfg(feature = "cuda")]
    if pictures.device().is_cuda() {
        return super::cuda::area_resample(&pictures, crops, to);
    }
    crate::Isa::held().map_err(candle_core::Error::wrap)?;
    let bytes: Vec<u8> = pictures.flatten_all()?.to_vec1()?;
    let frame = height * width * 3;
    let mut out = vec![0.0; crops.len() * to.0 * to.1 * 3];
    for (c, out) in crops.iter().zip(out.chunks_exact_mut(to.0 * to.1 * 3)) {
        let picture = Picture::new(&bytes[c.picture * frame..][..frame], width, height)
            .crop(c.x..c.x + c.width, c.y..c.y + c.height);
        let mut resampler = Resampler::new((c.width, c.height), to, 0..to.0);
        for (y, row) in out.chunks_exact_mut(to.0 * 3).enumerate() {
            resampler.row(picture, y, row);
        }
    }
    Tensor::from_vec(out, (crops.len(), to.1, to.0, 3), pictures.device())
}
