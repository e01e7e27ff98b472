//! The detector against facenet-pytorch 2.6.0 on mosaics of one public-domain
//! portrait (`fixtures/mtcnn/make.py`).
#![cfg(feature = "embedded-weights")]
#![allow(clippy::unwrap_used)] // test helpers

use std::collections::BTreeMap;

use candle_core::Device;
use mtcae_core::Face;
use mtcae_faces::{Detector, DetectorConfig, Keep};
use ndarray::{Array3, Array4, Axis, s};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    images: BTreeMap<String, Image>,
    settings: Vec<Variant>,
}

#[derive(Deserialize)]
struct Image {
    faces: Vec<Reference>,
}

#[derive(Deserialize)]
struct Variant {
    image: String,
    settings: Settings,
    faces: Vec<Reference>,
}

#[derive(Deserialize)]
struct Settings {
    min_face_size: Option<f64>,
    thresholds: Option<[f32; 3]>,
    factor: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Found {
        #[serde(rename = "box")]
        bbox: [f32; 4],
        score: f32,
        landmarks: [[f32; 2]; 5],
    },
    /// It raises an exception where no pyramid level fits the picture.
    Failed {
        #[expect(dead_code)]
        error: String,
    },
}

fn expected() -> Expected {
    let path = mtcae_testing::fixtures().join("mtcnn/expected.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// (H, W, 1 or 3).
fn picture(name: &str) -> Array3<u8> {
    let path = mtcae_testing::fixtures().join(format!("mtcnn/{name}.png"));
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut data = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut data).unwrap();
    let (h, w) = (info.height as usize, info.width as usize);
    data.truncate(info.buffer_size());
    Array3::from_shape_vec((h, w, data.len() / (h * w)), data).unwrap()
}

fn detector(config: DetectorConfig) -> Detector {
    Detector::new(config).unwrap()
}

/// Same faces in the same order, boxes and landmarks within 0.01 pixel,
/// probabilities within 1e-4.
fn compare(name: &str, got: &[Face], want: &[Reference]) {
    let want: Vec<_> = want
        .iter()
        .filter_map(|r| match r {
            Reference::Found {
                bbox,
                score,
                landmarks,
            } => Some((bbox, score, landmarks)),
            Reference::Failed { .. } => None,
        })
        .collect();
    assert_eq!(got.len(), want.len(), "{name}: faces");
    for (i, (got, (bbox, score, landmarks))) in got.iter().zip(want).enumerate() {
        let (corners, points) = (got.face_box.corners(), got.landmarks.points());
        let pairs = (corners.iter().chain(points.as_flattened()))
            .zip(bbox.iter().chain(landmarks.as_flattened()));
        for (g, w) in pairs {
            assert!((g - w).abs() <= 0.01, "{name} face {i}: {g} px, not {w}");
        }
        assert!(
            (got.score - score).abs() <= 1e-4,
            "{name} face {i}: {score}"
        );
    }
}

#[test]
fn mosaics_have_the_same_faces() {
    let detector = detector(DetectorConfig::default());
    for (name, image) in expected().images {
        let found = detector.detect(picture(&name).view()).unwrap();
        compare(&name, &found, &image.faces);
    }
}

#[test]
fn settings_do_the_same() {
    for v in expected().settings {
        let default = DetectorConfig::default();
        let detector = detector(DetectorConfig {
            min_face: v.settings.min_face_size.unwrap_or(default.min_face),
            thresholds: v.settings.thresholds.unwrap_or(default.thresholds),
            factor: v.settings.factor.unwrap_or(default.factor),
            keep: Keep::All,
        });
        let found = detector.detect(picture(&v.image).view()).unwrap();
        compare(&v.image, &found, &v.faces);
    }
}

#[test]
fn one_face_can_be_kept() {
    let five = picture("five");
    let all = detector(DetectorConfig::default())
        .detect(five.view())
        .unwrap();
    let with = |keep| {
        let config = DetectorConfig {
            keep,
            ..DetectorConfig::default()
        };
        detector(config).detect(five.view()).unwrap()
    };
    assert_eq!(with(Keep::Largest), all[..1]);
    let best = all.iter().map(|f| f.score).fold(0.0, f32::max);
    assert_eq!(with(Keep::MostProbable)[0].score, best);
    let central = with(Keep::MostCentral)[0].face_box;
    assert!(
        central.x1 < 210.0 && central.x2 > 180.0,
        "{central:?} of 420 px"
    );
}

#[test]
fn batches_and_threads_change_nothing() {
    let five = picture("five");
    let (h, w, _) = five.dim();
    // More frames than one group; some without a face, each different.
    let mut frames = Array4::<u8>::zeros((19, h, w, 3));
    for (i, mut frame) in frames.axis_iter_mut(Axis(0)).enumerate() {
        if i % 7 != 3 {
            frame.assign(&five);
            frame.slice_mut(s![.., ..i * 20, ..]).fill(90);
        }
    }
    let detector = detector(DetectorConfig::default());
    let batch = detector.detect_batch(frames.view()).unwrap();
    for (i, frame) in frames.axis_iter(Axis(0)).enumerate() {
        assert_eq!(detector.detect(frame).unwrap(), batch[i], "frame {i}");
    }
    assert!(batch[3].is_empty() && batch[0].len() == 5);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let again = pool.install(|| detector.detect_batch(frames.view()).unwrap());
        assert_eq!(again, batch, "{threads} threads");
    }
    // Other layouts in memory, and grey as one channel.
    let flipped = five.slice(s![.., ..;-1, ..]);
    let owned = flipped.to_owned();
    assert_eq!(
        detector.detect(flipped).unwrap(),
        detector.detect(owned.view()).unwrap()
    );
}

