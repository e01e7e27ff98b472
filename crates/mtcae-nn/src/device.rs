//! Devices by name, and what is wrong with one that cannot be used.

use candle_core::Device;

/// Why a device cannot be used. There is no fallback to another.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The name is none.
    #[error("device {name:?} is neither `cpu` nor `cuda:N`")]
    Name {
        /// What was asked for.
        name: String,
    },
    /// The build has no CUDA.
    #[error("device {name}: this build has no CUDA; build with `--features cuda`")]
    NotBuilt {
        /// What was asked for.
        name: String,
    },
    /// The driver does not start.
    #[error("device {name}: the NVIDIA driver does not start: {reason}")]
    Driver {
        /// What was asked for.
        name: String,
        /// What the driver says.
        reason: String,
    },
    /// The driver is older than the CUDA of the build.
    #[error(
        "device {name}: the driver is of CUDA {}.{}, this build of CUDA {}.{}; a newer driver, or a build with an older CUDA, is needed",
        driver.0, driver.1, build.0, build.1
    )]
    OldDriver {
        /// What was asked for.
        name: String,
        /// CUDA that the driver is of.
        driver: (u32, u32),
        /// CUDA that the kernels were compiled with.
        build: (u32, u32),
    },
    /// There is no such GPU.
    #[error("device {name}: {}", there_is(devices))]
    Missing {
        /// What was asked for.
        name: String,
        /// The GPUs that there are, in order.
        devices: Vec<String>,
    },
    /// The GPU is of a generation that lacks what the kernels use.
    #[error(
        "device {name}: {gpu} has compute capability {}.{}; the kernels need {}.{} or newer (Ampere and later)",
        found.0, found.1, needed.0, needed.1
    )]
    Generation {
        /// What was asked for.
        name: String,
        /// The GPU's name.
        gpu: String,
        /// What it has.
        found: (u32, u32),
        /// The oldest that would do.
        needed: (u32, u32),
    },
    /// Candle's kernels were compiled for GPUs of another generation.
    #[error(
        "device {name}: {gpu} has compute capability {}.{}; Candle's kernels are for {target} in this build; build with CUDA_COMPUTE_CAP=80, which runs on that and all newer ones",
        found.0, found.1
    )]
    Build {
        /// What was asked for.
        name: String,
        /// The GPU's name.
        gpu: String,
        /// What it has.
        found: (u32, u32),
        /// What the build has, as PTX names it.
        target: String,
    },
    /// Candle cannot open it.
    #[error("device {name}: {source}")]
    Candle {
        /// What was asked for.
        name: String,
        /// The cause.
        source: candle_core::Error,
    },
}

fn there_is(devices: &[String]) -> String {
    match devices {
        [] => "there is no NVIDIA GPU".to_owned(),
        _ => {
            let list: Vec<String> = devices
                .iter()
                .enumerate()
                .map(|(i, gpu)| format!("cuda:{i} ({gpu})"))
                .collect();
            format!("there is no such GPU; there is {}", list.join(", "))
        }
    }
}

/// The number of a `cuda:N`; nothing for `cpu`.
fn parse(name: &str) -> Result<Option<usize>, DeviceError> {
    if name == "cpu" {
        return Ok(None);
    }
    let ordinal = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
    ordinal.map(Some).ok_or_else(|| DeviceError::Name {
        name: name.to_owned(),
    })
}

/// Opens `cpu` or `cuda:N`.
///
/// A GPU's work goes through one stream, in order, whichever threads ask for it. Each
/// call opens another: share the device (a clone is cheap) where tensors are shared. A
/// tensor that moves to another GPU, or to the same one opened again, needs
/// [`synchronize`] of its old device before, and of the new one before it is dropped.
/// The process keeps the memory that tensors leave for those that come, as its most at
/// once; [`memory`] gives it back.
///
/// # Errors
/// Says why the device cannot be used and, where there is one, what could be.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    match parse(name)? {
        None => Ok(Device::Cpu),
        Some(ordinal) => gpu::open(name, ordinal),
    }
}

/// Free and total bytes of a GPU's memory; nothing for the CPU. Waits for the device and
/// gives back what dropped tensors have left, so that it counts as free.
pub fn memory(device: &Device) -> Option<(usize, usize)> {
    gpu::memory(device)
}

/// The most bytes that tensors on a GPU have taken at once since the last call, and
/// counts anew from here; nothing for the CPU. Tensors of the whole process count.
pub fn take_peak_memory(device: &Device) -> Option<u64> {
    gpu::take_peak_memory(device)
}

/// Waits until all work of a device is done; at once for the CPU.
///
/// # Errors
/// When something that ran before has failed.
pub fn synchronize(device: &Device) -> candle_core::Result<()> {
    device.synchronize()
}

/// Whether a driver of one CUDA runs kernels of another.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
fn runs(driver: (u32, u32), build: (u32, u32)) -> bool {
    driver >= build
}

/// What PTX says that it is for: `sm_80`.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
fn target(ptx: &str) -> Option<&str> {
    let line = ptx.lines().find_map(|line| line.strip_prefix(".target "))?;
    line.split(',').next().map(str::trim)
}

