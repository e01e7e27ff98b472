//! A GPU for the checks of `mtcae_kernels::cuda::checks`, and what it says of its kernels.

use std::time::Duration;

use candle_core::CudaDevice;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, sys};
use mtcae_kernels::cuda::checks::Machine;
use mtcae_kernels::cuda::{Launch, Pointer};

use crate::ops::cuda::{loaded, run};

/// A GPU that runs launches on memory of its own. Errors name the call and the kernel.
pub struct Gpu {
    device: CudaDevice,
}

/// What a kernel takes of a GPU; nothing where the driver does not say.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: Option<i32>,
    /// Bytes of a thread's local memory: its stack, and registers that were spilled.
    pub local: Option<i32>,
    /// Bytes of a block's shared memory.
    pub shared: Option<i32>,
    /// Blocks that a multiprocessor has room for at once.
    pub blocks: Option<u32>,
    /// Threads that a multiprocessor has room for, whatever they take.
    pub most_threads: Option<i32>,
    /// Multiprocessors.
    pub multiprocessors: Option<i32>,
    /// How long the kernel's module took to load.
    pub load_time: Duration,
}

impl Gpu {
    /// The GPU of a Candle device.
    pub fn new(device: &CudaDevice) -> Self {
        Self {
            device: device.clone(),
        }
    }

    /// Memory of so many bytes, all zero.
    ///
    /// # Errors
    /// When there is not enough.
    pub fn zeros(&self, bytes: usize) -> Result<CudaSlice<u8>, String> {
        let memory = self.device.alloc_zeros(bytes.max(1));
        memory.map_err(|e| crate::device::out_of_memory(e, &self.device, bytes).to_string())
    }

    /// Copies memory of one size into other.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn copy(&self, from: &CudaSlice<u8>, to: &mut CudaSlice<u8>) -> Result<(), String> {
        let stream = self.device.cuda_stream();
        stream.memcpy_dtod(from, to).map_err(|e| e.to_string())
    }

    /// Puts launches on the stream and does not wait.
    ///
    /// # Errors
    /// When one cannot be put there.
    ///
    /// # Safety
    /// As [`Machine::run`].
    pub unsafe fn launch(&self, launches: &[Launch]) -> Result<(), String> {
        launches.iter().try_for_each(|launch| {
            // SAFETY: the caller promises what a launch needs.
            unsafe { run(&self.device, launch) }.map_err(|e| format!("{}: {e}", launch.function))
        })
    }

    /// Seconds that the GPU takes for what `f` puts on the stream, as events around it
    /// say.
    ///
    /// # Errors
    /// Of `f`, and when something on the stream has failed.
    pub fn time(&self, f: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
        let stream = self.device.cuda_stream();
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let event = || stream.record_event(timed).map_err(|e| e.to_string());
        let begin = event()?;
        f()?;
        let milliseconds = begin.elapsed_ms(&event()?);
        Ok(f64::from(milliseconds.map_err(|e| e.to_string())?) / 1e3)
    }

    /// What the kernel of a launch takes; loads it where it is not loaded yet.
    ///
    /// # Errors
    /// When it does not load.
    pub fn resources(&self, launch: &Launch) -> Result<Resources, String> {
        self.resources_of(launch).map_err(|e| e.to_string())
    }

    fn resources_of(&self, launch: &Launch) -> candle_core::Result<Resources> {
        use sys::CUdevice_attribute as Attribute;
        let load_time = loaded::load_time(&self.device, launch)?;
        let kernel = loaded::function(&self.device, launch)?;
        let stream = self.device.cuda_stream();
        let context = stream.context();
        context.bind_to_thread().w()?;
        let of_gpu = |attribute| context.attribute(attribute).ok();
        let own = kernel.shared_size_bytes().ok();
        Ok(Resources {
            registers: kernel.num_regs().ok(),
            local: kernel.local_size_bytes().ok(),
            shared: own.map(|own| own + launch.shared as i32),
            blocks: kernel
                .occupancy_max_active_blocks_per_multiprocessor(
                    launch.block,
                    launch.shared as usize,
                    None,
                )
                .ok(),
            most_threads: of_gpu(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR),
            multiprocessors: of_gpu(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            load_time,
        })
    }
}

impl Machine for Gpu {
    type Memory = CudaSlice<u8>;

    fn upload(&self, bytes: &[u8]) -> Result<Self::Memory, String> {
        // A launch may be given no operand at all, an allocation not.
        let some = if bytes.is_empty() { &[0][..] } else { bytes };
        self.device
            .clone_htod(some)
            .map_err(|e| crate::device::out_of_memory(e, &self.device, some.len()).to_string())
    }

    fn pointer(&self, memory: &Self::Memory) -> Pointer {
        Pointer::new(memory.device_ptr(&self.device.cuda_stream()).0)
    }

    fn download(&self, memory: &Self::Memory) -> Result<Vec<u8>, String> {
        self.device.clone_dtoh(memory).map_err(|e| e.to_string())
    }

    /// Waits for the launch, so that an error is that of this one and of none before.
    unsafe fn run(&self, launch: &Launch) -> Result<(), String> {
        // SAFETY: the caller promises what a launch needs.
        unsafe { run(&self.device, launch) }.map_err(|e| e.to_string())?;
        let waited = self.device.cuda_stream().synchronize();
        waited.map_err(|e| format!("while it ran: {e}"))
    }
}
