//! Which device's kernels an operation runs on.

use candle_core::{DType, Device, Result, Tensor};

use super::backend::Backend;
use super::cpu::Cpu;

/// The kernels for a tensor's device and type.
pub(super) fn of(op: &str, tensor: &Tensor) -> Result<&'static dyn Backend> {
    match (tensor.device(), tensor.dtype()) {
        (Device::Cpu, DType::F32) => Ok(&Cpu),
        (Device::Cpu, dtype) => {
            let error = crate::Unsupported::OnCpu(dtype.as_str());
            candle_core::bail!("{op}: {error}")
        }
        #[cfg(feature = "cuda")]
        (Device::Cuda(_), DType::F32 | DType::BF16 | DType::F16) => Ok(&super::cuda::Gpu),
        (device, dtype) => {
            candle_core::bail!("{op}: there are no kernels for {dtype:?} on {device:?}")
        }
    }
}
