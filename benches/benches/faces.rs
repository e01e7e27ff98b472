//! MTCNN on the frames of the demo portrait: milliseconds a frame at three sizes,
//! single frames and sixteen at once.

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mtcae_faces::{Detector, DetectorConfig};
use mtcae_video::{ClipOptions, Video};

fn detect(c: &mut Criterion) {
    let detector = Detector::new(DetectorConfig::default()).expect("a detector");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/demo/portrait.mp4");
    let mut group = c.benchmark_group("faces/mtcnn");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    for size in [(224, 224), (640, 360), (1920, 1080)] {
        let options = ClipOptions {
            size,
            ..ClipOptions::default()
        };
        let clip = Video::open(&file)
            .and_then(|mut v| v.clip(&options))
            .expect("a clip");
        for frames in [1, 16] {
            let batch = clip.frames.slice(ndarray::s![..frames, .., .., ..]);
            let id = BenchmarkId::new(format!("{}x{}", size.0, size.1), frames);
            group.throughput(Throughput::Elements(frames as u64));
            group.bench_function(id, |b| {
                b.iter(|| detector.detect_batch(batch).expect("faces"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, detect);
criterion_main!(benches);
