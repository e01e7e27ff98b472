//! Whether the GPU, its driver and its libraries are what the program needs.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use mtcae_nn::{Precision, device};

use crate::Fault;
use crate::model::deviation;

/// Opens the GPU, says what it is, and has it compute one product in each precision.
pub fn check(name: &str) -> Result<(Device, bool), Fault> {
    let begin = Instant::now();
    let gpu = device::open(name)?;
    println!("{name} opened in {:.1} s", begin.elapsed().as_secs_f64());
    describe(&gpu)?;
    if let Some((free, total)) = device::memory(&gpu) {
        let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
        println!("memory: {:.1} of {:.1} GiB free", gib(free), gib(total));
    }
    let numbers = |n: usize| -> Result<Tensor, Fault> {
        let values: Vec<f32> = (0..n * n)
            .map(|k| crate::weights::bell(n as u64, k as u64))
            .collect();
        Ok(Tensor::from_vec(values, (n, n), &Device::Cpu)?)
    };
    let a = numbers(192)?;
    let want = a.matmul(&a)?;
    let mut good = true;
    for (precision, bound) in [
        (Precision::F32, 1e-5),
        (Precision::Tf32, 5e-3),
        (Precision::Bf16, 2e-2),
    ] {
        let begin = Instant::now();
        precision.switch(&gpu)?;
        let on_gpu = a.to_device(&gpu)?.to_dtype(precision.dtype())?;
        let got = on_gpu.matmul(&on_gpu)?.to_dtype(DType::F32)?;
        let error = deviation(&got, &want)?;
        let verdict = if error <= bound { "ok" } else { "FAILED" };
        good &= error <= bound;
        println!(
            "{verdict:6} {error:.1e} of {bound:.1e}  cuBLAS, a product in {precision}, in {:.2} s",
            begin.elapsed().as_secs_f64()
        );
    }
    Precision::F32.switch(&gpu)?;
    Ok((gpu, good))
}

#[cfg(feature = "cuda")]
fn describe(gpu: &Device) -> Result<(), Fault> {
    use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute as Attribute;
    let Device::Cuda(cuda) = gpu else {
        return Err("start: a GPU is needed".into());
    };
    let stream = cuda.cuda_stream();
    let context = stream.context();
    let (major, minor) = context.compute_capability()?;
    let of = |attribute| context.attribute(attribute);
    println!(
        "{}: compute capability {major}.{minor}, {} multiprocessors of {} KiB shared memory, {} MHz",
        context.name()?,
        of(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        of(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)? / 1024,
        of(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? / 1000,
    );
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn describe(_: &Device) -> Result<(), Fault> {
    Err("start: this build has no CUDA; build with `--features cuda`".into())
}
