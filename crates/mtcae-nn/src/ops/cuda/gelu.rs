use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};
use mtcae_kernels::cuda::gelu as kernels;

use super::rows::column_sums;
use super::{address, address_of, device_of, element, empty, run, tensor, unsupported};

const NAME: &str = "gelu";

/// gelu(x + bias) for x (…, D) and a bias (D), or gelu(x).
pub(in crate::ops) fn forward(
    x: &CudaStorage,
    lx: &Layout,
    bias: Option<(&CudaStorage, &Layout)>,
) -> Result<(CudaStorage, Shape)> {
    let (shape, device, dtype) = (lx.shape(), x.device(), x.dtype());
    let n = shape.elem_count();
    // Without a bias it does not matter how the elements are cut into rows.
    let width = bias.map_or(n.max(1), |(_, layout)| layout.shape().elem_count());
    let out = empty(device, dtype, n)?;
    let bias = bias.map(|(s, l)| address(NAME, s, l, dtype)).transpose()?;
    let at = address(NAME, &out, &Layout::contiguous(shape), dtype)?;
    let x = address(NAME, x, lx, dtype)?;
    let launch = kernels::forward(element(NAME, dtype)?, at, x, bias, n / width, width)
        .map_err(unsupported)?;
    // SAFETY: x and the result hold n elements, the bias `width`.
    unsafe { run(device, &launch) }?;
    Ok((out, shape.clone()))
}

/// dx and, where there is a bias, its gradient.
pub(in crate::ops) fn backward(
    x: &Tensor,
    bias: Option<&Tensor>,
    grad: &Tensor,
) -> Result<(Tensor, Option<Tensor>)> {
    let (device, dtype, n) = (device_of(NAME, x)?, x.dtype(), x.elem_count());
    let width = bias.map_or(n.max(1), Tensor::elem_count);
    let at = |t| address_of(NAME, t, dtype);
    let dx = tensor(empty(&device, dtype, n)?, x.shape());
    let launch = kernels::backward(
        element(NAME, dtype)?,
        at(&dx)?,
        at(x)?,
        bias.map(at).transpose()?,
        at(grad)?,
        n / width,
        width,
    )
    .map_err(unsupported)?;
    // SAFETY: x, grad and dx hold n elements, the bias `width`.
    unsafe { run(&device, &launch) }?;
    let bias_gradient = bias.map(|_| column_sums(&dx, width)).transpose()?;
    Ok((dx, bias_gradient))
}
