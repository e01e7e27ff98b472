//! One training step, for those who look on: Nsight Systems with
//! `--capture-range=cudaProfilerApi`, or the pretend GPU's trace (scripts/count_step.sh).

#![allow(clippy::print_stdout)]

use candle_core::{DType, Device, Tensor};
use mtcae_model::Config;
use mtcae_nn::{ParamStore, Precision, device};

use crate::Fault;
use crate::training::Step;

/// A step to warm up, then one between the marks of a profiler. The weights are 0: what
/// is launched does not depend on them.
pub fn run(
    gpu: &Device,
    config: &Config,
    precision: Precision,
    batch: usize,
    checkpointing: bool,
) -> Result<(), Fault> {
    precision.switch(gpu)?;
    let store = ParamStore::new(1);
    for (name, shape) in config.tensors()? {
        store.set(&name, &Tensor::zeros(shape, DType::F32, gpu)?)?;
    }
    let mut step = Step::new(config, &store, gpu.clone(), batch)?;
    let mut once = || -> Result<(), Fault> {
        let (_, gradients) = step.gradients(precision, checkpointing)?;
        step.optimiser.step(&gradients, 1e-4, 1.0)?;
        Ok(())
    };
    once()?;
    device::synchronize(gpu)?;
    device::take_peak_memory(gpu);
    {
        #[cfg(feature = "cuda")]
        let _marks = candle_core::cuda_backend::cudarc::driver::Profiler::new()?;
        once()?;
        device::synchronize(gpu)?;
    }
    let peak = device::take_peak_memory(gpu).unwrap_or(0);
    println!(
        "one step in {precision}, batch {batch}: {:.2} GB at most",
        peak as f64 / 1e9
    );
    Ok(())
}
