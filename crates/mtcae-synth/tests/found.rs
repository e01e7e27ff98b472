//! Rendered clips, written and read again, under the eyes of MTCNN.
#![cfg(feature = "ffmpeg")]

use mtcae_faces::{Detector, DetectorConfig};
use mtcae_synth::{Dataset, Renderer, write_clip};
use mtcae_video::{ClipOptions, Video};
use rayon::prelude::*;

/// Every expression and intensity of a few actors. `synth --check` does the same
/// with as many as one likes.
#[test]
fn faces_are_found_where_they_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset {
        identities: 1..5,
        split: "test".to_owned(),
        frames: 8,
        ..Dataset::default()
    };
    let plan = dataset.plan().unwrap();
    let detector = Detector::new(DetectorConfig::default()).unwrap();
    let options = ClipOptions {
        frames: 2,
        size: (256, 256),
        ..ClipOptions::default()
    };
    let looked: Vec<(f32, f32)> = plan
        .par_iter()
        .flat_map_iter(|clip| {
            let exact = write_clip(folder.path(), clip, &Renderer::Drawn)
                .unwrap()
                .truth;
            assert_eq!(exact.len(), 8);
            let mut video = Video::open(folder.path().join(&clip.file)).unwrap();
            let decoded = video.clip(&options).unwrap();
            assert!(decoded.warnings.is_empty(), "{:?}", decoded.warnings);
            let faces = detector.detect_batch(decoded.frames.view()).unwrap();
            let pairs = faces.into_iter().zip(decoded.indices);
            pairs
                .map(|(faces, index)| {
                    let exact = exact[index as usize].map(|p| p.map(|v| 256.0 * v));
                    let points = exact.landmarks.points();
                    let eyes = points[1][0] - points[0][0];
                    faces
                        .iter()
                        .map(|face| {
                            let apart = face.landmarks.points().into_iter().zip(points);
                            let apart = apart.map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]));
                            (
                                face.face_box.iou(&exact.face_box),
                                apart.sum::<f32>() / 5.0 / eyes,
                            )
                        })
                        .max_by(|a, b| a.0.total_cmp(&b.0))
                        .unwrap_or_default()
                })
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(looked.len(), 2 * plan.len());
    let found: Vec<_> = looked.iter().filter(|l| l.0 >= 0.5).collect();
    let n = found.len() as f32;
    assert!(n >= 0.95 * looked.len() as f32, "{n} of {}", looked.len());
    let mean = |f: &dyn Fn(&(f32, f32)) -> f32| found.iter().map(|l| f(l)).sum::<f32>() / n;
    assert!(mean(&|l| l.0) > 0.8, "mean overlap {}", mean(&|l| l.0));
    assert!(
        mean(&|l| l.1) < 0.08,
        "mean landmark error {}",
        mean(&|l| l.1)
    );
}

#[test]
fn a_clip_is_the_same_file_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset {
        frames: 6,
        ..Dataset::default()
    };
    let clip = &dataset.plan().unwrap()[5];
    let write = |name: &str| {
        let root = folder.path().join(name);
        write_clip(&root, clip, &Renderer::Drawn).unwrap();
        std::fs::read(root.join(&clip.file)).unwrap()
    };
    assert_eq!(write("a"), write("b"));
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let error = write_clip(&file, clip, &Renderer::Drawn)
        .unwrap_err()
        .to_string();
    assert!(error.contains("file"), "{error}");
}
