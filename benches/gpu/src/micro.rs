//! Each kernel by itself: how long it takes, as events on the GPU say, beside what the
//! GPU gives at most; and what it takes of the GPU.

#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use mtcae_kernels::cuda::checks::Machine;
use mtcae_kernels::cuda::{Element, Launch, Pointer};
use mtcae_nn::checks::{Gpu, Resources};
use mtcae_nn::{Precision, device};
use rayon::prelude::*;

use crate::cases::{At, Operand, Work, makers, products};
use crate::weights::bell;
use crate::{Fault, Size, one_line};

/// What the GPU gives at most, as measured.
#[derive(Clone, Copy)]
struct Most {
    /// Operations a second of a large product in the type.
    products: f64,
    /// Bytes a second of a large copy, those read and those written.
    bytes: f64,
}

/// How much is measured: everything shrinks where the model is tiny.
pub struct Plan {
    pub batch: usize,
    pub precision: Precision,
    /// After these seconds no further row begins.
    pub within: f64,
    /// The side of the product and the bytes of the copy that show what the GPU gives.
    pub side: usize,
    pub copied: usize,
}

/// A table in Markdown, each row as soon as it is measured.
pub fn table(device: &Device, size: Size, plan: &Plan) -> Result<(), Fault> {
    let Device::Cuda(cuda) = device else {
        return Err("micro: a GPU is needed".into());
    };
    plan.precision.switch(device)?;
    let gpu = Gpu::new(cuda);
    let end = Instant::now() + Duration::from_secs_f64(plan.within);
    let most = most(device, &gpu, plan)?;
    println!(
        "{} of {side}³: {:.0} TFLOP/s; copy of {:.2} GB: {:.0} GB/s read and written\n",
        plan.precision,
        most.products / 1e12,
        plan.copied as f64 / 1e9,
        most.bytes / 1e9,
        side = plan.side,
    );
    println!("| what | ms | rate | of the most |");
    println!("|---|---|---|---|");
    let mut left = 0;
    for (name, sides) in products(size, plan.batch) {
        if Instant::now() > end {
            left += 1;
            continue;
        }
        let [rows, inner, columns] = sides;
        let work = Work::Products(2.0 * (rows * inner * columns) as f64);
        let time = product(device, &gpu, plan.precision.dtype(), sides);
        row(
            &format!("product {name} {rows}×{inner}×{columns}"),
            work,
            time,
            most,
        );
    }
    let element = element(plan.precision);
    for make in makers(size, plan.batch, element)? {
        if Instant::now() > end {
            left += 1;
            continue;
        }
        let mut memory = Vec::new();
        let cases = make(&mut |operand| {
            let piece = piece(&gpu, element, operand)?;
            let pointer = gpu.pointer(&piece);
            memory.push(piece);
            Ok(pointer)
        });
        match cases {
            Ok(cases) => {
                for case in cases {
                    // SAFETY: `make` has asked for memory as large as its launches'
                    // operands, and it lives until all of them have run.
                    let time = median(&gpu, || unsafe { gpu.launch(&case.launches) });
                    row(&case.name, case.work, time, most);
                }
            }
            Err(error) => println!("| {} | | | |", one_line(error.as_ref())),
        }
        device::synchronize(device)?;
    }
    if left > 0 {
        println!("\nNot measured, for want of time: the last {left} groups.");
    }
    Precision::F32.switch(device)?;
    Ok(())
}

fn element(precision: Precision) -> Element {
    match precision {
        Precision::Bf16 => Element::Bf16,
        Precision::F32 | Precision::Tf32 => Element::F32,
    }
}

fn row(name: &str, work: Work, time: Result<f64, Fault>, most: Most) {
    match time {
        Ok(seconds) => {
            let (rate, share) = match work {
                Work::Products(flops) => (
                    format!("{:.1} TFLOP/s", flops / seconds / 1e12),
                    flops / seconds / most.products,
                ),
                Work::Bytes(bytes) => (
                    format!("{:.0} GB/s", bytes / seconds / 1e9),
                    bytes / seconds / most.bytes,
                ),
            };
            println!(
                "| {name} | {:.3} | {rate} | {:.0} % |",
                1e3 * seconds,
                1e2 * share
            );
        }
        Err(error) => println!("| {name} | {} | | |", one_line(error.as_ref())),
    }
}

