//! A GPU for the checks of `mtcae_kernels::cuda::checks`.

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use mtcae_kernels::cuda::Launch;
use mtcae_kernels::cuda::checks::Machine;

/// A GPU that runs launches on memory of its own.
pub struct Gpu {
    device: CudaDevice,
}

impl Gpu {
    /// The GPU of a Candle device.
    pub fn new(device: &CudaDevice) -> Self {
        Self {
            device: device.clone(),
        }
    }
}

impl Machine for Gpu {
    type Memory = CudaSlice<u8>;

    fn upload(&self, bytes: &[u8]) -> Result<Self::Memory, String> {
        // A launch may be given no operand at all, an allocation not.
        let some = if bytes.is_empty() { &[0][..] } else { bytes };
        self.device.clone_htod(some).map_err(|e| e.to_string())
    }

    fn address(&self, memory: &Self::Memory) -> u64 {
        memory.device_ptr(&self.device.cuda_stream()).0
    }

    fn download(&self, memory: &Self::Memory) -> Result<Vec<u8>, String> {
        self.device.clone_dtoh(memory).map_err(|e| e.to_string())
    }

    unsafe fn run(&self, launch: &Launch) -> Result<(), String> {
        // SAFETY: the caller promises what a launch needs.
        unsafe { crate::ops::cuda::run(&self.device, launch) }.map_err(|e| e.to_string())
    }
}
