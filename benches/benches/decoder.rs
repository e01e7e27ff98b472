//! Throughput of the cascaded decoder in clips a second, on features of ViT-L
//! (1568 tokens of 1024 channels).

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mtcae_benches::tensor;
use mtcae_decoder::candle_core::Device;
use mtcae_decoder::nn::ParamStore;
use mtcae_decoder::nn::plan::{Arena, Precision, format};
use mtcae_decoder::{Config, InferencePlan, MultiTaskDecoder, Structure, Task};

const TOKENS: usize = 1568;
const FEATURES: usize = 1024;

fn paper() -> Config {
    let tasks = vec![
        Task::new("face_box", 64),
        Task::new("landmarks", 160),
        Task::new("expression", 7),
    ];
    Config::cascade(FEATURES, tasks)
}

fn bench(c: &mut Criterion, group: &str, id: BenchmarkId, batch: usize, cfg: &Config) {
    let decoder =
        MultiTaskDecoder::new(cfg, ParamStore::new(0).builder(&Device::Cpu)).expect("a decoder");
    let f = tensor(&[batch, TOKENS, FEATURES]).expect("features");
    let mut group = c.benchmark_group(group);
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(batch as u64));
    group.bench_function(id, |b| b.iter(|| decoder.forward(&f).expect("a forward")));
    group.finish();
}

/// Packed weights, in every precision of this CPU.
fn plan(c: &mut Criterion) {
    let f = tensor(&[TOKENS, FEATURES]).and_then(|f| f.flatten_all()?.to_vec1());
    let f: Vec<f32> = f.expect("features");
    let mut group = c.benchmark_group("decoder/plan");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5))
        .throughput(Throughput::Elements(1));
    for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
        let Ok(format) = format(precision) else {
            continue;
        };
        let store = ParamStore::new(0);
        let plan = InferencePlan::new(&paper(), format, store.builder(&Device::Cpu));
        let (plan, mut arena) = (plan.expect("a plan"), Arena::default());
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| plan.forward(&f, &mut arena).expect("a forward"));
        });
    }
    group.finish();
}

fn batch(c: &mut Criterion) {
    for n in [1, 4, 8] {
        bench(
            c,
            "decoder/batch",
            BenchmarkId::from_parameter(n),
            n,
            &paper(),
        );
    }
}

fn depth(c: &mut Criterion) {
    for depth in [1, 3, 5] {
        bench(
            c,
            "decoder/depth",
            BenchmarkId::from_parameter(depth),
            1,
            &Config { depth, ..paper() },
        );
    }
}

fn head_dim(c: &mut Criterion) {
    for head_dim in [64, 128, 171, 176] {
        bench(
            c,
            "decoder/head_dim",
            BenchmarkId::from_parameter(head_dim),
            1,
            &Config {
                head_dim,
                ..paper()
            },
        );
    }
}

fn structure(c: &mut Criterion) {
    for structure in Structure::ALL {
        let name = format!("{structure:?}");
        bench(
            c,
            "decoder/structure",
            BenchmarkId::from_parameter(name),
            1,
            &Config {
                structure,
                ..paper()
            },
        );
    }
}

criterion_group!(benches, plan, batch, depth, head_dim, structure);
criterion_main!(benches);
