//! What a face detector of small networks needs.

use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Tensor};
use mtcae_kernels::area::Crop;
use mtcae_kernels::cuda::{area, conv, pool};
use mtcae_kernels::pool::output;

use super::{device_of, empty, pointer, pointer_to, run, tensor, unsupported};

/// Planes (N, h, w, `input_stride`) and parameters (taps + 2, `output_stride`), whose
/// shapes are checked.
pub(in crate::ops) fn conv_prelu(
    x: (&CudaStorage, &Layout),
    parameters: (&CudaStorage, &Layout),
    shape: mtcae_kernels::conv::Shape,
) -> Result<(CudaStorage, Shape)> {
    const NAME: &str = "conv-prelu";
    let (images, height, width, _) = x.1.shape().dims4()?;
    let device = x.0.device();
    let to = Shape::from(&shape.output(images, height, width));
    let out = empty(device, DType::F32, to.elem_count())?;
    let launch = conv::prelu(
        pointer(NAME, &out, &Layout::contiguous(&to), DType::F32)?,
        pointer(NAME, x.0, x.1, DType::F32)?,
        pointer(NAME, parameters.0, parameters.1, DType::F32)?,
        [images, height, width],
        shape,
    )
    .map_err(unsupported)?;
    // SAFETY: the operation has checked the operands' shapes against `shape`; the result
    // is as large as it says.
    unsafe { run(device, &launch) }?;
    Ok((out, to))
}

/// Planes (N, h, w, C) by windows of `kernel`².
pub(in crate::ops) fn max_pool(
    x: &CudaStorage,
    layout: &Layout,
    kernel: usize,
) -> Result<(CudaStorage, Shape)> {
    const NAME: &str = "max-pool";
    let (images, height, width, channels) = layout.shape().dims4()?;
    let device = x.device();
    let to = Shape::from((
        images,
        output(height, kernel),
        output(width, kernel),
        channels,
    ));
    let out = empty(device, DType::F32, to.elem_count())?;
    let launch = pool::max(
        pointer(NAME, &out, &Layout::contiguous(&to), DType::F32)?,
        pointer(NAME, x, layout, DType::F32)?,
        [images, height, width, channels],
        kernel,
    )
    .map_err(unsupported)?;
    // SAFETY: the layout says how large x is; the result is as large as the kernel's.
    unsafe { run(device, &launch) }?;
    Ok((out, to))
}

/// Crops that lie within pictures (T, H, W, 3) of 8 bits.
pub(in crate::ops) fn area_resample(
    pictures: &Tensor,
    crops: &[Crop],
    to: (usize, usize),
) -> Result<Tensor> {
    const NAME: &str = "area-resample";
    let (_, height, width, _) = pictures.dims4()?;
    let device = device_of(NAME, pictures)?;
    let table = area::table(crops).map_err(unsupported)?;
    let table = Tensor::from_vec(table, (crops.len(), 5), pictures.device())?;
    let shape = (crops.len(), to.1, to.0, 3);
    let out = tensor(
        empty(&device, DType::F32, Shape::from(shape).elem_count())?,
        shape,
    );
    let launch = area::resample(
        pointer_to(NAME, &out, DType::F32)?,
        pointer_to(NAME, pictures, DType::U8)?,
        pointer_to(NAME, &table, DType::U32)?,
        crops.len(),
        (width, height),
        to,
    )
    .map_err(unsupported)?;
    // SAFETY: the operation has checked that the crops lie within the pictures; table
    // and result are as large as the number of crops says.
    unsafe { run(&device, &launch) }?;
    Ok(out)
}
