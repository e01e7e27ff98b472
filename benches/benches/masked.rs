//! Encoders in masked pre-training: over the tenth of a clip's tubes that they see
//! (`masked/visible`) beside all of them (`masked/dense`), and a forward with the decoder and
//! its backward (`masked/step`). Elements a second are floating-point operations of matrix
//! products, as the configs count them, but for steps, where they are clips.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mtcae_benches::tensor;
use mtcae_encoder::masked::{self, Mask, MaskedConfig};
use mtcae_encoder::{Config, EncoderConfig, Families, Overrides, VideoMaeConfig};
use mtcae_nn::candle_core::Device;
use mtcae_nn::{ParamStore, Pass};

/// The published encoders.
const ENCODERS: [(&str, &str); 3] = [
    ("videomae", "base"),
    ("lgi-former", "base"),
    ("tpsbt", "base"),
];

fn encoder(family: &str, size: &str) -> Config {
    Families::preset(family, size, &Overrides::default()).expect("a preset")
}

/// Those of ViT-B over the 160 tubes that it sees of a clip, which are as many as 20 frames of
/// 64 pixels have.
fn visible_flops() -> f64 {
    let seen = VideoMaeConfig {
        image_size: 64,
        frames: 20,
        ..VideoMaeConfig::base()
    };
    assert_eq!(seen.tokens(), 160);
    seen.flops()
}

/// VideoMAE's alone, whose operations both configs count.
fn over_tubes(c: &mut Criterion) {
    let (family, size) = ENCODERS[0];
    let config = MaskedConfig::of(&encoder(family, size)).expect("a config");
    let store = ParamStore::new(0);
    let model = masked::draw(&config, &store, &Device::Cpu).expect("a model");
    let dense = config
        .encoder
        .build(store.builder(&Device::Cpu).pp("encoder"));
    let dense = dense.expect("an encoder");
    let clips = |n: usize| -> (_, Vec<Mask>) {
        let tubes = tensor(&[n, config.tubes(), config.tube_len()]).expect("tubes");
        let masks = (0..n as u64).map(|seed| config.mask(seed).expect("a mask"));
        (tubes, masks.collect())
    };
    for (part, n) in [("visible", 1), ("visible", 8), ("dense", 1)] {
        let mut group = c.benchmark_group(format!("masked/{part}"));
        let (tubes, masks) = clips(n);
        let flops = match part {
            "visible" => visible_flops(),
            _ => config.encoder.flops(),
        };
        group
            .sample_size(10)
            .measurement_time(Duration::from_secs(5))
            .throughput(Throughput::Elements((n as f64 * flops) as u64));
        group.bench_function(BenchmarkId::new(format!("{family}-{size}"), n), |b| {
            b.iter(|| match part {
                "visible" => model.encoder().see(&tubes, &masks, &mut Pass::inference()),
                _ => dense.run(&tubes, &mut Pass::inference()),
            });
        });
        group.finish();
    }
}

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("masked/step");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(10))
        .throughput(Throughput::Elements(1));
    for (family, size) in ENCODERS {
        let config = MaskedConfig::of(&encoder(family, size)).expect("a config");
        let model = masked::draw(&config, &ParamStore::new(0), &Device::Cpu).expect("a model");
        let tubes = tensor(&[1, config.tubes(), config.tube_len()]).expect("tubes");
        let masks = [config.mask(0).expect("a mask")];
        group.bench_function(
            BenchmarkId::from_parameter(format!("{family}-{size}")),
            |b| {
                b.iter(|| {
                    let mut pass = Pass::training(0).collecting();
                    let made = model.forward(&tubes, &masks, &mut pass).expect("a forward");
                    let loss = made.loss().expect("a loss");
                    let mut gradients = loss.backward().expect("gradients");
                    gradients.extend(pass.into_gradients()).expect("gradients");
                    gradients
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, over_tubes, step);
criterion_main!(benches);
