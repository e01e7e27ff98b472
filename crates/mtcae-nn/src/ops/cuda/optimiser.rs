use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{CudaDevice, DType, Result, Tensor};
use mtcae_kernels::adamw::Moments;
use mtcae_kernels::cuda::Pointer;
use mtcae_kernels::cuda::adamw::{Parameter, Table};

use super::{device_of, pointer_to, run, unsupported};

const NAME: &str = "adamw";

/// One parameter of a step: itself, its gradient, its averages (2, n), 1 − lr·λ and
/// lr/(1 − β₁ᵗ).
pub(crate) struct Moved<'a> {
    pub(crate) parameter: &'a Tensor,
    pub(crate) gradient: &'a Tensor,
    pub(crate) state: &'a Tensor,
    pub(crate) keep: f32,
    pub(crate) rate: f32,
}

/// A table on the device.
struct Uploaded {
    device: CudaDevice,
    table: Table,
    bytes: CudaSlice<u8>,
}

impl Uploaded {
    fn new(on: &Tensor, parameters: impl IntoIterator<Item = Result<Parameter>>) -> Result<Self> {
        let device = device_of(NAME, on)?;
        let parameters = parameters.into_iter().collect::<Result<Vec<_>>>()?;
        let table = Table::new(parameters).map_err(unsupported)?;
        let bytes = device.clone_htod(&table.bytes())?;
        Ok(Self {
            device,
            table,
            bytes,
        })
    }

    fn pointer(&self) -> Pointer {
        Pointer::new(self.bytes.device_ptr(&self.device.cuda_stream()).0)
    }
}

/// Moves all parameters by their gradients, in one launch.
pub(crate) fn adamw_step(
    parameters: &[Moved<'_>],
    moments: &Moments,
    root: f32,
    eps: f32,
) -> Result<()> {
    let Some(first) = parameters.first() else {
        return Ok(());
    };
    let at = |tensor| pointer_to(NAME, tensor, DType::F32);
    let table = Uploaded::new(
        first.parameter,
        parameters.iter().map(|p| {
            let length = p.parameter.elem_count();
            if p.gradient.elem_count() != length || p.state.elem_count() != 2 * length {
                candle_core::bail!("{NAME}: gradient or state of another size than the parameter");
            }
            let m = at(p.state)?;
            Ok(Parameter {
                parameter: at(p.parameter)?,
                gradient: at(p.gradient)?,
                m,
                v: m.after(length, 4),
                length,
                keep: p.keep,
                rate: p.rate,
            })
        }),
    )?;
    if let Some(launch) = table.table.step(table.pointer(), moments, root, eps) {
        // SAFETY: the sizes were checked above. The optimiser owns the averages, and
        // a parameter is changed as by `Var::set`: on the stream, after all that read it.
        unsafe { run(&table.device, &launch) }?;
    }
    Ok(())
}

/// a ← keep·a + add·x.
pub(crate) fn blend(a: &Tensor, x: &Tensor, keep: f32, add: f32) -> Result<()> {
    let length = a.elem_count();
    if x.elem_count() != length {
        candle_core::bail!("blend: {length} elements and {}", x.elem_count());
    }
    let parameter = Parameter {
        parameter: pointer_to(NAME, a, DType::F32)?,
        gradient: pointer_to(NAME, x, DType::F32)?,
        m: Pointer::NONE,
        v: Pointer::NONE,
        length,
        keep,
        rate: add,
    };
    let table = Uploaded::new(a, [Ok(parameter)])?;
    if let Some(launch) = table.table.blend(table.pointer()) {
        // SAFETY: both hold `length` elements.
        unsafe { run(&table.device, &launch) }?;
    }
    Ok(())
}

/// Σx² over several tensors of `f32`, in one launch, summed in `f64`.
pub(crate) fn sums_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    let Some(first) = tensors.first() else {
        return Ok(0.0);
    };
    let table = Uploaded::new(
        first,
        tensors.iter().map(|x| {
            Ok(Parameter {
                parameter: Pointer::NONE,
                gradient: pointer_to(NAME, x, DType::F32)?,
                m: Pointer::NONE,
                v: Pointer::NONE,
                length: x.elem_count(),
                keep: 1.0,
                rate: 0.0,
            })
        }),
    )?;
    // SAFETY: the kernel writes one number a block, which is all there are.
    let sums = unsafe { table.device.alloc::<f64>(table.table.blocks().max(1)) }?;
    let stream = table.device.cuda_stream();
    let Some(launch) = table
        .table
        .sums_of_squares(Pointer::new(sums.device_ptr(&stream).0), table.pointer())
    else {
        return Ok(0.0);
    };
    // SAFETY: the table names tensors of this device with their lengths.
    unsafe { run(&table.device, &launch) }?;
    Ok(stream.clone_dtoh(&sums).w()?.iter().sum())
}
