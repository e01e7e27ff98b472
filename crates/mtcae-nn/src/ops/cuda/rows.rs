use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{CudaDevice, DType, Result, Tensor};
use mtcae_kernels::cuda::{Pointer, rows as kernels};

use super::super::backend::{Bias, Fresh};
use super::{
    device_of, element, empty, fresh, pointer_to, pointer_to_fresh, run, tensor, unsupported,
};

const NAME: &str = "residual";

/// Rows, and elements of one.
pub(super) fn rows(x: &Tensor) -> (usize, usize) {
    let width = x.dims().last().copied().unwrap_or(1);
    (x.elem_count() / width.max(1), width)
}

/// One number for each sample, on a device.
pub(super) struct Scales {
    numbers: CudaSlice<f32>,
    device: CudaDevice,
    /// Rows that each scales.
    run: usize,
}

impl Scales {
    pub(super) fn new(
        device: &CudaDevice,
        scales: Option<&[f32]>,
        rows: usize,
    ) -> Result<Option<Self>> {
        let Some(scales) = scales else {
            return Ok(None);
        };
        if scales.is_empty() || !rows.is_multiple_of(scales.len()) {
            candle_core::bail!("{NAME}: {} scales for {rows} rows", scales.len());
        }
        Ok(Some(Self {
            numbers: device.clone_htod(scales)?,
            device: device.clone(),
            run: rows / scales.len(),
        }))
    }

    /// A pointer to them, and the rows that each scales.
    pub(super) fn place(&self) -> (Pointer, usize) {
        let numbers = self.numbers.device_ptr(&self.device.cuda_stream()).0;
        (Pointer::new(numbers), self.run)
    }
}

/// A bias of `f32` as the kernels take it; the tensors must live as long.
pub(super) fn bias_of(
    bias: Option<&Bias>,
    width: usize,
) -> Result<(kernels::Bias, [Option<Tensor>; 2])> {
    let mut of = kernels::Bias::none(width);
    let Some(bias) = bias else {
        return Ok((of, [None, None]));
    };
    let wide = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_dtype(DType::F32)).transpose();
    let parts = [wide(&bias.first)?, wide(&bias.last)?];
    let [first, last] = &parts;
    let lengths = [first, last].map(|t| t.as_ref().map_or(0, Tensor::elem_count));
    if lengths[0] + lengths[1] > width {
        candle_core::bail!("{NAME}: a bias of {lengths:?} for {width} columns");
    }
    if let Some(first) = first {
        (of.first, of.end) = (pointer_to(NAME, first, DType::F32)?, lengths[0]);
    }
    if let Some(last) = last {
        (of.last, of.start) = (pointer_to(NAME, last, DType::F32)?, width - lengths[1]);
    }
    Ok((of, parts))
}

/// base + s·(x + bias) for x (…, D).
pub(super) fn residual(
    base: Option<&Tensor>,
    x: &Tensor,
    bias: Option<&Bias>,
    scales: Option<&[f32]>,
) -> Result<Fresh> {
    let (device, dtype) = (device_of(NAME, x)?, x.dtype());
    let (count, width) = rows(x);
    if base.is_some_and(|b| b.elem_count() != x.elem_count()) {
        candle_core::bail!(
            "{NAME}: a sum and a branch of {:?} differ in size",
            x.dims()
        );
    }
    let scales = Scales::new(&device, scales, count)?;
    let (of, _parts) = bias_of(bias, width)?;
    let out = fresh(&device, dtype, x.dims().to_vec())?;
    let launch = kernels::residual(
        element(NAME, dtype)?,
        pointer_to_fresh(NAME, &out)?,
        base.map(|b| pointer_to(NAME, b, dtype)).transpose()?,
        pointer_to(NAME, x, dtype)?,
        of,
        scales.as_ref().map(Scales::place),
        count,
        width,
    )
    .map_err(unsupported)?;
    // SAFETY: x, the base and the result hold as many elements, the bias no more than
    // `width`, and there are as many scales as runs of rows.
    unsafe { run(&device, &launch) }?;
    Ok(out)
}

/// The sums of the columns of a contiguous x (…, D): (D) of `f32`.
pub(super) fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (device, dtype) = (device_of(NAME, x)?, x.dtype());
    let (count, width) = rows(x);
    let sums = tensor(empty(&device, DType::F32, width)?, width);
    let parts = kernels::parts(count, width);
    let parts = tensor(empty(&device, DType::F32, parts)?, parts);
    let launches = kernels::column_sums(
        element(NAME, dtype)?,
        pointer_to(NAME, &sums, DType::F32)?,
        pointer_to(NAME, &parts, DType::F32)?,
        pointer_to(NAME, x, dtype)?,
        count,
        width,
    )
    .map_err(unsupported)?;
    for launch in &launches {
        // SAFETY: x holds its elements, the sums `width`; the parts are as many as the
        // kernels say.
        unsafe { run(&device, launch) }?;
    }
    Ok(sums)
}
