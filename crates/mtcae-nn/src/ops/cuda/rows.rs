use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Tensor};
use mtcae_kernels::cuda::rows as kernels;

use super::{address, address_of, device_of, element, empty, run, tensor, unsupported};

const NAME: &str = "add-bias";

/// x (…, D) + bias (D).
pub(in crate::ops) fn add_bias(
    x: &CudaStorage,
    lx: &Layout,
    bias: &CudaStorage,
    lb: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let (shape, device, dtype) = (lx.shape(), x.device(), x.dtype());
    let (n, width) = (shape.elem_count(), lb.shape().elem_count().max(1));
    let out = empty(device, dtype, n)?;
    let launch = kernels::add_bias(
        element(NAME, dtype)?,
        address(NAME, &out, &Layout::contiguous(shape), dtype)?,
        address(NAME, x, lx, dtype)?,
        address(NAME, bias, lb, dtype)?,
        n / width,
        width,
    )
    .map_err(unsupported)?;
    // SAFETY: x and the result hold n elements, the bias `width`.
    unsafe { run(device, &launch) }?;
    Ok((out, shape.clone()))
}

/// The sums of the columns of a contiguous x (…, D): (D) of its type.
pub(in crate::ops) fn column_sums(x: &Tensor, width: usize) -> Result<Tensor> {
    let (device, dtype) = (device_of(NAME, x)?, x.dtype());
    let rows = x.elem_count() / width;
    let sums = tensor(empty(&device, DType::F32, width)?, width);
    let parts = kernels::parts(rows, width);
    let parts = tensor(empty(&device, DType::F32, parts)?, parts);
    let launches = kernels::column_sums(
        element(NAME, dtype)?,
        address_of(NAME, &sums, DType::F32)?,
        address_of(NAME, &parts, DType::F32)?,
        address_of(NAME, x, dtype)?,
        rows,
        width,
    )
    .map_err(unsupported)?;
    for launch in &launches {
        // SAFETY: x holds its elements, the sums `width`; the parts are as many as the
        // kernels say.
        unsafe { run(&device, launch) }?;
    }
    sums.to_dtype(dtype)
}
