use candle_core::{DType, Result, Tensor};
use mtcae_kernels::cuda::{Element, layer_norm as kernels, rows};

use super::super::backend::{Bias, Fresh, Norm};
use super::rows::{Scales, residual as add};
use super::{
    device_of, element, empty, fresh, pointer_to, pointer_to_fresh, run, tensor, unsupported,
};

const NAME: &str = "layer-norm";

/// LayerNorm of x (…, D).
pub(super) fn forward(x: &Tensor, norm: Norm<'_>) -> Result<Fresh> {
    let (device, dtype, n) = (device_of(NAME, x)?, x.dtype(), x.elem_count());
    let width = norm.gamma.elem_count();
    let out = fresh(&device, dtype, x.dims().to_vec())?;
    let launch = kernels::forward(
        element(NAME, dtype)?,
        pointer_to_fresh(NAME, &out)?,
        pointer_to(NAME, x, dtype)?,
        pointer_to(NAME, norm.gamma, DType::F32)?,
        pointer_to(NAME, norm.beta, DType::F32)?,
        n / width,
        width,
        norm.eps,
    )
    .map_err(unsupported)?;
    // SAFETY: x and the result hold n elements, γ and β `width`.
    unsafe { run(&device, &launch) }?;
    Ok(out)
}

/// base + s·(x + bias), and its LayerNorm.
pub(super) fn residual(
    base: &Tensor,
    x: &Tensor,
    bias: Option<&Bias>,
    scales: Option<&[f32]>,
    norm: Norm<'_>,
) -> Result<(Tensor, Tensor)> {
    let (device, dtype, n) = (device_of(NAME, x)?, x.dtype(), x.elem_count());
    let width = norm.gamma.elem_count();
    let bias = match bias {
        None => None,
        Some(Bias {
            first: Some(bias),
            last: None,
        }) if bias.elem_count() == width => Some(bias.to_dtype(DType::F32)?),
        Some(_) => {
            let sum = add(Some(base), x, bias, scales)?.into_tensor();
            let normed = forward(&sum, norm)?.into_tensor();
            return Ok((sum, normed));
        }
    };
    if base.elem_count() != n {
        candle_core::bail!(
            "{NAME}: a sum and a branch of {:?} differ in size",
            x.dims()
        );
    }
    let scales = Scales::new(&device, scales, n / width)?;
    let (sum, normed) = (
        tensor(empty(&device, dtype, n)?, x.shape()),
        tensor(empty(&device, dtype, n)?, x.shape()),
    );
    let branch = kernels::Branch {
        x: pointer_to(NAME, x, dtype)?,
        bias: bias
            .as_ref()
            .map(|b| pointer_to(NAME, b, DType::F32))
            .transpose()?,
        scales: scales.as_ref().map(Scales::place),
    };
    let launch = kernels::residual(
        element(NAME, dtype)?,
        pointer_to(NAME, &sum, dtype)?,
        pointer_to(NAME, &normed, dtype)?,
        pointer_to(NAME, base, dtype)?,
        branch,
        pointer_to(NAME, norm.gamma, DType::F32)?,
        pointer_to(NAME, norm.beta, DType::F32)?,
        n / width,
        width,
        norm.eps,
    )
    .map_err(unsupported)?;
    // SAFETY: base, x and the results hold n elements, γ, β and the bias `width`, and there are as many scales as runs of rows.
    unsafe { run(&device, &launch) }?;
    Ok((sum, normed))
}

/// dx, to which the gradient `around` the norm is added, dγ and dβ.
pub(super) fn backward(
    x: &Tensor,
    norm: Norm<'_>,
    grad: &Tensor,
    around: Option<&Tensor>,
) -> Result<[Tensor; 3]> {
    let (device, dtype, n) = (device_of(NAME, x)?, x.dtype(), x.elem_count());
    let width = norm.gamma.elem_count();
    let count = n / width;
    let scratch = kernels::scratch(count);
    let f32s = |n| empty(&device, DType::F32, n).map(|s| tensor(s, n));
    let dx = tensor(empty(&device, dtype, n)?, x.shape());
    let statistics = f32s(scratch.statistics)?;
    let parts = f32s(scratch.slabs * 2 * width)?;
    let parts_of_parts = f32s(rows::parts(scratch.slabs, 2 * width))?;
    let sums = f32s(2 * width)?;
    let of = element(NAME, dtype)?;
    let at = |tensor, dtype| pointer_to(NAME, tensor, dtype);
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
            at(norm.gamma, DType::F32)?,
            grad_at,
            around.map(|t| at(t, dtype)).transpose()?,
            count,
            width,
            norm.eps,
        )
        .map_err(unsupported)?,
        kernels::backward_parameters(of, parts_at, statistics_at, x_at, grad_at, count, width)
            .map_err(unsupported)?,
        partial,
        total,
    ];
    for launch in &launches {
        // SAFETY: x, grad, what goes around and dx hold n elements, γ `width`; the scratch
        // is as large as the kernels say.
        unsafe { run(&device, launch) }?;
    }
    Ok([dx, sums.narrow(0, 0, width)?, sums.narrow(0, width, width)?])
}
