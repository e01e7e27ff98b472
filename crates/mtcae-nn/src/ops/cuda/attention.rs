use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, Tensor};
use mtcae_kernels::attention::Dims;
use mtcae_kernels::cuda::attention::{Gradient, Operands, Saved, backward, forward};

use super::super::attention::scale;
use super::{address_at, address_of, device_of, element, empty, run, tensor, unsupported};

const NAME: &str = "attention";

/// What the forward leaves for the backward: log₂ of each row's sum of exponentials.
#[derive(Default)]
pub(in crate::ops) struct LogSums(Mutex<Option<Tensor>>);

impl LogSums {
    fn keep(&self, sums: Tensor) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sums);
    }

    fn get(&self) -> Result<Tensor> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(sums) => Ok(sums.clone()),
            None => candle_core::bail!("{NAME}: a backward without a forward"),
        }
    }
}

/// Whether a tensor (B, N, D) is rows at one distance from the first to the last: a
/// contiguous one, or columns of one.
pub(in crate::ops) fn is_rows(layout: &Layout) -> bool {
    match (layout.dims(), layout.stride()) {
        (&[_, tokens, _], &[batch, row, 1]) => batch == tokens * row,
        _ => false,
    }
}

/// Address and distance of the rows of an operand.
fn rows(storage: &CudaStorage, layout: &Layout) -> Result<(u64, usize)> {
    if !is_rows(layout) {
        candle_core::bail!(
            "{NAME}: operand of shape {:?} is not in rows",
            layout.shape()
        );
    }
    Ok((
        address_at(NAME, storage, layout.start_offset())?,
        layout.stride()[1],
    ))
}

fn rows_of(tensor: &Tensor) -> Result<(u64, usize)> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => rows(storage, layout),
        _ => candle_core::bail!("{NAME}: an operand is not on the GPU"),
    }
}

/// q, k and v that lie side by side in rows.
fn packed(dims: Dims, dtype: DType, (at, stride): (u64, usize)) -> Result<Operands> {
    let part = (dims.width() * dtype.size_in_bytes()) as u64;
    Ok(Operands {
        element: element(NAME, dtype)?,
        q: at,
        q_stride: stride,
        k: at + part,
        v: at + 2 * part,
        kv_stride: stride,
    })
}

/// q in rows of its own, k and v side by side.
fn apart(dims: Dims, dtype: DType, q: (u64, usize), kv: (u64, usize)) -> Result<Operands> {
    let part = (dims.width() * dtype.size_in_bytes()) as u64;
    Ok(Operands {
        element: element(NAME, dtype)?,
        q: q.0,
        q_stride: q.1,
        k: kv.0,
        v: kv.0 + part,
        kv_stride: kv.1,
    })
}

fn attend(
    device: &CudaDevice,
    dims: Dims,
    dtype: DType,
    of: Operands,
    log_sums: &LogSums,
) -> Result<(CudaStorage, Shape)> {
    let shape = Shape::from((dims.batch, dims.queries, dims.width()));
    let out = empty(device, dtype, shape.elem_count())?;
    let sums = dims.batch * dims.heads * dims.queries;
    let sums = tensor(empty(device, DType::F32, sums)?, sums);
    let out_at = address_at(NAME, &out, 0)?;
    let sums_at = address_of(NAME, &sums, DType::F32)?;
    let launch = forward(dims, of, scale(dims), out_at, sums_at).map_err(unsupported)?;
    // SAFETY: the operations have checked the operands' shapes against `dims`; the
    // results are as large as it says.
    unsafe { run(device, &launch) }?;
    log_sums.keep(sums);
    Ok((out, shape))
}

/// Self attention over packed rows (B, N, 3·H·d).
pub(in crate::ops) fn self_forward(
    dims: Dims,
    qkv: &CudaStorage,
    layout: &Layout,
    log_sums: &LogSums,
) -> Result<(CudaStorage, Shape)> {
    let of = packed(dims, qkv.dtype(), rows(qkv, layout)?)?;
    attend(qkv.device(), dims, qkv.dtype(), of, log_sums)
}

