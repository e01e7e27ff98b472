//! How near each operation of inference comes to what this CPU could do:
//! `roofline [SIZE [ROUNDS]]`, with SIZE `small`, `base` or `large` for the whole
//! forward.
//!
//! A round measures an operation and, right before and after it, its bound: for
//! products and attention the format's own multiply-adds on registers alone, on
//! all threads ([`mtcae_kernels::peak`]); for LayerNorm and GELU by themselves a
//! parallel copy that reads and writes as much. So a machine that slows down slows
//! both. Printed are medians over the rounds, and the range of the share.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mtcae_decoder::Structure;
use mtcae_decoder::candle_core::Device;
use mtcae_kernels::attention::{Dims, Rows, forward_in};
use mtcae_kernels::buffer::Buffer;
use mtcae_kernels::format::{Format, OperandMut, Precision};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::linear::{Packed, Part, Target, linear};
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::{gelu, layer_norm, peak, threads};
use mtcae_model::{Config, InferencePlan};
use mtcae_nn::ParamStore;
use rayon::prelude::*;

const TOKENS: usize = 1568;

type Fault = Box<dyn std::error::Error>;

fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0)
        .collect()
}

/// Operations a second of all threads on registers alone.
fn ceiling(format: Format) -> f64 {
    let loops = 4_000_000_000 / peak::operations(format, 1) as usize / 10;
    let start = Instant::now();
    let done: Vec<f64> = rayon::broadcast(|_| peak::operations(format, loops));
    done.iter().sum::<f64>() / start.elapsed().as_secs_f64()
}

/// Bytes a second of a copy of `n` numbers on all threads.
fn copying(n: usize) -> f64 {
    let (from, mut to) = (vec![1.0f32; n], vec![0.0f32; n]);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        to.par_chunks_mut(16 * 1024)
            .zip(from.par_chunks(16 * 1024))
            .for_each(|(to, from)| to.copy_from_slice(from));
        best = best.min(start.elapsed().as_secs_f64());
    }
    (2 * n * size_of::<f32>()) as f64 / best
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures `work` units of `run` against `bound`, units a second.
fn measure(
    name: &str,
    unit: &str,
    rounds: usize,
    work: f64,
    bound: impl Fn() -> f64,
    mut run: impl FnMut(),
) {
    run();
    let (mut rates, mut bounds, mut shares) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let before = bound();
        let start = Instant::now();
        run();
        let rate = work / start.elapsed().as_secs_f64();
        let bound = (before + bound()) / 2.0;
        rates.push(rate);
        bounds.push(bound);
        shares.push(rate / bound);
    }
    let share = median(&mut shares);
    println!(
        "| {name} | {:.0} {unit} | {:.0} | {:.0} % ({:.0}–{:.0}) |",
        median(&mut rates) / 1e9,
        median(&mut bounds) / 1e9,
        share * 100.0,
        shares[0] * 100.0,
        shares[rounds - 1] * 100.0
    );
}

fn linears(format: Format, rounds: usize) {
    for (name, inputs, outputs, activates) in [
        ("ViT-L qkv 1024×3072", 1024, 3072, false),
        ("ViT-L proj 1024×1024", 1024, 1024, false),
        ("ViT-L fc1 and GELU 1024×4096", 1024, 4096, true),
        ("ViT-L fc2 4096×1024", 4096, 1024, false),
        ("cascade keys and values 512×5280", 512, 5280, false),
        ("cascade fc1 and GELU 512×2048", 512, 2048, true),
        ("cascade fc2 2048×512", 2048, 512, false),
    ] {
        let (x, weight) = (numbers(TOKENS * inputs), numbers(inputs * outputs));
        let mut out = vec![0.0; TOKENS * outputs];
        let part = Part {
            weight: &weight,
            bias: None,
        };
        let packed = Packed::new(format, inputs, &[part]);
        let mut room = Buffer::zeroed(format.operand_len(TOKENS, inputs));
        let mut operand = OperandMut::new(format, TOKENS, inputs, &mut room);
        operand.pack(MatRef::new(&x, TOKENS, inputs, inputs));
        let operand = operand.finish();
        let mut hidden = Buffer::zeroed(format.operand_len(TOKENS, outputs));
        let work = (2 * TOKENS * inputs * outputs) as f64;
        let name = format!("{name}, {}", format.name());
        measure(
            &name,
            "GFLOP/s",
            rounds,
            work,
            || ceiling(format),
            || {
                let target = match activates {
                    true => Target::Gelu(OperandMut::new(format, TOKENS, outputs, &mut hidden)),
                    false => Target::Store(MatMut::new(&mut out, TOKENS, outputs, outputs)),
                };
                linear(operand, &packed, target);
            },
        );
    }
}

