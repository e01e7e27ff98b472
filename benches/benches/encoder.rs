//! Throughput of the VideoMAE encoder in clips a second, from tubes.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mtcae_benches::tensor;
use mtcae_encoder::{Config, Encoder};
use mtcae_nn::ParamStore;
use mtcae_nn::candle_core::Device;

fn size(c: &mut Criterion) {
    let mut group = c.benchmark_group("encoder/size");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    for (name, cfg) in [
        ("small", Config::small()),
        ("base", Config::base()),
        ("large", Config::large()),
    ] {
        let encoder =
            Encoder::new(&cfg, ParamStore::new(0).builder(&Device::Cpu)).expect("an encoder");
        let tubes = tensor(&[1, cfg.tokens(), cfg.tube_len()]).expect("tubes");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| encoder.forward_tubes(&tubes).expect("a forward"));
        });
    }
    group.finish();
}

criterion_group!(benches, size);
criterion_main!(benches);