/// The median of some calls after one to warm up.
fn median(gpu: &Gpu, mut f: impl FnMut() -> Result<(), String>) -> Result<f64, Fault> {
    const CALLS: usize = 20;
    /// Enough where a call takes long, on machines that emulate a GPU.
    const SECONDS: f64 = 0.5;
    gpu.time(&mut f)?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || (times.len() < CALLS && start.elapsed().as_secs_f64() < SECONDS) {
        times.push(gpu.time(&mut f)?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn most(device: &Device, gpu: &Gpu, plan: &Plan) -> Result<Most, Fault> {
    let n = plan.side;
    let seconds = product(device, gpu, plan.precision.dtype(), [n, n, n])?;
    let (from, mut to) = (gpu.zeros(plan.copied)?, gpu.zeros(plan.copied)?);
    let copied = median(gpu, || gpu.copy(&from, &mut to))?;
    Ok(Most {
        products: 2.0 * (n * n * n) as f64 / seconds,
        bytes: 2.0 * plan.copied as f64 / copied,
    })
}

/// Seconds of x·Wᵀ as the layers compute it.
fn product(
    device: &Device,
    gpu: &Gpu,
    dtype: DType,
    [rows, inner, columns]: [usize; 3],
) -> Result<f64, Fault> {
    let x = numbers(device, dtype, (rows, inner))?;
    let w = numbers(device, dtype, (columns, inner))?;
    let product = || mtcae_nn::ops::linear(&x, &w, None);
    median(gpu, || product().map(drop).map_err(|e| e.to_string()))
}

/// Not zeros, of which a product takes less power, and so less time.
fn numbers(device: &Device, dtype: DType, shape: (usize, usize)) -> Result<Tensor, Fault> {
    let n = (shape.0 * shape.1) as u64;
    let values: Vec<f32> = (0..n).into_par_iter().map(|k| bell(2, k)).collect();
    Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
}

fn piece(gpu: &Gpu, element: Element, operand: Operand) -> Result<<Gpu as Machine>::Memory, Fault> {
    Ok(match operand {
        Operand::Zeros(bytes) => gpu.zeros(bytes)?,
        Operand::Bytes(bytes) => gpu.upload(&bytes)?,
        Operand::Numbers(n) => {
            let values = (0..n as u64).into_par_iter().map(|k| bell(1, k).to_bits());
            let bytes: Vec<u8> = match element {
                // bf16 is the upper half of an f32.
                Element::Bf16 => {
                    let halves: Vec<[u8; 2]> = values
                        .map(|bits| ((bits >> 16) as u16).to_ne_bytes())
                        .collect();
                    halves.into_flattened()
                }
                Element::F32 => {
                    let words: Vec<[u8; 4]> = values.map(u32::to_ne_bytes).collect();
                    words.into_flattened()
                }
                Element::F16 => return Err("micro: bf16 and f32 alone are measured".into()),
            };
            gpu.upload(&bytes)?
        }
    })
}

/// Registers, memory and occupancy of the kernels that the models use, and how long their
/// modules took to load; a table in Markdown.
pub fn resources(device: &Device, size: Size, batch: usize) -> Result<bool, Fault> {
    let Device::Cuda(cuda) = device else {
        return Err("resources: a GPU is needed".into());
    };
    let gpu = Gpu::new(cuda);
    println!(
        "| kernel | registers | local bytes | shared bytes | threads | blocks a multiprocessor | occupancy | waves | module loaded in ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let (mut good, mut seen) = (true, BTreeSet::new());
    for element in [Element::Bf16, Element::F32] {
        // Nothing is launched, so any address of enough alignment will do.
        let at: &mut At<'_> = &mut |_| Ok(Pointer::new(256));
        for make in makers(size, batch, element)? {
            for launch in make(at)?.iter().flat_map(|case| &case.launches) {
                if !seen.insert(launch.function.clone()) {
                    continue;
                }
                match gpu.resources(launch) {
                    Ok(r) => println!("{}", resources_row(launch, &r)),
                    Err(error) => {
                        good = false;
                        println!("FAILED {}: {error}", launch.function);
                    }
                }
            }
        }
    }
    Ok(good)
}

fn resources_row(launch: &Launch, r: &Resources) -> String {
    fn shown<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "?".to_owned(), |value| value.to_string())
    }
    let threads = r.blocks.map(|blocks| f64::from(blocks * launch.block));
    let most = r.most_threads.map(|most| f64::from(most.max(1)));
    let occupancy = threads
        .zip(most)
        .map(|(t, most)| format!("{:.0} %", 1e2 * t / most));
    let room = r.blocks.zip(r.multiprocessors);
    let room = room.map(|(blocks, of)| f64::from(blocks.max(1)) * f64::from(of.max(1)));
    let blocks: f64 = launch.grid.iter().map(|&n| f64::from(n)).product();
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} |",
        launch.function,
        shown(r.registers),
        shown(r.local),
        shown(r.shared),
        launch.block,
        shown(r.blocks),
        shown(occupancy),
        shown(room.map(|room| format!("{:.1}", blocks / room))),
        1e3 * r.load_time.as_secs_f64(),
    )
}
