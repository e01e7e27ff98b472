//! One kernel of inference on a small fixed shape, a given number of times on one
//! thread, for `scripts/instruction_counts.sh` to count its instructions.
//!
//! `instructions KERNEL FORMAT TIMES`; without arguments, every KERNEL FORMAT that
//! can be counted, a line each. Nothing but the work grows with TIMES, so the
//! difference between two counts is the kernel's own.

use std::process::ExitCode;

use mtcae_kernels::attention::{Dims, Rows, forward_in};
use mtcae_kernels::buffer::Buffer;
use mtcae_kernels::format::{Format, OperandMut};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::linear::{Packed, Part, Target, linear};
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::product::{Initial, product_with};
use mtcae_kernels::{gelu, layer_norm};

/// What counting programs can execute: they know no AVX-512.
const FORMATS: [&str; 2] = ["avx2", "portable"];

const KERNELS: [&str; 6] = [
    "linear",
    "linear-gelu",
    "attention",
    "gelu",
    "layer-norm",
    "product",
];

/// Rows, inputs and outputs: no multiples of any tile.
const SIZES: [usize; 3] = [97, 130, 150];

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [kernel, format, times] = args[..] else {
        for kernel in KERNELS {
            for format in FORMATS.iter().filter(|name| find(name).is_some()) {
                println!("{kernel} {format}");
            }
        }
        return ExitCode::SUCCESS;
    };
    let (Some((format, isa)), Ok(times)) = (find(format), times.parse()) else {
        eprintln!(
            "instructions KERNEL FORMAT TIMES: {format} is not of this CPU, or {times} no number"
        );
        return ExitCode::FAILURE;
    };
    let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(1).build() else {
        eprintln!("no thread");
        return ExitCode::FAILURE;
    };
    if pool.install(|| run(kernel, format, isa, times)) {
        return ExitCode::SUCCESS;
    }
    eprintln!("{kernel}: none of {}", KERNELS.join(", "));
    ExitCode::FAILURE
}

fn find(name: &str) -> Option<(Format, Isa)> {
    let format = Format::available().into_iter().find(|f| f.name() == name)?;
    let isa = Isa::available().into_iter().find(|i| i.name() == name)?;
    Some((format, isa))
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0)
        .collect()
}

/// Whether there is such a kernel.
fn run(kernel: &str, format: Format, isa: Isa, times: usize) -> bool {
    let [m, k, n] = SIZES;
    let (a, b) = (numbers(m * k), numbers(k * n));
    let mut out = vec![0.0; m * n];
    match kernel {
        "linear" | "linear-gelu" => {
            let part = Part {
                weight: &b,
                bias: Some(&a[..n]),
            };
            let packed = Packed::new(format, k, &[part]);
            let mut room = Buffer::zeroed(format.operand_len(m, k));
            let mut hidden = Buffer::zeroed(format.operand_len(m, n));
            for _ in 0..times {
                let mut operand = OperandMut::new(format, m, k, &mut room);
                operand.pack(MatRef::new(&a, m, k, k));
                let target = match kernel {
                    "linear" => Target::Add(MatMut::new(&mut out, m, n, n)),
                    _ => Target::Gelu(OperandMut::new(format, m, n, &mut hidden)),
                };
                linear(operand.finish(), &packed, target);
            }
        }
        "attention" => {
            let dims = Dims {
                batch: 1,
                heads: 2,
                queries: m,
                keys: n,
                head_dim: 48,
            };
            let (q, kv) = (numbers(m * 96), numbers(n * 192));
            let mut out = vec![0.0; m * 96];
            for _ in 0..times {
                let [k, v] = [0, 96].map(|from| Rows::columns(&kv, 192, from));
                let q = Rows::columns(&q, 96, 0);
                forward_in(format, dims, q, k, v, 0.125, &mut out);
            }
        }
        "gelu" => {
            let mut out = vec![0.0; m * k];
            for _ in 0..times {
                gelu::forward_with(isa, &a, &mut out);
            }
        }
        "layer-norm" => {
            let mut out = vec![0.0; m * k];
            for _ in 0..times {
                layer_norm::forward_with(isa, &a, &b[..k], &b[k..2 * k], 1e-6, &mut out);
            }
        }
        "product" => {
            for _ in 0..times {
                let (a, b) = (MatRef::new(&a, m, k, k), MatRef::new(&b, k, n, n));
                let out = MatMut::new(&mut out, m, n, n);
                product_with(isa, a, b, 0.5, Initial::Zero, out);
            }
        }
        _ => return false,
    }
    std::hint::black_box(&out);
    true
}
