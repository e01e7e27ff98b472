//! Throughput of the VideoMAE encoder in clips a second, from tubes.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mtcae_benches::tensor;
use mtcae_encoder::{EncoderConfig, VideoMaeConfig};
use mtcae_nn::candle_core::Device;
use mtcae_nn::{ParamStore, Pass};

fn size(c: &mut Criterion) {
    let mut group = c.benchmark_group("encoder/size");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    for (name, cfg) in [
        ("small", VideoMaeConfig::small()),
        ("base", VideoMaeConfig::base()),
        ("large", VideoMaeConfig::large()),
    ] {
        let encoder = cfg.build(ParamStore::new(0).builder(&Device::Cpu));
        let encoder = encoder.expect("an encoder");
        let tubes = tensor(&[&[1], &cfg.input().shape()[..]].concat()).expect("tubes");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                encoder
                    .run(&tubes, &mut Pass::inference())
                    .expect("a forward")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, size);
criterion_main!(benches);
