//! How fast inference and training are.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor, safetensors};
use mtcae_model::{Config, Mtcae, checkpoint};
use mtcae_nn::{ParamStore, Pass, Precision, device, ops};

use crate::Fault;
use crate::model::{clip, draw, table as levels};
use crate::training::Step;

/// The table's rows, as far as there is time.
struct Rows<'a> {
    gpu: &'a Device,
    end: Instant,
    left: Vec<String>,
}

impl Rows<'_> {
    /// Measures a row and prints it, with the most memory that all tensors took at
    /// once. A batch that does not fit is said.
    fn row(
        &mut self,
        what: &str,
        precision: Precision,
        batch: usize,
        measure: impl FnOnce() -> Result<f64, Fault>,
    ) {
        if Instant::now() > self.end {
            self.left.push(format!("{what} {precision} {batch}"));
            return;
        }
        device::take_peak_memory(self.gpu);
        let measured = measure();
        let peak = device::take_peak_memory(self.gpu)
            .map_or_else(|| "?".to_owned(), |b| format!("{:.1}", b as f64 / 1e9));
        match measured {
            Ok(seconds) => println!(
                "| {what} | {precision} | {batch} | {:.2} | {:.1} | {peak} |",
                1e3 * seconds,
                batch as f64 / seconds
            ),
            Err(error) => println!("| {what} | {precision} | {batch} | {error} | | |"),
        }
    }
}

/// The table in Markdown, of `seconds` a row; after `within` no further row begins.
pub fn table(
    gpu: &Device,
    config: &Config,
    batches: &[usize],
    seconds: f64,
    within: f64,
) -> Result<(), Fault> {
    // A day is for ever here; for ever itself is no duration.
    let end = Instant::now() + Duration::from_secs_f64(within.clamp(0.0, 86_400.0));
    println!("| what | precision | batch | ms | clips/s | GB at most |");
    println!("|---|---|---|---|---|---|");
    let folder = std::env::temp_dir().join(format!("mtcae-gpu-{}", std::process::id()));
    let mut rows = Rows {
        gpu,
        end,
        left: Vec::new(),
    };
    let result = measure_all(&mut rows, config, &folder, batches, seconds);
    let removed = std::fs::remove_dir_all(&folder);
    result?;
    removed?;
    if !rows.left.is_empty() {
        println!(
            "\nNot measured, for want of time: {}.",
            rows.left.join("; ")
        );
    }
    Precision::F32.switch(gpu)?;
    Ok(())
}

fn measure_all(
    rows: &mut Rows<'_>,
    config: &Config,
    folder: &Path,
    batches: &[usize],
    seconds: f64,
) -> Result<(), Fault> {
    let gpu = rows.gpu;
    let drawn = draw(config, 1, &Device::Cpu)?;
    let vars = drawn.vars();
    let tensors = vars.iter().map(|(n, v)| (n.as_str(), v.as_tensor()));
    checkpoint::save(folder, config, tensors)?;
    drop((vars, drawn));
    for precision in Precision::ALL {
        precision.switch(gpu)?;
        let model = checkpoint::load_as(folder, gpu, precision.dtype())?;
        for &batch in batches {
            rows.row("inference", precision, batch, || {
                infer(gpu, config, &model, precision, batch, seconds)
            });
        }
    }
    // One set for all rows: drawing another takes longer than a row, whose time does not
    // depend on the values.
    let store = ParamStore::new(1);
    for (name, tensor) in safetensors::load(folder.join("model.safetensors"), gpu)? {
        store.set(&name, &tensor)?;
    }
    for precision in Precision::ALL {
        precision.switch(gpu)?;
        for checkpointing in [false, true] {
            let what = if checkpointing {
                "training, checkpointing"
            } else {
                "training"
            };
            for &batch in batches {
                rows.row(what, precision, batch, || {
                    let mut step = Step::new(config, &store, gpu.clone(), batch)?;
                    train(gpu, &mut step, precision, checkpointing, seconds)
                });
            }
        }
    }
    Ok(())
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
    step: &mut Step,
    precision: Precision,
    checkpointing: bool,
    budget: f64,
) -> Result<f64, Fault> {
    time(gpu, budget, || {
        let (_, gradients) = step.gradients(precision, checkpointing)?;
        step.optimiser.step(&gradients, 1e-4, 1.0)?;
        Ok(())
    })
}
