//! Kernels on the GPUs of this process: each module is loaded once, whichever device of
//! Candle's asks for it, and each kernel looked up once.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, DriverError, sys,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::{CudaDevice, Result};
use mtcae_kernels::cuda::{Launch, OLDEST, RELEASE, binary};

/// Shared memory that a block gets without asking.
const UNASKED: u32 = 48 * 1024;

/// What is loaded on one GPU. It keeps the GPU's context, in which the modules are, until
/// the process ends.
#[derive(Default)]
struct Loaded {
    modules: HashMap<String, (Arc<CudaModule>, Duration)>,
    kernels: HashMap<String, Kernel>,
}

struct Kernel {
    function: CudaFunction,
    /// Dynamic shared memory that its blocks may have.
    allowed: u32,
    /// How long its module took to load.
    #[cfg_attr(not(feature = "checks"), allow(dead_code))]
    load_time: Duration,
}

/// By the GPU's number.
static LOADED: LazyLock<Mutex<HashMap<usize, Loaded>>> = LazyLock::new(Mutex::default);

/// The kernel of a launch, allowed the shared memory that the launch asks for.
pub(crate) fn function(device: &CudaDevice, launch: &Launch) -> Result<CudaFunction> {
    with(device, launch, |kernel| {
        if launch.shared > kernel.allowed {
            // Another thread may have loaded it.
            device.cuda_stream().context().bind_to_thread().w()?;
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            kernel
                .function
                .set_attribute(most, launch.shared as i32)
                .w()?;
            kernel.allowed = launch.shared;
        }
        Ok(kernel.function.clone())
    })
}

/// How long the module of a launch took to load.
#[cfg(feature = "checks")]
pub(crate) fn load_time(device: &CudaDevice, launch: &Launch) -> Result<Duration> {
    with(device, launch, |kernel| Ok(kernel.load_time))
}

/// Calls `f` with the kernel of a launch, which is loaded where it was not yet.
fn with<T>(
    device: &CudaDevice,
    launch: &Launch,
    f: impl FnOnce(&mut Kernel) -> Result<T>,
) -> Result<T> {
    let stream = device.cuda_stream();
    let context = stream.context();
    // A panic elsewhere leaves the map whole: inserts are its only change.
    let mut gpus = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = gpus.entry(context.ordinal()).or_default();
    if let Some(kernel) = loaded.kernels.get_mut(&launch.function) {
        return f(kernel);
    }
    context.bind_to_thread().w()?;
    let (module, load_time) = match loaded.modules.get(&launch.module) {
        Some(known) => known.clone(),
        None => {
            let begin = Instant::now();
            let new = (load(context, &launch.module)?, begin.elapsed());
            loaded.modules.insert(launch.module.clone(), new.clone());
            new
        }
    };
    let function = module.load_function(&launch.function).map_err(|e| {
        candle_core::Error::Msg(format!(
            "CUDA module {} has no kernel {}: {e}",
            launch.module, launch.function
        ))
    })?;
    let new = Kernel {
        function,
        allowed: UNASKED,
        load_time,
    };
    f(loaded.kernels.entry(launch.function.clone()).or_insert(new))
}

fn load(context: &Arc<CudaContext>, name: &str) -> Result<Arc<CudaModule>> {
    let Some(bytes) = binary(name) else {
        candle_core::bail!("there is no CUDA module {name}");
    };
    // The driver would read on behind it.
    if bytes.is_empty() {
        candle_core::bail!(
            "CUDA module {name} is empty: something else than CUDA's nvcc made this build"
        );
    }
    let module = context.load_module(Ptx::from_binary(bytes.to_vec()));
    module.map_err(|error| candle_core::Error::Msg(refused(context, name, error)))
}

/// Why a module does not load, and where it would.
fn refused(context: &CudaContext, name: &str, error: DriverError) -> String {
    let gpu = context
        .name()
        .unwrap_or_else(|_| "a GPU without a name".to_owned());
    let (major, minor) = context.compute_capability().unwrap_or_default();
    format!(
        "CUDA module {name} does not load on {gpu} (compute capability {major}.{minor}): {error}; it has machine code \
         for 8.x and 9.0 and PTX of CUDA {}.{} for newer ones, from {}.{} on, for which a driver of that CUDA or a newer \
         one is needed",
        RELEASE.0, RELEASE.1, OLDEST.0, OLDEST.1
    )
}