fn attention(format: Format, rounds: usize) {
    for (name, heads, head_dim) in [
        ("ViT-L attention, 16 heads of 64", 16, 64),
        ("cascade attention, 3 heads of 176", 3, 176),
    ] {
        let dims = Dims {
            batch: 1,
            heads,
            queries: TOKENS,
            keys: TOKENS,
            head_dim,
        };
        let width = dims.width();
        let qkv = numbers(TOKENS * 3 * width);
        let mut out = vec![0.0; TOKENS * width];
        let work = (4 * TOKENS * TOKENS * width) as f64;
        let name = format!("{name}, {}", format.name());
        measure(
            &name,
            "GFLOP/s",
            rounds,
            work,
            || ceiling(format),
            || {
                let [q, k, v] = [0, 1, 2].map(|i| Rows::columns(&qkv, 3 * width, i * width));
                forward_in(format, dims, q, k, v, 0.125, &mut out);
            },
        );
    }
}

fn rowwise(rounds: usize) {
    let isa = Isa::best();
    let n = TOKENS * 4096;
    let (x, mut out) = (numbers(n), vec![0.0; n]);
    let bytes = |n: usize| (2 * n * size_of::<f32>()) as f64;
    measure(
        "GELU of 1568×4096",
        "GB/s",
        rounds,
        bytes(n),
        || copying(n),
        || {
            gelu::forward_with(isa, &x, &mut out);
        },
    );
    let n = TOKENS * 1024;
    let (gamma, beta) = (numbers(1024), numbers(1024));
    let out = &mut out[..n];
    measure(
        "LayerNorm of 1568×1024",
        "GB/s",
        rounds,
        bytes(n),
        || copying(n),
        || {
            layer_norm::forward_with(isa, &x[..n], &gamma, &beta, 1e-6, out);
        },
    );
}

/// The whole forward of one clip, drawn weights.
fn whole(encoder: mtcae_encoder::Config, rounds: usize) -> Result<(), Fault> {
    let classes = (0..7).map(|i| i.to_string()).collect();
    let config = Config::new(encoder, Structure::Cascade, classes);
    let work = config.encoder.flops() + config.decoder.flops(TOKENS);
    let width = config.encoder.width;
    let tubes = numbers(TOKENS * config.encoder.tube_len());
    for precision in [Precision::F32, Precision::Bf16] {
        let Some(format) = Format::new(precision) else {
            continue;
        };
        let store = ParamStore::new(1);
        let plan = InferencePlan::new(&config, precision, store.builder(&Device::Cpu))?;
        drop(store);
        let name = format!(
            "ViT of {width} and the cascade, one clip, {}",
            format.name()
        );
        let mut done = Ok(());
        measure(
            &name,
            "GFLOP/s",
            rounds,
            work,
            || ceiling(format),
            || {
                if let Err(error) = plan.forward_slice(&tubes) {
                    done = Err(error);
                }
            },
        );
        done?;
    }
    Ok(())
}

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let size = args.first().map_or("small", String::as_str);
    let encoder = match size {
        "small" => mtcae_encoder::Config::small(),
        "base" => mtcae_encoder::Config::base(),
        "large" => mtcae_encoder::Config::large(),
        other => return Err(format!("{other} is none of small, base and large").into()),
    };
    let rounds = args.get(1).map_or(Ok(9), |n| n.parse())?;
    println!("| operation | achieved | bound | share (range) |");
    println!("|---|---|---|---|");
    threads::on_pool(|| {
        for precision in [Precision::F32, Precision::Bf16] {
            if let Some(format) = Format::new(precision) {
                linears(format, rounds);
                attention(format, rounds);
            }
        }
        rowwise(rounds);
    });
    whole(encoder, rounds)
}
