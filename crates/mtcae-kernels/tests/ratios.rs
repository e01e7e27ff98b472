//! Guards against a fast path that has become slow, or that is no longer taken:
//! each kernel in every `f32` format of this CPU against the portable one, in turns
//! on one thread, the shortest of many runs each. What is demanded, of AVX2, AVX-512
//! and AMX, is about half of what a crowded machine with all three gave, since
//! machines differ and neighbours disturb.
//!
//! Not part of the ordinary tests, because it is about time: `make guards`.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use mtcae_kernels::attention::{Dims, Rows, forward_in};
use mtcae_kernels::buffer::Buffer;
use mtcae_kernels::format::{Factors, Format, OperandMut};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::linear::{Packed, Part, Target, linear};
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::product::{Initial, product_with};
use mtcae_kernels::{gelu, layer_norm};

const ROWS: usize = 128;
const WIDTH: usize = 256;

fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0)
        .collect()
}

/// A kernel in one format, to be run again and again.
type Run<'a> = Box<dyn FnMut() + Send + 'a>;

/// How many times as fast as the last of `runs`, the portable one, the others are.
fn ratios(mut runs: Vec<Run<'_>>) -> Vec<f64> {
    let mut best = vec![Duration::MAX; runs.len()];
    for _ in 0..40 {
        for (run, best) in runs.iter_mut().zip(&mut best) {
            let start = Instant::now();
            run();
            *best = (*best).min(start.elapsed());
        }
    }
    let portable = best.pop().expect("the portable format").as_secs_f64();
    best.iter().map(|t| portable / t.as_secs_f64()).collect()
}

/// Says the ratios, and each that is less than its instruction set's demand.
fn judge(kernel: &str, least: [f64; 3], names: &[&str], ratios: &[f64]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, ratio) in names.iter().zip(ratios) {
        println!("{kernel:12} {name:9} {ratio:5.1} times as fast as portable");
        let [avx2, avx512, amx] = least;
        let least = match *name {
            "avx2" => avx2,
            "avx512" => avx512,
            _ => amx,
        };
        if *ratio < least {
            faults.push(format!("{kernel} in {name}: {ratio:.1}, not {least}"));
        }
    }
    faults
}

fn all() -> Vec<String> {
    let isas = Isa::available();
    let mut formats = Format::available();
    formats.retain(|f| f.factors() == Factors::F32);
    let isa_names: Vec<&str> = isas.iter().map(|i| i.name()).collect();
    let format_names: Vec<&str> = formats.iter().map(|f| f.name()).collect();
    let (a, b) = (numbers(ROWS * WIDTH), numbers(WIDTH * WIDTH));
    let qkv = numbers(ROWS * 3 * WIDTH);
    let room = || vec![0.0; ROWS * WIDTH];
    let mut faults = Vec::new();
    let mut check = |kernel, least, names: &[&str], runs: Vec<Run<'_>>| {
        faults.extend(judge(kernel, least, names, &ratios(runs)));
    };

    let (a, b, qkv) = (&a[..], &b[..], &qkv[..]);
    let runs = isas.iter().map(|&isa| -> Run<'_> {
        let mut out = room();
        Box::new(move || {
            let out = MatMut::new(&mut out, ROWS, WIDTH, WIDTH);
            let b = MatRef::new(b, WIDTH, WIDTH, WIDTH);
            let a = MatRef::new(a, ROWS, WIDTH, WIDTH);
            product_with(isa, a, b, 1.0, Initial::Zero, out);
        })
    });
    check("product", [1.5, 3.0, 2.0], &isa_names, runs.collect());

    let runs = formats.iter().map(|&format| -> Run<'_> {
        let part = Part {
            weight: b,
            bias: None,
        };
        let packed = Packed::new(format, WIDTH, &[part]);
        let mut operand = Buffer::zeroed(format.operand_len(ROWS, WIDTH));
        let mut out = room();
        Box::new(move || {
            let mut x = OperandMut::new(format, ROWS, WIDTH, &mut operand);
            x.pack(MatRef::new(a, ROWS, WIDTH, WIDTH));
            let out = MatMut::new(&mut out, ROWS, WIDTH, WIDTH);
            linear(x.finish(), &packed, Target::Store(out));
        })
    });
    check("linear", [1.4, 2.7, 2.0], &format_names, runs.collect());

    let dims = Dims {
        batch: 1,
        heads: 4,
        queries: ROWS,
        keys: ROWS,
        head_dim: WIDTH / 4,
    };
    let runs = formats.iter().map(|&format| -> Run<'_> {
        let mut out = room();
        Box::new(move || {
            let [q, k, v] = [0, 1, 2].map(|i| Rows::columns(qkv, 3 * WIDTH, i * WIDTH));
            forward_in(format, dims, q, k, v, 0.125, &mut out);
        })
    });
    check("attention", [1.2, 2.2, 2.4], &format_names, runs.collect());

    let runs = isas.iter().map(|&isa| -> Run<'_> {
        let mut out = room();
        Box::new(move || gelu::forward_with(isa, a, &mut out))
    });
    check("gelu", [1.3, 1.9, 1.8], &isa_names, runs.collect());

    let runs = isas.iter().map(|&isa| -> Run<'_> {
        let mut out = room();
        Box::new(move || {
            layer_norm::forward_with(isa, a, &b[..WIDTH], &b[..WIDTH], 1e-6, &mut out);
        })
    });
    check("layer-norm", [1.8, 2.2, 2.2], &isa_names, runs.collect());
    faults
}

#[test]
#[ignore = "about time: run it alone, by `make guards`"]
fn every_format_is_much_faster_than_the_portable_one() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let faults = pool.expect("a pool").install(all);
    assert!(faults.is_empty(), "{}", faults.join("; "));
}
