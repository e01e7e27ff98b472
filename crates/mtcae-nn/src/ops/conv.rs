//! Convolution with few channels, fused with bias and PReLU.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use mtcae_kernels::conv::{self, Conv};

#[cfg(feature = "cuda")]
use super::cuda;
use super::slice;

/// Planes x (N, h, w, `input_stride`) → (N, h − kh + 1, w − kw + 1, `output_stride`) of
/// `f32`, without padding, stride 1; `parameters` (taps + 2, `output_stride`) are those
/// of [`Conv::columns`]. For inference: there is no backward.
///
/// The CPU packs the parameters at every call; [`Conv`] itself keeps them packed.
pub fn conv_prelu(x: &Tensor, parameters: &Tensor, shape: conv::Shape) -> Result<Tensor> {
    let (images, height, width, channels) = x.dims4()?;
    let some = shape.taps() > 0 && shape.outputs > 0 && shape.input_stride >= shape.inputs;
    if !some
        || images == 0
        || channels != shape.input_stride
        || height < shape.height
        || width < shape.width
        || parameters.dims() != [shape.taps() + 2, shape.output_stride()]
    {
        candle_core::bail!(
            "conv_prelu: planes {:?} and parameters {:?} for {shape:?}",
            x.dims(),
            parameters.dims()
        );
    }
    x.contiguous()?
        .apply_op2(&parameters.contiguous()?, ConvPrelu(shape))
}

/// Shapes are checked by [`conv_prelu`].
struct ConvPrelu(conv::Shape);

impl CustomOp2 for ConvPrelu {
    fn name(&self) -> &'static str {
        "conv-prelu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        parameters: &CpuStorage,
        of_parameters: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (images, height, width, channels) = of_x.shape().dims4()?;
        let x = slice(self.name(), x, of_x)?;
        let parameters = slice(self.name(), parameters, of_parameters)?;
        let conv = Conv::from_columns(self.0, parameters);
        let to = self.0.output(images, height, width);
        let mut out = vec![0.0; to.iter().product()];
        let plane = out.len() / images;
        for (x, out) in x
            .chunks_exact(height * width * channels)
            .zip(out.chunks_exact_mut(plane))
        {
            conv.plane(x, width, out);
        }
        Ok((CpuStorage::F32(out), Shape::from(&to)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        of_x: &Layout,
        parameters: &candle_core::CudaStorage,
        of_parameters: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::conv_prelu((x, of_x), (parameters, of_parameters), self.0)
    }
}