/// Whether PTX for a target runs on a GPU: from its compute capability on; on that alone
/// with an `a` behind it, within its generation with an `f`.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
fn compiles(target: &str, found: (u32, u32)) -> bool {
    let Some(number) = target.strip_prefix("sm_") else {
        return false;
    };
    let digits = number.trim_end_matches(['a', 'f']);
    let Ok(needed) = digits.parse::<u32>() else {
        return false;
    };
    let needed = (needed / 10, needed % 10);
    match &number[digits.len()..] {
        "" => found >= needed,
        "f" => found >= needed && found.0 == needed.0,
        _ => found == needed,
    }
}

/// 13.0 of 13000.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
fn release(version: i32) -> (u32, u32) {
    let version = version.max(0) as u32;
    (version / 1000, version % 1000 / 10)
}

/// The words of an allocation that failed.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
fn too_little(asked: usize, free: usize, total: usize) -> String {
    let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
    format!(
        "out of GPU memory: {:.2} GiB asked for, {:.2} of {:.2} GiB free; a smaller batch, bf16 or checkpointing takes less",
        gib(asked),
        gib(free),
        gib(total)
    )
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use super::{Device, DeviceError};

    pub(super) fn open(name: &str, _: usize) -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt {
            name: name.to_owned(),
        })
    }

    pub(super) fn memory(_: &Device) -> Option<(usize, usize)> {
        None
    }

    pub(super) fn take_peak_memory(_: &Device) -> Option<u64> {
        None
    }
}

#[cfg(feature = "cuda")]
mod gpu {
    use candle_core::CudaDevice;
    use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result, sys};
    use candle_core::cuda_backend::{CudaError, kernels};
    use mtcae_kernels::cuda::{OLDEST, RELEASE};

    use super::{Device, DeviceError, compiles, release, runs, target, too_little};

    pub(super) fn open(name: &str, ordinal: usize) -> Result<Device, DeviceError> {
        let owned = || name.to_owned();
        let driver_fault = |error: DriverError| DeviceError::Driver {
            name: owned(),
            reason: said(error),
        };
        if let Err(error) = result::init() {
            return Err(match error.0 {
                sys::CUresult::CUDA_ERROR_NO_DEVICE => DeviceError::Missing {
                    name: owned(),
                    devices: Vec::new(),
                },
                _ => driver_fault(error),
            });
        }
        let mut version = 0;
        // SAFETY: the driver writes one number to the address given.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(driver_fault)?;
        let driver = release(version);
        if !runs(driver, RELEASE) {
            return Err(DeviceError::OldDriver {
                name: owned(),
                driver,
                build: RELEASE,
            });
        }
        let count = CudaContext::device_count().map_err(driver_fault)?.max(0) as usize;
        if ordinal >= count {
            let devices = (0..count)
                .map(|i| {
                    let device = result::device::get(i as i32)?;
                    result::device::get_name(device)
                })
                .collect::<Result<_, _>>()
                .map_err(driver_fault)?;
            return Err(DeviceError::Missing {
                name: owned(),
                devices,
            });
        }
        let context = CudaContext::new(ordinal).map_err(driver_fault)?;
        let (major, minor) = context.compute_capability().map_err(driver_fault)?;
        let found = (major.max(0) as u32, minor.max(0) as u32);
        if found < OLDEST {
            return Err(DeviceError::Generation {
                name: owned(),
                gpu: context.name().map_err(driver_fault)?,
                found,
                needed: OLDEST,
            });
        }
        let target = target(kernels::AFFINE.ptx()).unwrap_or("no target");
        if !compiles(target, found) {
            return Err(DeviceError::Build {
                name: owned(),
                gpu: context.name().map_err(driver_fault)?,
                found,
                target: target.to_owned(),
            });
        }
        keep_memory(&context).map_err(driver_fault)?;
        // A stream of the device's own. The one that `new_cuda` takes is another for each
        // thread of the host, and what one thread computes is not there for the next.
        let device =
            Device::new_cuda_with_stream(ordinal).map_err(|source| DeviceError::Candle {
                name: owned(),
                source,
            })?;
        if let Device::Cuda(cuda) = &device {
            // SAFETY: the events order the uses of memory on several streams, two for each
            // allocation. All memory of this device is taken, used and given back on its
            // one stream, whichever thread asks; what a tensor that goes to another
            // device needs is said where devices are opened.
            unsafe { cuda.disable_event_tracking() };
        }
        Ok(device)
    }

    fn said(error: DriverError) -> String {
        match (error.error_name(), error.error_string()) {
            (Ok(name), Ok(text)) => {
                format!("{} ({})", text.to_string_lossy(), name.to_string_lossy())
            }
            _ => format!("error {}", error.0 as u32),
        }
    }

    pub(super) fn memory(device: &Device) -> Option<(usize, usize)> {
        match device {
            Device::Cuda(device) => free_and_total(device).ok(),
            _ => None,
        }
    }

    fn free_and_total(device: &CudaDevice) -> Result<(usize, usize), DriverError> {
        let stream = device.cuda_stream();
        // What was dropped is the pool's once the stream has passed it.
        stream.synchronize()?;
        if let Some(pool) = pool(stream.context())? {
            // SAFETY: the pool is the device's own, which lives as long as the driver.
            unsafe { result::mem_pool::trim_to(pool, 0) }?;
        }
        stream.context().mem_get_info()
    }

    pub(super) fn take_peak_memory(device: &Device) -> Option<u64> {
        let Device::Cuda(device) = device else {
            return None;
        };
        let pool = pool(device.cuda_stream().context()).ok()??;
        let peak = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        let (mut bytes, mut zero) = (0_u64, 0_u64);
        // SAFETY: as above; the attribute is a number of 64 bits.
        unsafe {
            result::mem_pool::get_attribute(pool, peak, (&raw mut bytes).cast()).ok()?;
            result::mem_pool::set_attribute(pool, peak, (&raw mut zero).cast()).ok()?;
        }
        Some(bytes)
    }

    /// The pool that a GPU's tensors take their memory from; a GPU may have none.
    fn pool(context: &CudaContext) -> Result<Option<sys::CUmemoryPool>, DriverError> {
        let pools = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
        if context.attribute(pools)? == 0 {
            return Ok(None);
        }
        // SAFETY: the context has the device from the driver.
        unsafe { result::device::get_mem_pool(context.cu_device()) }.map(Some)
    }

    /// Lets a GPU's pool keep what tensors leave, until [`memory`] is asked for or the
    /// process ends: at first it gives all of it back whenever the host waits for the GPU.
    fn keep_memory(context: &CudaContext) -> Result<(), DriverError> {
        let Some(pool) = pool(context)? else {
            return Ok(());
        };
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        let mut all = u64::MAX;
        // SAFETY: the pool is the device's own; the attribute is a number of 64 bits.
        unsafe { result::mem_pool::set_attribute(pool, threshold, (&raw mut all).cast()) }
    }

    /// An allocation's error with what was asked and what was free in it.
    pub(crate) fn out_of_memory(
        error: candle_core::Error,
        device: &CudaDevice,
        asked: usize,
    ) -> candle_core::Error {
        if !is_out_of_memory(&error) {
            return error;
        }
        let (free, total) = free_and_total(device).unwrap_or_default();
        candle_core::Error::Msg(too_little(asked, free, total))
    }

    fn is_out_of_memory(error: &candle_core::Error) -> bool {
        match error {
            candle_core::Error::WithBacktrace { inner, .. } => is_out_of_memory(inner),
            candle_core::Error::Cuda(inner) => matches!(
                inner.downcast_ref(),
                Some(CudaError::Cuda(DriverError(
                    sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY
                )))
            ),
            _ => false,
        }
    }
}

