use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::{CudaDevice, DType, Result, Tensor};
use mtcae_kernels::cuda::Pointer;
use mtcae_kernels::cuda::product::{Product, forward, input_gradient, weight_gradient};

use super::super::backend::{Bias, Fresh};
use super::lt::{self, Epilogue, Fused, data_type};
use super::rows::{residual, rows};
use super::{device_of, fresh, pointer_to, pointer_to_fresh, unsupported};

const NAME: &str = "linear";

/// What a product of `dtype` is summed in: `f32`, for which TF32 may be allowed.
fn compute_type(dtype: DType) -> sys::cublasComputeType_t {
    match dtype == DType::F32 && candle_core::cuda::gemm_reduced_precision_f32() {
        true => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        false => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    }
}

fn operation(transposed: bool) -> sys::cublasOperation_t {
    match transposed {
        true => sys::cublasOperation_t::CUBLAS_OP_T,
        false => sys::cublasOperation_t::CUBLAS_OP_N,
    }
}

/// A product of operands of `dtype` into a result of `out.1`.
///
/// # Safety
/// The pointers must be to matrices of the product's sizes.
unsafe fn run(
    device: &CudaDevice,
    of: Product,
    [a, b]: [Pointer; 2],
    dtype: DType,
    out: (Pointer, DType),
) -> Result<()> {
    let (one, zero) = (1.0_f32, 0.0_f32);
    let [a_operation, b_operation] = of.transposed.map(operation);
    // SAFETY: the factors live until the call returns, which reads them; the rest is the
    // caller's promise.
    unsafe {
        result::gemm_ex(
            *device.cublas_handle().handle(),
            a_operation,
            b_operation,
            of.m,
            of.n,
            of.k,
            (&raw const one).cast(),
            a.address() as *const _,
            data_type(dtype)?,
            of.leading[0],
            b.address() as *const _,
            data_type(dtype)?,
            of.leading[1],
            (&raw const zero).cast(),
            out.0.address() as *mut _,
            data_type(out.1)?,
            of.leading[2],
            compute_type(dtype),
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    }
    .w()
}

/// A bias in the type of a result, one number for each of its columns.
fn joined(bias: &Bias, width: usize, like: &Tensor) -> Result<Tensor> {
    match (&bias.first, &bias.last) {
        (Some(first), None) if first.elem_count() == width => first.to_dtype(like.dtype()),
        _ => {
            let zeros = Tensor::zeros(width, like.dtype(), like.device())?;
            Ok(residual(None, &zeros, Some(bias), None)?.into_tensor())
        }
    }
}

/// Whether cuBLASLt takes what follows a product along: where it is asked for, and rows
/// are whole numbers of 16 bytes.
fn takes_along(of: &Product, dtype: DType, pointers: &[Pointer]) -> bool {
    super::super::fuses_epilogues() && of.in_sixteens(dtype.size_in_bytes(), pointers)
}

/// x (…, in)·Wᵀ + bias, plus `onto` (…, out), in one product; nothing where cuBLASLt does
/// not take them along.
pub(super) fn product_onto(
    x: &Tensor,
    weight: &Tensor,
    bias: &Bias,
    onto: Option<&Tensor>,
) -> Result<Option<Fresh>> {
    let (device, dtype) = (device_of(NAME, x)?, x.dtype());
    let weight = weight.to_dtype(dtype)?;
    let ((count, inputs), outputs) = (rows(x), weight.dim(0)?);
    let of = forward(count, inputs, outputs).map_err(unsupported)?;
    let operands = [
        pointer_to(NAME, &weight, dtype)?,
        pointer_to(NAME, x, dtype)?,
    ];
    let onto = onto.map(|t| pointer_to(NAME, t, dtype)).transpose()?;
    let pointers = [operands[0], operands[1], onto.unwrap_or(Pointer::NONE)];
    if !takes_along(&of, dtype, &pointers) {
        return Ok(None);
    }
    let bias = joined(bias, outputs, x)?;
    let vector = pointer_to(NAME, &bias, dtype)?;
    if !vector.is_aligned(16) {
        return Ok(None);
    }
    let out = fresh(&device, dtype, with_last(x, outputs))?;
    let fused = Fused {
        product: of,
        operands,
        dtype,
        out: (pointer_to_fresh(NAME, &out)?, dtype),
        onto,
        epilogue: Epilogue::Bias,
        vector,
    };
    // SAFETY: operands, result and what it is added to have the sizes that the product
    // was made of, the bias one number a column.
    let done = unsafe { lt::run(&device, &fused) }?;
    Ok(done.then_some(out))
}

/// gradᵀ·x (out, in) and the sums of grad's columns (out), both of `f32`, in one product;
/// nothing where cuBLASLt does not take the sums along.
pub(super) fn gradients(grad: &Tensor, x: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
    let (device, dtype) = (device_of(NAME, x)?, x.dtype());
    let ((count, inputs), (_, outputs)) = (rows(x), rows(grad));
    let of = weight_gradient(count, inputs, outputs).map_err(unsupported)?;
    let operands = [pointer_to(NAME, x, dtype)?, pointer_to(NAME, grad, dtype)?];
    if !takes_along(&of, dtype, &operands) {
        return Ok(None);
    }
    let out = fresh(&device, DType::F32, vec![outputs, inputs])?;
    let sums = fresh(&device, DType::F32, vec![outputs])?;
    let fused = Fused {
        product: of,
        operands,
        dtype,
        out: (pointer_to_fresh(NAME, &out)?, DType::F32),
        onto: None,
        epilogue: Epilogue::SumOfB,
        vector: pointer_to_fresh(NAME, &sums)?,
    };
    // SAFETY: as in `product_onto`; the sums are one for each output.
    let done = unsafe { lt::run(&device, &fused) }?;
    Ok(done.then(|| (out.into_tensor(), sums.into_tensor())))
}

fn with_last(x: &Tensor, last: usize) -> Vec<usize> {
    let mut dims = x.dims().to_vec();
    if let Some(d) = dims.last_mut() {
        *d = last;
    }
    dims
}

/// x (…, in)·Wᵀ → (…, out).
pub(super) fn product(x: &Tensor, weight: &Tensor) -> Result<Fresh> {
    let (device, dtype) = (device_of(NAME, x)?, x.dtype());
    let weight = weight.to_dtype(dtype)?;
    let ((count, inputs), outputs) = (rows(x), weight.dim(0)?);
    let out = fresh(&device, dtype, with_last(x, outputs))?;
    let of = forward(count, inputs, outputs).map_err(unsupported)?;
    let operands = [
        pointer_to(NAME, &weight, dtype)?,
        pointer_to(NAME, x, dtype)?,
    ];
    let at = (pointer_to_fresh(NAME, &out)?, dtype);
    // SAFETY: the operands and the result have the sizes that the product was made of.
    unsafe { run(&device, of, operands, dtype, at) }?;
    Ok(out)
}

/// grad (…, out)·W → (…, in).
pub(super) fn gradient_of_input(grad: &Tensor, weight: &Tensor) -> Result<Fresh> {
    let (device, dtype) = (device_of(NAME, grad)?, grad.dtype());
    let weight = weight.to_dtype(dtype)?;
    let ((count, outputs), inputs) = (rows(grad), weight.dim(1)?);
    let out = fresh(&device, dtype, with_last(grad, inputs))?;
    let of = input_gradient(count, inputs, outputs).map_err(unsupported)?;
    let operands = [
        pointer_to(NAME, &weight, dtype)?,
        pointer_to(NAME, grad, dtype)?,
    ];
    let at = (pointer_to_fresh(NAME, &out)?, dtype);
    // SAFETY: as in `product`.
    unsafe { run(&device, of, operands, dtype, at) }?;
    Ok(out)
}

/// gradᵀ·x (out, in) of `f32`, straight from the product's sums.
pub(super) fn gradient_of_weight(grad: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (device, dtype) = (device_of(NAME, x)?, x.dtype());
    let ((count, inputs), (_, outputs)) = (rows(x), rows(grad));
    let out = fresh(&device, DType::F32, vec![outputs, inputs])?;
    let of = weight_gradient(count, inputs, outputs).map_err(unsupported)?;
    let operands = [pointer_to(NAME, x, dtype)?, pointer_to(NAME, grad, dtype)?];
    let at = (pointer_to_fresh(NAME, &out)?, DType::F32);
    // SAFETY: as in `product`.
    unsafe { run(&device, of, operands, dtype, at) }?;
    Ok(out.into_tensor())
}
