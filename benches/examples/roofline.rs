//! How near each operation of inference comes to what this CPU could do:
//! `roofline [SIZE [ROUNDS]]`, with SIZE `small`, `base` or `large` for the whole
//! forward.
//!
//! A round measures an operation and, right before and after it, its bound: for
//! products and attention the format's own multiply-adds on registers alone, on
//! all threads ([`ceiling`]); for LayerNorm and GELU by themselves a
//! parallel copy that reads and writes as much. So a machine that slows down slows
//! both. Printed are medians over the rounds, and the range of the share.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mtcae_benches::machine::{ceiling, lines, median};
use mtcae_benches::operations::{ATTENTION, LAYERS, TOKENS, numbers};
use mtcae_decoder::Structure;
use mtcae_decoder::candle_core::Device;
use mtcae_encoder::VideoMaeConfig;
use mtcae_kernels::format::Format;
use mtcae_kernels::isa::Isa;
use mtcae_kernels::{gelu, layer_norm, threads};
use mtcae_model::{Config, Engine};
use mtcae_nn::ParamStore;
use mtcae_nn::plan::{Precision, format};
use rayon::prelude::*;

type Fault = Box<dyn std::error::Error>;

/// What is over in a fraction of a millisecond runs this often in a row.
const TIMES: usize = 20;

/// Bytes a second of a copy on all threads.
fn copying(from: &[f32], to: &mut [f32]) -> f64 {
    let start = Instant::now();
    for _ in 0..TIMES {
        to.par_chunks_mut(16 * 1024)
            .zip(from.par_chunks(16 * 1024))
            .for_each(|(to, from)| to.copy_from_slice(from));
    }
    (2 * TIMES * size_of_val(from)) as f64 / start.elapsed().as_secs_f64()
}

/// Measures `work` units of `run` against `bound`, units a second.
fn measure(
    name: &str,
    unit: &str,
    rounds: usize,
    work: f64,
    mut bound: impl FnMut() -> f64,
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

fn products(format: Format, rounds: usize) {
    let bound = || ceiling(format);
    for layer in LAYERS {
        let name = format!("{}, {}", layer.name, format.name());
        let work = layer.work() as f64;
        measure(&name, "GFLOP/s", rounds, work, bound, layer.prepare(format));
    }
    for heads in ATTENTION {
        let name = format!("{}, {}", heads.name, format.name());
        let work = heads.work() as f64;
        measure(&name, "GFLOP/s", rounds, work, bound, heads.prepare(format));
    }
}

fn rowwise(rounds: usize) {
    let isa = Isa::best();
    let n = TOKENS * 4096;
    let (x, mut out, mut copy) = (numbers(n), vec![0.0; n], vec![1.0; n]);
    let bytes = |n: usize| (2 * TIMES * n * size_of::<f32>()) as f64;
    measure(
        "GELU of 1568×4096",
        "GB/s",
        rounds,
        bytes(n),
        || copying(&x, &mut copy),
        || (0..TIMES).for_each(|_| gelu::forward_with(isa, &x, &mut out)),
    );
    let n = TOKENS * 1024;
    let (gamma, beta) = (numbers(1024), numbers(1024));
    let (x, out, copy) = (&x[..n], &mut out[..n], &mut copy[..n]);
    measure(
        "LayerNorm of 1568×1024",
        "GB/s",
        rounds,
        bytes(n),
        || copying(x, copy),
        || (0..TIMES).for_each(|_| layer_norm::forward_with(isa, x, &gamma, &beta, 1e-6, out)),
    );
}

/// The whole forward of one clip, drawn weights.
fn whole(encoder: VideoMaeConfig, rounds: usize) -> Result<(), Fault> {
    let classes = (0..7).map(|i| i.to_string()).collect();
    let config = Config::new(encoder, Structure::Cascade, classes);
    let work = config.encoder.flops() + config.decoder.flops(TOKENS);
    let width = config.encoder.output().width;
    let tubes = numbers(config.encoder.input().numbers());
    for precision in [Precision::F32, Precision::Bf16] {
        let Ok(format) = format(precision) else {
            continue;
        };
        let store = ParamStore::new(1);
        let plan = Engine::pack(&config, precision, store.builder(&Device::Cpu))?;
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
                if let Err(error) = plan.run_slice(&tubes) {
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
        "small" => VideoMaeConfig::small(),
        "base" => VideoMaeConfig::base(),
        "large" => VideoMaeConfig::large(),
        other => return Err(format!("{other} is not one of small, base and large").into()),
    };
    let rounds: usize = args.get(1).map_or(Ok(9), |n| n.parse())?;
    if rounds == 0 {
        return Err("at least one round".into());
    }
    for line in lines().map_err(|e| e.to_string())? {
        println!("{line}");
    }
    println!("\n| operation | achieved | bound | share (range) |");
    println!("|---|---|---|---|");
    for format in Format::available() {
        let mut rates: Vec<f64> = (0..rounds).map(|_| ceiling(format) / 1e9).collect();
        let name = format.name();
        println!(
            "| registers alone, {name} | | {:.0} GFLOP/s | |",
            median(&mut rates)
        );
    }
    threads::on_pool(|| {
        for format in Format::available() {
            products(format, rounds);
        }
        rowwise(rounds);
    });
    whole(encoder, rounds)
}
