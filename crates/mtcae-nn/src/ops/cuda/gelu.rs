use candle_core::{DType, Result, Tensor};
use mtcae_kernels::cuda::gelu as kernels;

use super::super::backend::{Bias, Biased, Fresh};
use super::rows::residual;
use super::{address_of, address_of_fresh, device_of, element, fresh, run, unsupported};

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
        address_of_fresh(NAME, &out)?,
        address_of(NAME, &x, dtype)?,
        bias.as_ref()
            .map(|b| address_of(NAME, b, DType::F32))
            .transpose()?,
        n / width,
        width,
    )
    .map_err(unsupported)?;
    // SAFETY: x and the result hold n elements, the bias `width`.
    unsafe { run(&device, &launch) }?;
    Ok(out)
}

/// The gradient of x + bias and, with `again`, gelu(x + bias).
pub(super) fn backward(x: &Biased, grad: &Tensor, again: bool) -> Result<(Tensor, Option<Tensor>)> {
    let (x, bias) = operands(x)?;
    let (device, dtype, n) = (device_of(NAME, &x)?, x.dtype(), x.elem_count());
    let width = bias.as_ref().map_or(n.max(1), Tensor::elem_count);
    let dx = fresh(&device, dtype, x.dims().to_vec())?;
    let y = match again {
        true => Some(fresh(&device, dtype, x.dims().to_vec())?),
        false => None,
    };
    let launch = kernels::backward(
        element(NAME, dtype)?,
        address_of_fresh(NAME, &dx)?,
        y.as_ref().map(|y| address_of_fresh(NAME, y)).transpose()?,
        address_of(NAME, &x, dtype)?,
        bias.as_ref()
            .map(|b| address_of(NAME, b, DType::F32))
            .transpose()?,
        address_of(NAME, grad, dtype)?,
        n / width,
        width,
    )
    .map_err(unsupported)?;
    // SAFETY: x, grad and the results hold n elements, the bias `width`.
    unsafe { run(&device, &launch) }?;
    Ok((dx.into_tensor(), y.map(Fresh::into_tensor)))
}
