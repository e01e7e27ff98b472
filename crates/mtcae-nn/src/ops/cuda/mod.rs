//! The operations' halves for NVIDIA GPUs: operands to pointers, and the launches of
//! `mtcae_kernels::cuda` to the device.
//!
//! All work of a device that `crate::device::open` gave goes through its one stream, in
//! order, whichever threads ask for it: no launch needs to wait for another. Backwards
//! are plain functions of tensors, which may give any number of gradients, each of its
//! own type.

mod attention;
mod backend;
mod cross_entropy;
mod faces;
mod gelu;
mod layer_norm;
mod linear;
pub(crate) mod loaded;
mod lt;
mod optimiser;
mod rows;
mod tubes;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, Tensor};
use half::{bf16, f16};
use mtcae_kernels::cuda::{Argument, Element, Launch, Pointer, Unsupported};

use super::backend::Fresh;

pub(super) use attention::is_rows;
pub(super) use backend::Gpu;
pub(super) use cross_entropy::{
    backward as cross_entropy_backward, forward as cross_entropy_forward,
};
pub(super) use faces::{area_resample, conv_prelu, max_pool};
pub(crate) use optimiser::{Moved, adamw_step, blend, sums_of_squares};
pub(super) use tubes::cut as cut_tubes;

/// What the kernels call a type.
fn element(op: &str, dtype: DType) -> Result<Element> {
    match dtype {
        DType::F32 => Ok(Element::F32),
        DType::BF16 => Ok(Element::Bf16),
        DType::F16 => Ok(Element::F16),
        other => candle_core::bail!("{op}: the CUDA kernels take f32, bf16 and f16, not {other:?}"),
    }
}

/// A pointer to the element at `offset` of a storage.
fn pointer_at(op: &str, storage: &CudaStorage, offset: usize) -> Result<Pointer> {
    let stream = storage.device().cuda_stream();
    let base = match &storage.slice {
        CudaStorageSlice::U8(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::U32(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::F32(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::BF16(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::F16(s) => s.device_ptr(&stream).0,
        _ => candle_core::bail!("{op}: the CUDA kernels take no {:?}", storage.dtype()),
    };
    Ok(Pointer::new(base).after(offset, storage.dtype().size_in_bytes()))
}

/// A pointer to a contiguous operand of a type.
fn pointer(op: &str, storage: &CudaStorage, layout: &Layout, dtype: DType) -> Result<Pointer> {
    if storage.dtype() != dtype {
        candle_core::bail!(
            "{op}: an operand is {:?} where {dtype:?} belongs",
            storage.dtype()
        );
    }
    match layout.contiguous_offsets() {
        Some((start, _)) => pointer_at(op, storage, start),
        None => candle_core::bail!(
            "{op}: operand of shape {:?} is not contiguous",
            layout.shape()
        ),
    }
}

/// As [`pointer`], to a tensor. It holds as long as the tensor.
fn pointer_to(op: &str, tensor: &Tensor, dtype: DType) -> Result<Pointer> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => pointer(op, storage, layout, dtype),
        _ => candle_core::bail!("{op}: an operand is not on the GPU"),
    }
}

/// The device of a tensor.
fn device_of(op: &str, tensor: &Tensor) -> Result<CudaDevice> {
    match tensor.device() {
        candle_core::Device::Cuda(device) => Ok(device.clone()),
        _ => candle_core::bail!("{op}: an operand is not on the GPU"),
    }
}

/// Memory for `n` elements, not written yet.
fn empty(device: &CudaDevice, dtype: DType, n: usize) -> Result<CudaStorage> {
    // The driver may refuse to give no memory at all.
    let n = n.max(1);
    // SAFETY: whoever asks for it has a kernel write every element before any is read.
    let slice = unsafe {
        match dtype {
            DType::F32 => device.alloc::<f32>(n).map(CudaStorageSlice::F32),
            DType::BF16 => device.alloc::<bf16>(n).map(CudaStorageSlice::BF16),
            DType::F16 => device.alloc::<f16>(n).map(CudaStorageSlice::F16),
            other => candle_core::bail!("the CUDA kernels give no {other:?}"),
        }
    };
    let slice =
        slice.map_err(|e| crate::device::out_of_memory(e, device, n * dtype.size_in_bytes()))?;
    Ok(CudaStorage {
        slice,
        device: device.clone(),
    })
}

/// A result of a shape, not written yet.
fn fresh(device: &CudaDevice, dtype: DType, shape: Vec<usize>) -> Result<Fresh> {
    let shape = Shape::from(shape);
    let storage = Storage::Cuda(empty(device, dtype, shape.elem_count())?);
    Ok(Fresh { storage, shape })
}

/// A pointer to it.
fn pointer_to_fresh(op: &str, fresh: &Fresh) -> Result<Pointer> {
    match &fresh.storage {
        Storage::Cuda(storage) => pointer_at(op, storage, 0),
        _ => candle_core::bail!("{op}: a result is not on the GPU"),
    }
}

/// A tensor of memory that a kernel has written.
fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

fn unsupported(error: Unsupported) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

/// Puts a launch on the device's stream, unless there is nothing to compute: the driver
/// refuses an empty grid.
///
/// # Safety
/// Every pointer of the launch must be to memory of this device as large as the
/// kernel's operand, which is not given back before the launch is on the stream.
pub(crate) unsafe fn run(device: &CudaDevice, launch: &Launch) -> Result<()> {
    if launch.grid.contains(&0) {
        return Ok(());
    }
    let function = loaded::function(device, launch)?;
    let stream = device.cuda_stream();
    let mut builder = stream.launch_builder(&function);
    for argument in &launch.arguments {
        match argument {
            Argument::Pointer(pointer) => builder.arg(pointer.as_ref()),
            Argument::U32(number) => builder.arg(number),
            Argument::F32(number) => builder.arg(number),
        };
    }
    let [x, y, z] = launch.grid;
    let config = LaunchConfig {
        grid_dim: (x, y, z),
        block_dim: (launch.block, 1, 1),
        shared_mem_bytes: launch.shared,
    };
    // SAFETY: `mtcae_kernels::cuda` gives a kernel the arguments that it takes; that
    // their pointers hold is the caller's promise.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}
