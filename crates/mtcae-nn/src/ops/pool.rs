//! Max pooling in ceil mode.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::pool;

#[cfg(feature = "cuda")]
use super::cuda;
use super::slice;

/// Planes (N, h, w, C) of `f32`, C a multiple of sixteen → (N, h′, w′, C): the largest of
/// windows of `kernel`² (2 or more) at stride 2, the last of which may hang over the
/// border. For inference: there is no backward.
pub fn max_pool(x: &Tensor, kernel: usize) -> Result<Tensor> {
    let (_, _, _, channels) = x.dims4()?;
    if x.elem_count() == 0 || kernel < 2 || !channels.is_multiple_of(16) {
        candle_core::bail!("max_pool: planes {:?} by {kernel}", x.dims());
    }
    x.contiguous()?.apply_op1(MaxPool(kernel))
}

/// Shapes are checked by [`max_pool`].
struct MaxPool(usize);

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (images, height, width, channels) = layout.shape().dims4()?;
        let x = slice(self.name(), x, layout)?;
        let (h, w) = (pool::output(height, self.0), pool::output(width, self.0));
        let mut out = vec![0.0; images * h * w * channels];
        for (x, out) in x
            .chunks_exact(height * width * channels)
            .zip(out.chunks_exact_mut(h * w * channels))
        {
            pool::plane(Isa::best(), x, width, self.0, channels, out);
        }
        Ok((CpuStorage::F32(out), Shape::from((images, h, w, channels))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::max_pool(x, layout, self.0)
    }
}
