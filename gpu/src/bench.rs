//! How fast inference and training are.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::{Device, Tensor};
use mtcae_model::{Config, Mtcae, checkpoint};
use mtcae_nn::{Pass, Precision, device, ops};

use crate::Fault;
use crate::model::{clip, draw, table as levels};
use crate::training::Step;

fn row(
    what: &str,
    precision: Precision,
    batch: usize,
    seconds: f64,
    free: Option<(usize, usize)>,
    gpu: &Device,
) {
    let used = match (free, device::memory(gpu)) {
        (Some((before, _)), Some((after, _))) => before.saturating_sub(after) as f64 / 1e9,
        _ => 0.0,
    };
    println!(
        "| {what} | {precision} | {batch} | {:.2} | {:.1} | {used:.1} |",
        1e3 * seconds,
        batch as f64 / seconds
    );
}

/// The table in Markdown. A batch that does not fit is said and left out.
pub fn table(gpu: &Device, config: &Config, batches: &[usize], seconds: f64) -> Result<(), Fault> {
    println!("| what | precision | batch | ms | clips/s | GB taken |");
    println!("|---|---|---|---|---|---|");
    let folder = std::env::temp_dir().join(format!("mtcae-gpu-{}", std::process::id()));
    let store = draw(config, 1, &Device::Cpu)?;
    let vars = store.vars();
    checkpoint::save(
        &folder,
        config,
        vars.iter().map(|(n, v)| (n.as_str(), v.as_tensor())),
    )?;
    let rows = || -> Result<(), Fault> {
        for precision in Precision::ALL {
            precision.switch(gpu)?;
            let free = device::memory(gpu);
            let model = checkpoint::load_as(&folder, gpu, precision.dtype())?;
            for &batch in batches {
                match infer(gpu, config, &model, precision, batch, seconds) {
                    Ok(time) => row("inference", precision, batch, time, free, gpu),
                    Err(error) => println!("| inference | {precision} | {batch} | {error} | | |"),
                }
            }
        }
        for precision in Precision::ALL {
            for checkpointing in [false, true] {
                let what = if checkpointing {
                    "training, checkpointing"
                } else {
                    "training"
                };
                for &batch in batches {
                    let free = device::memory(gpu);
                    match train(gpu, config, precision, checkpointing, batch, seconds) {
                        Ok(time) => row(what, precision, batch, time, free, gpu),
                        Err(error) => println!("| {what} | {precision} | {batch} | {error} | | |"),
                    }
                }
            }
        }
        Ok(())
    };
    let result = rows();
    std::fs::remove_dir_all(&folder)?;
    Precision::F32.switch(gpu)?;
    result
}

/// Seconds of one call: the median, after three to warm up.
fn time(gpu: &Device, budget: f64, mut f: impl FnMut() -> Result<(), Fault>) -> Result<f64, Fault> {
    for _ in 0..3 {
        f()?;
    }
    device::synchronize(gpu)?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || start.elapsed().as_secs_f64() < budget {
        let begin = Instant::now();
        f()?;
        device::synchronize(gpu)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// From 8-bit clips on the GPU to head outputs.
fn infer(
    gpu: &Device,
    config: &Config,
    model: &Mtcae,
    precision: Precision,
    batch: usize,
    budget: f64,
) -> Result<f64, Fault> {
    let clips: Tensor = clip(config, batch)?.to_device(gpu)?;
    let table = levels(config, gpu)?;
    let (tubelet, patch) = (config.encoder.tubelet, config.encoder.patch);
    time(gpu, budget, || {
        let tubes = ops::tubes(&clips, &table, tubelet, patch, precision.dtype())?;
        model.run(&tubes, &mut Pass::inference())?;
        Ok(())
    })
}

/// Forward, backward and a step of AdamW over all parameters.
fn train(
    gpu: &Device,
    config: &Config,
    precision: Precision,
    checkpointing: bool,
    batch: usize,
    budget: f64,
) -> Result<f64, Fault> {
    precision.switch(gpu)?;
    let store = draw(config, 1, gpu)?;
    let mut step = Step::new(config, &store, gpu.clone(), batch)?;
    time(gpu, budget, || {
        let (_, gradients) = step.gradients(precision, checkpointing)?;
        step.optimiser.step(&gradients, 1e-4, 1.0)?;
        Ok(())
    })
}
