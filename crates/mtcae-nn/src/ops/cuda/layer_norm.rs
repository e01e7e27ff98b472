use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Tensor};
use mtcae_kernels::cuda::{Element, layer_norm as kernels, rows};

use super::{address, address_of, device_of, element, empty, run, tensor, unsupported};

const NAME: &str = "layer-norm";

/// An operand where it lies.
type At<'a> = (&'a CudaStorage, &'a Layout);

/// LayerNorm of x (…, D) with γ and β (D) of `f32`.
pub(in crate::ops) fn forward(
    x: At<'_>,
    gamma: At<'_>,
    beta: At<'_>,
    eps: f32,
) -> Result<(CudaStorage, Shape)> {
    let (shape, device, dtype) = (x.1.shape(), x.0.device(), x.0.dtype());
    let width = gamma.1.shape().elem_count();
    let n = shape.elem_count();
    let out = empty(device, dtype, n)?;
    let at = address(NAME, &out, &Layout::contiguous(shape), dtype)?;
    let launch = kernels::forward(
        element(NAME, dtype)?,
        at,
        address(NAME, x.0, x.1, dtype)?,
        address(NAME, gamma.0, gamma.1, DType::F32)?,
        address(NAME, beta.0, beta.1, DType::F32)?,
        n / width,
        width,
        eps,
    )
    .map_err(unsupported)?;
    // SAFETY: x and the result hold n elements, γ and β `width`.
    unsafe { run(device, &launch) }?;
    Ok((out, shape.clone()))
}

/// (2, …, D): x + branch, and its LayerNorm.
pub(in crate::ops) fn residual(
    x: &Tensor,
    branch: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f32,
) -> Result<Tensor> {
    let (device, dtype, n) = (device_of(NAME, x)?, x.dtype(), x.elem_count());
    let width = gamma.elem_count();
    let out = empty(&device, dtype, 2 * n)?;
    let out = tensor(out, [&[2], x.dims()].concat());
    let launch = kernels::residual(
        element(NAME, dtype)?,
        address_of(NAME, &out, dtype)?,
        address_of(NAME, x, dtype)?,
        address_of(NAME, branch, dtype)?,
        address_of(NAME, gamma, DType::F32)?,
        address_of(NAME, beta, DType::F32)?,
        n / width,
        width,
        eps,
    )
    .map_err(unsupported)?;
    // SAFETY: x and branch hold n elements, the result twice as many, γ and β `width`.
    unsafe { run(&device, &launch) }?;
    Ok(out)
}

/// dx, dγ and dβ.
pub(in crate::ops) fn backward(
    x: &Tensor,
    gamma: &Tensor,
    grad: &Tensor,
    eps: f32,
) -> Result<[Tensor; 3]> {
    let (device, dtype, n) = (device_of(NAME, x)?, x.dtype(), x.elem_count());
    let width = gamma.elem_count();
    let count = n / width;
    let scratch = kernels::scratch(count);
    let f32s = |n| empty(&device, DType::F32, n).map(|s| tensor(s, n));
    let dx = tensor(empty(&device, dtype, n)?, x.shape());
    let statistics = f32s(scratch.statistics)?;
    let parts = f32s(scratch.slabs * 2 * width)?;
    let parts_of_parts = f32s(rows::parts(scratch.slabs, 2 * width))?;
    let sums = f32s(2 * width)?;
    let of = element(NAME, dtype)?;
    let at = |tensor, dtype| address_of(NAME, tensor, dtype);
    let (x_at, grad_at) = (at(x, dtype)?, at(grad, dtype)?);
    let (statistics_at, parts_at) = (at(&statistics, DType::F32)?, at(&parts, DType::F32)?);
    let [partial, total] = rows::column_sums(
        Element::F32,
        at(&sums, DType::F32)?,
        at(&parts_of_parts, DType::F32)?,
        parts_at,
        scratch.slabs,
        2 * width,
    )
    .map_err(unsupported)?;
    let launches = [
        kernels::backward_input(
            of,
            at(&dx, dtype)?,
            statistics_at,
            x_at,
            at(gamma, DType::F32)?,
            grad_at,
            count,
            width,
            eps,
        )
        .map_err(unsupported)?,
        kernels::backward_parameters(of, parts_at, statistics_at, x_at, grad_at, count, width)
            .map_err(unsupported)?,
        partial,
        total,
    ];
    for launch in &launches {
        // SAFETY: x, grad and dx hold n elements, γ `width`; the scratch is as large as
        // the kernels say.
        unsafe { run(&device, launch) }?;
    }
    Ok([dx, sums.narrow(0, 0, width)?, sums.narrow(0, width, width)?])
}
