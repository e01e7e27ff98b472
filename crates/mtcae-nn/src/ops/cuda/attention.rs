use candle_core::{CudaStorage, DType, Layout, Result, Storage, Tensor};
use mtcae_kernels::attention::Dims;
use mtcae_kernels::cuda::Pointer;
use mtcae_kernels::cuda::attention::{self as kernels, Gradient, Operands, Saved};

use super::super::backend::Heads;
use super::{device_of, element, empty, pointer_at, pointer_to, run, tensor, unsupported};

const NAME: &str = "attention";

/// Whether a tensor (B, N, D) is rows at one distance from the first to the last: a
/// contiguous one, or columns of one.
pub(in crate::ops) fn is_rows(layout: &Layout) -> bool {
    match (layout.dims(), layout.stride()) {
        (&[_, tokens, _], &[batch, row, 1]) => batch == tokens * row,
        _ => false,
    }
}

/// Pointer to the rows of an operand, and their distance.
fn rows(storage: &CudaStorage, layout: &Layout) -> Result<(Pointer, usize)> {
    if !is_rows(layout) {
        candle_core::bail!(
            "{NAME}: operand of shape {:?} is not in rows",
            layout.shape()
        );
    }
    Ok((
        pointer_at(NAME, storage, layout.start_offset())?,
        layout.stride()[1],
    ))
}

fn rows_of(tensor: &Tensor) -> Result<(Pointer, usize)> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => rows(storage, layout),
        _ => candle_core::bail!("{NAME}: an operand is not on the GPU"),
    }
}

/// q, k and v that lie side by side in rows.
fn packed(dims: Dims, dtype: DType, (at, stride): (Pointer, usize)) -> Result<Operands> {
    let (width, size) = (dims.width(), dtype.size_in_bytes());
    Ok(Operands {
        element: element(NAME, dtype)?,
        q: at,
        q_stride: stride,
        k: at.after(width, size),
        v: at.after(2 * width, size),
        kv_stride: stride,
    })
}

/// q in rows of its own, k and v side by side.
fn apart(dims: Dims, dtype: DType, q: (Pointer, usize), kv: (Pointer, usize)) -> Result<Operands> {
    let (width, size) = (dims.width(), dtype.size_in_bytes());
    Ok(Operands {
        element: element(NAME, dtype)?,
        q: q.0,
        q_stride: q.1,
        k: kv.0,
        v: kv.0.after(width, size),
        kv_stride: kv.1,
    })
}

/// Queries, keys and values where they lie.
fn operands(dims: Dims, of: Heads<'_>) -> Result<Operands> {
    match of {
        Heads::Packed(qkv) => packed(dims, qkv.dtype(), rows_of(qkv)?),
        Heads::Apart(q, kv) if q.dtype() == kv.dtype() => {
            apart(dims, q.dtype(), rows_of(q)?, rows_of(kv)?)
        }
        Heads::Apart(q, kv) => candle_core::bail!(
            "{NAME}: queries are {:?}, keys and values {:?}",
            q.dtype(),
            kv.dtype()
        ),
    }
}

/// The tensor that holds the queries.
fn queries<'a>(of: &Heads<'a>) -> &'a Tensor {
    match of {
        Heads::Packed(q) | Heads::Apart(q, _) => q,
    }
}

/// What attention gives (B, N, H·d), and log₂ of each row's sum of exponentials.
pub(super) fn forward(dims: Dims, of: Heads<'_>) -> Result<(CudaStorage, Tensor)> {
    let q = queries(&of);
    let (device, dtype) = (device_of(NAME, q)?, q.dtype());
    let out = empty(&device, dtype, dims.batch * dims.queries * dims.width())?;
    let sums = dims.batch * dims.heads * dims.queries;
    let sums = tensor(empty(&device, DType::F32, sums)?, sums);
    let out_at = pointer_at(NAME, &out, 0)?;
    let sums_at = pointer_to(NAME, &sums, DType::F32)?;
    let launch = kernels::forward(dims, operands(dims, of)?, dims.scale(), out_at, sums_at)
        .map_err(unsupported)?;
    // SAFETY: the operations have checked the operands' shapes against `dims`; the
    // results are as large as it says.
    unsafe { run(&device, &launch) }?;
    Ok((out, sums))
}

/// The gradients of what `of` holds: of packed rows (B, N, 3·H·d), or of q (B, N, H·d) and
/// of k and v (B, M, 2·H·d).
pub(super) fn backward(
    dims: Dims,
    of: Heads<'_>,
    out: &Tensor,
    log_sums: Option<&Tensor>,
    grad: &Tensor,
) -> Result<(Tensor, Option<Tensor>)> {
    let q = queries(&of);
    let (device, dtype) = (device_of(NAME, q)?, q.dtype());
    let Some(sums) = log_sums else {
        candle_core::bail!("{NAME}: a backward without a forward");
    };
    let like = |t: &Tensor| empty(&device, dtype, t.elem_count()).map(|s| tensor(s, t.shape()));
    let d = like(q)?;
    let (width, size) = (dims.width(), dtype.size_in_bytes());
    let (dq, (dk, dkv)) = match of {
        Heads::Packed(_) => {
            let (at, stride) = rows_of(&d)?;
            ((at, stride), ((at.after(width, size), stride), None))
        }
        Heads::Apart(_, kv) => {
            let dkv = like(kv)?;
            (rows_of(&d)?, (rows_of(&dkv)?, Some(dkv)))
        }
    };
    let delta = tensor(empty(&device, DType::F32, sums.elem_count())?, sums.shape());
    let saved = Saved {
        out: pointer_to(NAME, out, dtype)?,
        grad: pointer_to(NAME, grad, dtype)?,
        log_sums: pointer_to(NAME, sums, DType::F32)?,
        delta: pointer_to(NAME, &delta, DType::F32)?,
    };
    let gradient = |(at, stride)| Gradient { at, stride };
    let [dq, dk, dv] = [dq, dk, (dk.0.after(width, size), dk.1)].map(gradient);
    let operands = operands(dims, of)?;
    let launches =
        kernels::backward(dims, operands, dims.scale(), saved, dq, dk, dv).map_err(unsupported)?;
    for launch in &launches {
        // SAFETY: as in the forward; the gradients are as large as the operands.
        unsafe { run(&device, launch) }?;
    }
    Ok((d, dkv))
}
