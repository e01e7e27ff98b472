//! Each kernel of inference on the shapes of ViT-L and the cascade, in every
//! format of this CPU. Throughput is in floating-point operations of the matrix
//! products, or in elements.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use mtcae_kernels::attention::{Dims, Rows, forward_in};
use mtcae_kernels::buffer::Buffer;
use mtcae_kernels::format::{Format, OperandMut};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::linear::{Packed, Part, Target, linear};
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::{gelu, layer_norm};

const TOKENS: usize = 1568;

fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0)
        .collect()
}

/// Formats but for the portable one, which takes minutes.
fn formats() -> Vec<Format> {
    let mut all = Format::available();
    all.retain(|format| format.name() != "portable");
    all
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2));
    group
}

fn linears(c: &mut Criterion) {
    let mut group = group(c, "linear");
    for (name, inputs, outputs, activates) in [
        ("vit-l-qkv", 1024, 3072, false),
        ("vit-l-proj", 1024, 1024, false),
        ("vit-l-fc1-gelu", 1024, 4096, true),
        ("vit-l-fc2", 4096, 1024, false),
        ("cascade-kv", 512, 5280, false),
        ("cascade-fc1-gelu", 512, 2048, true),
        ("cascade-fc2", 2048, 512, false),
    ] {
        group.throughput(Throughput::Elements((2 * TOKENS * inputs * outputs) as u64));
        let (x, weight) = (numbers(TOKENS * inputs), numbers(inputs * outputs));
        let mut out = vec![0.0; TOKENS * outputs];
        for format in formats() {
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
            group.bench_function(BenchmarkId::new(name, format.name()), |b| {
                b.iter(|| {
                    let target = match activates {
                        true => Target::Gelu(OperandMut::new(format, TOKENS, outputs, &mut hidden)),
                        false => Target::Store(MatMut::new(&mut out, TOKENS, outputs, outputs)),
                    };
                    linear(operand, &packed, target);
                });
            });
        }
    }
    group.finish();
}

fn attention(c: &mut Criterion) {
    let mut group = group(c, "attention");
    for (name, heads, head_dim) in [("vit-l", 16, 64), ("cascade", 3, 176)] {
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
        group.throughput(Throughput::Elements((4 * TOKENS * TOKENS * width) as u64));
        for format in formats() {
            group.bench_function(BenchmarkId::new(name, format.name()), |b| {
                b.iter(|| {
                    let [q, k, v] = [0, 1, 2].map(|i| Rows::columns(&qkv, 3 * width, i * width));
                    forward_in(format, dims, q, k, v, 0.125, &mut out);
                });
            });
        }
    }
    group.finish();
}

fn rowwise(c: &mut Criterion) {
    let mut group = group(c, "rowwise");
    let x = numbers(TOKENS * 4096);
    let mut out = vec![0.0; TOKENS * 4096];
    group.throughput(Throughput::Elements((TOKENS * 4096) as u64));
    for isa in Isa::available() {
        group.bench_function(BenchmarkId::new("gelu", isa.name()), |b| {
            b.iter(|| gelu::forward_with(isa, &x, &mut out));
        });
    }
    let (gamma, beta) = (numbers(1024), numbers(1024));
    group.throughput(Throughput::Elements((TOKENS * 1024) as u64));
    for isa in Isa::available() {
        let (x, out) = (&x[..TOKENS * 1024], &mut out[..TOKENS * 1024]);
        group.bench_function(BenchmarkId::new("layer-norm", isa.name()), |b| {
            b.iter(|| layer_norm::forward_with(isa, x, &gamma, &beta, 1e-6, out));
        });
    }
    for format in formats() {
        let mut room = Buffer::zeroed(format.operand_len(TOKENS, 1024));
        let x = &x[..TOKENS * 1024];
        group.bench_function(BenchmarkId::new("layer-norm-operand", format.name()), |b| {
            b.iter(|| {
                let operand = OperandMut::new(format, TOKENS, 1024, &mut room);
                layer_norm::forward_into(x, 1024, &gamma, &beta, 1e-6, operand);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, linears, attention, rowwise);
criterion_main!(benches);
