//! How fast inference and training are.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use clap::ValueEnum;
use mtcae_model::{Checkpoint, Config, Mtcae};
use mtcae_nn::{ParamStore, Pass, Precision, device, ops};

use crate::model::{clip, table as levels};
use crate::smi::{self, Sample};
use crate::training::Step;
use crate::weights::Folder;
use crate::{Fault, one_line};

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    Inference,
    Training,
    /// Training that keeps each block's input and computes the rest again.
    Checkpointing,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Training => "training",
            Self::Checkpointing => "training, checkpointing",
        }
    }
}

/// What is measured, in the order of these lists: of each precision each batch.
pub struct Rows<'a> {
    pub precisions: &'a [Precision],
    pub batches: &'a [usize],
    pub what: &'a [What],
    /// Of each row.
    pub seconds: f64,
    /// After these no further row begins.
    pub within: f64,
    /// The GPU, as `nvidia-smi` knows it.
    pub smi: String,
}

/// A median, and how the GPU was in the midst of it.
struct Timing {
    seconds: f64,
    sample: Option<Sample>,
}

/// The table in Markdown, each row as soon as it is measured; a row that fails, for want
/// of memory say, says so.
pub fn table(gpu: &Device, config: &Config, folder: &Folder, rows: &Rows<'_>) -> Result<(), Fault> {
    let end = Instant::now() + Duration::from_secs_f64(rows.within);
    println!("| what | precision | batch | ms | clips/s | GB at most | MHz | W | throttled |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut left = Vec::new();
    let mut store = None;
    for &precision in rows.precisions {
        precision.switch(gpu)?;
        let mut model = None;
        for &batch in rows.batches {
            for &what in rows.what {
                // With one clip there is nothing that training could keep less of.
                if what == What::Checkpointing && batch == 1 {
                    continue;
                }
                let row = format!("{} | {precision} | {batch}", what.name());
                if Instant::now() > end {
                    left.push(row.replace(" | ", " "));
                    continue;
                }
                device::take_peak_memory(gpu);
                let measured = match what {
                    What::Inference => kept(&mut model, || {
                        Ok(Checkpoint::open(folder.path())?.model_as(gpu, precision.dtype())?)
                    })
                    .and_then(|model| infer(gpu, config, model, precision, batch, rows)),
                    What::Training | What::Checkpointing => {
                        let checkpointing = what == What::Checkpointing;
                        kept(&mut store, || folder.store(gpu)).and_then(|store| {
                            train(gpu, config, store, precision, batch, checkpointing, rows)
                        })
                    }
                };
                let peak = device::take_peak_memory(gpu)
                    .map_or_else(|| "?".to_owned(), |b| format!("{:.1}", b as f64 / 1e9));
                println!("| {row} | {} |", cells(&measured, batch, &peak));
            }
        }
    }
    if !left.is_empty() {
        println!("\nNot measured, for want of time: {}.", left.join("; "));
    }
    Precision::F32.switch(gpu)?;
    Ok(())
}

/// What `make` gives, made at the first need.
fn kept<T>(
    place: &mut Option<T>,
    make: impl FnOnce() -> Result<T, Fault>,
) -> Result<&mut T, Fault> {
    let value = match place.take() {
        Some(value) => value,
        None => make()?,
    };
    Ok(place.insert(value))
}

/// The rest of a row.
fn cells(measured: &Result<Timing, Fault>, batch: usize, peak: &str) -> String {
    match measured {
        Ok(Timing { seconds, sample }) => {
            let sample = match sample {
                Some(s) => format!("{} | {} | {}", s.megahertz, s.watts, s.throttled),
                None => "? | ? | ?".to_owned(),
            };
            format!(
                "{:.2} | {:.1} | {peak} | {sample}",
                1e3 * seconds,
                batch as f64 / seconds
            )
        }
        Err(error) => format!("{} | | {peak} | | |", one_line(error.as_ref())),
    }
}

/// The median of calls after two to warm up.
fn time(
    gpu: &Device,
    rows: &Rows<'_>,
    mut f: impl FnMut() -> Result<(), Fault>,
) -> Result<Timing, Fault> {
    for _ in 0..2 {
        f()?;
    }
    device::synchronize(gpu)?;
    let midst = Duration::from_secs_f64(rows.seconds / 2.0);
    let sample = smi::sample_after(&rows.smi, midst);
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || start.elapsed().as_secs_f64() < rows.seconds {
        let begin = Instant::now();
        f()?;
        device::synchronize(gpu)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(Timing {
        seconds: times[times.len() / 2],
        sample: sample.join().ok().flatten(),
    })
}

/// From 8-bit clips on the GPU to head outputs.
fn infer(
    gpu: &Device,
    config: &Config,
    model: &Mtcae,
    precision: Precision,
    batch: usize,
    rows: &Rows<'_>,
) -> Result<Timing, Fault> {
    let clips: Tensor = clip(config, batch)?.to_device(gpu)?;
    let table = levels(config, gpu)?;
    let (tubelet, patch) = config.encoder.input().tube();
    time(gpu, rows, || {
        let tubes = ops::tubes(&clips, &table, tubelet, patch, precision.dtype())?;
        model.run(&tubes, &mut Pass::inference())?;
        Ok(())
    })
}

/// Forward, backward and a step of AdamW over all parameters. One set of them serves all
/// rows, whose time does not depend on the values.
fn train(
    gpu: &Device,
    config: &Config,
    store: &ParamStore,
    precision: Precision,
    batch: usize,
    checkpointing: bool,
    rows: &Rows<'_>,
) -> Result<Timing, Fault> {
    let mut step = Step::new(config, store, gpu.clone(), batch)?;
    time(gpu, rows, || {
        let (_, gradients) = step.gradients(precision, checkpointing)?;
        step.optimiser.step(&gradients, 1e-4, 1.0)?;
        Ok(())
    })
}
