//! From a video file to tubes: sampling by decoding, and cutting into tubes.

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mtcae_video::{ClipOptions, Normalization, TubeShape, Video, tubes_into};

fn decode(c: &mut Criterion) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/demo/portrait.mp4");
    let mut group = c.benchmark_group("video/clip");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(5))
        .throughput(Throughput::Elements(1));
    group.bench_function("16x224 of 75 frames 480x360", |b| {
        b.iter(|| {
            Video::open(&file)
                .and_then(|mut v| v.clip(&ClipOptions::default()))
                .expect("a clip")
        });
    });
    group.finish();
}

fn tubes(c: &mut Criterion) {
    let frames = ndarray::Array4::from_shape_fn((16, 224, 224, 3), |(t, y, x, k)| {
        (t * 7 + y * 3 + x * 5 + k) as u8
    });
    let mut out = vec![0.0; 1568 * 1536];
    let mut group = c.benchmark_group("video/tubes");
    group.throughput(Throughput::Elements(1));
    group.bench_function("16x224", |b| {
        b.iter(|| {
            tubes_into(
                frames.view(),
                &Normalization::IMAGENET,
                TubeShape::default(),
                &mut out,
            )
            .expect("tubes");
        });
    });
    group.finish();
}

criterion_group!(benches, decode, tubes);
criterion_main!(benches);