/// Cross attention of q (B, N, H·d) over k and v in rows (B, M, 2·H·d).
pub(in crate::ops) fn cross_forward(
    dims: Dims,
    q: (&CudaStorage, &Layout),
    kv: (&CudaStorage, &Layout),
    log_sums: &LogSums,
) -> Result<(CudaStorage, Shape)> {
    let dtype = q.0.dtype();
    if kv.0.dtype() != dtype {
        candle_core::bail!(
            "{NAME}: queries are {dtype:?}, keys and values {:?}",
            kv.0.dtype()
        );
    }
    let of = apart(dims, dtype, rows(q.0, q.1)?, rows(kv.0, kv.1)?)?;
    attend(q.0.device(), dims, dtype, of, log_sums)
}

/// Runs the backward into dq and, side by side in rows, dk and dv.
fn run_backward(
    dims: Dims,
    of: Operands,
    [out, grad]: [&Tensor; 2],
    log_sums: &LogSums,
    dq: (u64, usize),
    dk: (u64, usize),
) -> Result<()> {
    let (device, dtype) = (device_of(NAME, out)?, out.dtype());
    let sums = log_sums.get()?;
    let delta = tensor(empty(&device, DType::F32, sums.elem_count())?, sums.shape());
    let saved = Saved {
        out: address_of(NAME, out, dtype)?,
        grad: address_of(NAME, grad, dtype)?,
        log_sums: address_of(NAME, &sums, DType::F32)?,
        delta: address_of(NAME, &delta, DType::F32)?,
    };
    let part = (dims.width() * dtype.size_in_bytes()) as u64;
    let gradient = |(address, stride)| Gradient { address, stride };
    let dv = gradient((dk.0 + part, dk.1));
    let launches = backward(dims, of, scale(dims), saved, gradient(dq), gradient(dk), dv)
        .map_err(unsupported)?;
    for launch in &launches {
        // SAFETY: as in the forward; the gradients are as large as the operands.
        unsafe { run(&device, launch) }?;
    }
    Ok(())
}

/// The gradient of packed rows (B, N, 3·H·d).
pub(in crate::ops) fn self_backward(
    dims: Dims,
    qkv: &Tensor,
    out: &Tensor,
    grad: &Tensor,
    log_sums: &LogSums,
) -> Result<Tensor> {
    let (device, dtype) = (device_of(NAME, qkv)?, qkv.dtype());
    let d = tensor(empty(&device, dtype, qkv.elem_count())?, qkv.shape());
    let of = packed(dims, dtype, rows_of(qkv)?)?;
    let (at, stride) = rows_of(&d)?;
    let part = (dims.width() * dtype.size_in_bytes()) as u64;
    run_backward(
        dims,
        of,
        [out, grad],
        log_sums,
        (at, stride),
        (at + part, stride),
    )?;
    Ok(d)
}

/// The gradients of q (B, N, H·d) and of k and v (B, M, 2·H·d).
pub(in crate::ops) fn cross_backward(
    dims: Dims,
    q: &Tensor,
    kv: &Tensor,
    out: &Tensor,
    grad: &Tensor,
    log_sums: &LogSums,
) -> Result<(Tensor, Tensor)> {
    let (device, dtype) = (device_of(NAME, q)?, q.dtype());
    let dq = tensor(empty(&device, dtype, q.elem_count())?, q.shape());
    let dkv = tensor(empty(&device, dtype, kv.elem_count())?, kv.shape());
    let of = apart(dims, dtype, rows_of(q)?, rows_of(kv)?)?;
    run_backward(
        dims,
        of,
        [out, grad],
        log_sums,
        rows_of(&dq)?,
        rows_of(&dkv)?,
    )?;
    Ok((dq, dkv))
}
