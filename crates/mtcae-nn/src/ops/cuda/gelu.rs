use candle_core::{DType, Result, Tensor};
use mtcae_kernels::cuda::{Pointer, gelu as kernels};

use super::super::backend::{Bias, Biased, Fresh};
use super::rows::residual;
use super::{device_of, element, fresh, pointer_to, pointer_to_fresh, run, unsupported};

const NAME: &str = "gelu";

/// The x that the kernels read, and the bias (D) of `f32` that they add.
fn operands(x: &Biased) -> Result<(Tensor, Option<Tensor>)> {
    match &x.bias {
        None => Ok((x.x.clone(), None)),
        Some(Bias {
            first: Some(bias),
            last: None,
        }) if x.x.dims().last() == Some(&bias.elem_count()) => {
            Ok((x.x.clone(), Some(bias.to_dtype(DType::F32)?)))
        }
        Some(bias) => Ok((residual(None, &x.x, Some(bias), None)?.into_tensor(), None)),
    }
}

/// gelu(x + bias).
pub(super) fn forward(x: &Biased) -> Result<Fresh> {
    let (x, bias) = operands(x)?;
    let (device, dtype, n) = (device_of(NAME, &x)?, x.dtype(), x.elem_count());
    // Without a bias it does not matter how the elements are cut into rows.
    let width = bias.as_ref().map_or(n.max(1), Tensor::elem_count);
    let out = fresh(&device, dtype, x.dims().to_vec())?;
    let launch = kernels::forward(
        element(NAME, dtype)?,
        pointer_to_fresh(NAME, &out)?,
        pointer_to(NAME, &x, dtype)?,
        bias.as_ref()
            .map(|b| pointer_to(NAME, b, DType::F32))
            .transpose()?,
        n / width,
        width,
    )
    .map_err(unsupported)?;
    // SAFETY: x and the result hold n elements, the bias `width`.
    unsafe { run(&device, &launch) }?;
    Ok(out)
}

/// The gradient of x + bias.
pub(super) fn gradient(x: &Biased, grad: &Tensor) -> Result<Tensor> {
    let dx = fresh(&device_of(NAME, grad)?, grad.dtype(), grad.dims().to_vec())?;
    run_backward(x, pointer_to(NAME, grad, grad.dtype())?, &dx, None)?;
    Ok(dx.into_tensor())
}

/// The gradient of x + bias, in the memory of `grad`, and gelu(x + bias).
pub(super) fn backward(x: &Biased, grad: Fresh) -> Result<(Tensor, Tensor)> {
    let (device, dtype) = (device_of(NAME, &x.x)?, x.x.dtype());
    let y = fresh(&device, dtype, x.x.dims().to_vec())?;
    run_backward(x, pointer_to_fresh(NAME, &grad)?, &grad, Some(&y))?;
    Ok((grad.into_tensor(), y.into_tensor()))
}

/// Of a gradient into `dx`, which may lie there, and gelu(x + bias) into `y`.
fn run_backward(x: &Biased, grad: Pointer, dx: &Fresh, y: Option<&Fresh>) -> Result<()> {
    let (x, bias) = operands(x)?;
    let (device, dtype, n) = (device_of(NAME, &x)?, x.dtype(), x.elem_count());
    let width = bias.as_ref().map_or(n.max(1), Tensor::elem_count);
    if dx.shape.elem_count() != n {
        candle_core::bail!("{NAME}: a gradient of {:?} for {:?}", dx.shape, x.dims());
    }
    let launch = kernels::backward(
        element(NAME, dtype)?,
        pointer_to_fresh(NAME, dx)?,
        y.map(|y| pointer_to_fresh(NAME, y)).transpose()?,
        pointer_to(NAME, &x, dtype)?,
        bias.as_ref()
            .map(|b| pointer_to(NAME, b, DType::F32))
            .transpose()?,
        grad,
        n / width,
        width,
    )
    .map_err(unsupported)?;
    // SAFETY: x, the gradient and the results hold n elements, the bias `width`.
    unsafe { run(&device, &launch) }
}