#[cfg(feature = "cuda")]
pub(crate) use gpu::out_of_memory;

/// Whether an error says that a GPU's memory was not enough.
pub fn is_out_of_memory(error: &dyn std::error::Error) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if text.contains("out of GPU memory") || text.contains("CUDA_ERROR_OUT_OF_MEMORY") {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["gpu", "cuda", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            let error = open(name).expect_err("no such name").to_string();
            assert!(error.contains(name) && error.contains("cuda:N"), "{error}");
        }
        assert!(open("cpu").is_ok_and(|d| d.is_cpu()));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_so() {
        let error = open("cuda:0").expect_err("no CUDA").to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }

    #[test]
    fn errors_name_what_is_there_and_what_would_do() {
        let missing = |devices| {
            DeviceError::Missing {
                name: "cuda:7".to_owned(),
                devices,
            }
            .to_string()
        };
        assert_eq!(
            missing(vec!["NVIDIA H200".to_owned()]),
            "device cuda:7: there is no such GPU; there is cuda:0 (NVIDIA H200)"
        );
        assert_eq!(missing(Vec::new()), "device cuda:7: there is no NVIDIA GPU");
        let text = too_little(3 << 30, 1 << 29, 8 << 30);
        assert!(
            text.contains("3.00 GiB asked for, 0.50 of 8.00 GiB free"),
            "{text}"
        );
    }

    #[test]
    fn ptx_runs_from_its_target_on_and_an_architecture_specific_one_there_alone() {
        let ptx = "//\n.version 9.0\n.target sm_90a, debug\n.address_size 64\n";
        assert_eq!((target(ptx), target("")), (Some("sm_90a"), None));
        assert!(compiles("sm_80", (8, 0)) && compiles("sm_80", (12, 0)));
        assert!(!compiles("sm_90", (8, 9)));
        assert!(compiles("sm_90a", (9, 0)) && !compiles("sm_90a", (10, 0)));
        assert!(compiles("sm_100f", (10, 3)) && !compiles("sm_100f", (12, 0)));
        assert!(!compiles("no target", (9, 0)));
    }

    #[test]
    fn a_driver_runs_kernels_of_its_own_cuda_and_of_older_ones() {
        assert_eq!(release(13_000), (13, 0));
        assert_eq!(release(12_080), (12, 8));
        assert!(runs((13, 0), (13, 0)) && runs((13, 1), (13, 0)) && runs((13, 0), (12, 9)));
        assert!(!runs((12, 9), (13, 0)));
    }
}
