//! Each kernel of inference on the shapes of ViT-L and the cascade, in every
//! format of this CPU. Throughput is in floating-point operations of the matrix
//! products, or in elements.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use mtcae_benches::operations::{ATTENTION, LAYERS, TOKENS, numbers};
use mtcae_kernels::buffer::Buffer;
use mtcae_kernels::format::{Format, OperandMut};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::{gelu, layer_norm};

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
    for layer in LAYERS {
        group.throughput(Throughput::Elements(layer.work() as u64));
        for format in formats() {
            let mut run = layer.prepare(format);
            group.bench_function(BenchmarkId::new(layer.id, format.name()), |b| {
                b.iter(&mut run);
            });
        }
    }
    group.finish();
}

fn attention(c: &mut Criterion) {
    let mut group = group(c, "attention");
    for heads in ATTENTION {
        group.throughput(Throughput::Elements(heads.work() as u64));
        for format in formats() {
            let mut run = heads.prepare(format);
            group.bench_function(BenchmarkId::new(heads.id, format.name()), |b| {
                b.iter(&mut run);
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
