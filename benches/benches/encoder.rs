//! Clips a second of the encoders that every family has presets of, from tubes: as
//! training computes them (`encoder/model`), and packed for inference in f32
//! (`encoder/plan`).

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use mtcae_benches::tensor;
use mtcae_encoder::{Config, Families, Overrides};
use mtcae_nn::candle_core::Device;
use mtcae_nn::plan::{Arena, Precision, format};
use mtcae_nn::{ParamStore, Pass};

/// Too large to be run ten times.
const LEFT_OUT: &str = "huge";

/// All presets but those of [`LEFT_OUT`], named `FAMILY-SIZE`.
fn presets() -> impl Iterator<Item = (String, Config)> {
    let named = |family, size| {
        let config = Families::preset(family, size, &Overrides::default());
        (format!("{family}-{size}"), config.expect("a preset"))
    };
    Families::presets().flat_map(move |(family, sizes)| {
        let sizes = sizes.into_iter().filter(|size| *size != LEFT_OUT);
        sizes.map(move |size| named(family, size))
    })
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5))
        .throughput(Throughput::Elements(1));
    group
}

fn model(c: &mut Criterion) {
    let mut group = group(c, "encoder/model");
    for (name, config) in presets() {
        let encoder = config.build(ParamStore::new(0).builder(&Device::Cpu));
        let encoder = encoder.expect("an encoder");
        let tubes = tensor(&[&[1], &config.input().shape()[..]].concat()).expect("tubes");
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

fn plan(c: &mut Criterion) {
    let mut group = group(c, "encoder/plan");
    let format = format(Precision::F32).expect("f32");
    for (name, config) in presets() {
        let plan = config.plan(format, ParamStore::new(0).builder(&Device::Cpu));
        // A family without a plan is computed as the model is.
        let Some(plan) = plan.expect("a plan") else {
            continue;
        };
        let tubes = tensor(&[config.input().numbers()]).and_then(|tubes| tubes.to_vec1());
        let tubes: Vec<f32> = tubes.expect("tubes");
        let mut features = vec![0.0; config.output().numbers()];
        let mut arena = Arena::default();
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| plan.forward(&tubes, &mut arena, &mut features));
        });
    }
    group.finish();
}

criterion_group!(benches, model, plan);
criterion_main!(benches);