#[test]
fn odd_frames_are_no_trouble() {
    let d = detector(DetectorConfig::default());
    for (h, w) in [
        (0, 0),
        (0, 5),
        (1, 1),
        (1, 4000),
        (4000, 20),
        (20, 20),
        (21, 33),
    ] {
        assert!(
            d.detect(Array3::zeros((h, w, 3)).view())
                .unwrap()
                .is_empty(),
            "{h}×{w}"
        );
    }
    assert!(
        d.detect_batch(Array4::zeros((0, 50, 50, 3)).view())
            .unwrap()
            .is_empty()
    );
    let error = d.detect(Array3::zeros((9, 9, 4)).view()).unwrap_err();
    assert!(error.to_string().contains("not 4"), "{error}");
    for config in [
        DetectorConfig {
            min_face: 0.0,
            ..*d.config()
        },
        DetectorConfig {
            factor: 1.0,
            ..*d.config()
        },
        DetectorConfig {
            thresholds: [0.5, f32::NAN, 0.5],
            ..*d.config()
        },
    ] {
        assert!(Detector::new(config).is_err(), "{config:?}");
    }
}

#[test]
fn weights_come_from_a_file_too_and_faults_are_named() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/mtcnn.safetensors");
    let config = DetectorConfig::default();
    let one = picture("one");
    let other = Detector::from_file(&path, config).unwrap();
    assert_eq!(
        other.detect(one.view()).unwrap(),
        detector(config).detect(one.view()).unwrap()
    );
    let wrong = mtcae_testing::fixtures().join("mtcnn/nets.safetensors");
    let error = Detector::from_file(wrong, config)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("nets.safetensors") && error.contains("pnet.conv1.weight"),
        "{error}"
    );
    assert!(error.contains("and 40 more"), "all are counted: {error}");

    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let bias = &tensors["rnet.conv2.bias"];
    let spoilt = (bias * f64::NAN).unwrap();
    tensors.insert("rnet.conv2.bias".to_owned(), spoilt);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spoilt.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let error = Detector::from_file(&path, config)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("rnet.conv2.bias holds NaN"), "{error}");
}
