//! Models that see crops to a face: what they are shown in training and tests.

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use common::{CLASSES, Place, losses, model_config, plain};
use mtcae_core::{Crop, Face, Landmarks};
use mtcae_faces::tracks::TrackConfig;
use mtcae_labels::labels::{
    DetectorSettings, FaceRecord, FrameRecord, LabelWriter, LabelledClip, RunSettings, SCHEMA,
    Source as Picture, TrackRecord, Validity,
};
use mtcae_model::Config;
use mtcae_model::decoder::Structure;
use mtcae_train::{
    Dataset, Event, FeatureCache, Frames, Item, Range, Run, Selection, Start, TrainConfig, Tune,
    Viewer, fit,
};
use mtcae_video::{ClipWriter, WriterOptions};
use ndarray::{Array3, ArrayView3, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const SIZE: (usize, usize) = (320, 240);
const FRAMES: usize = 16;
/// Side of the model's frames.
const SIDE: usize = 96;

/// Landmarks of a face that moves and turns evenly, and opens its mouth.
fn landmarks(frame: usize) -> Landmarks {
    let t = frame as f32 / (FRAMES - 1) as f32;
    let (sin, cos) = (-25.0 + 50.0 * t).to_radians().sin_cos();
    let open = if (5..11).contains(&frame) { 0.1 } else { 0.0 };
    let (mouth, size) = (1.02 + open, 40.0);
    let points = [
        [-0.5, 0.0],
        [0.5, 0.0],
        [0.0, 0.55],
        [-0.4, mouth],
        [0.4, mouth],
    ];
    let points: Landmarks = points.into();
    points.map(|[x, y]| {
        [
            130.0 + 50.0 * t + size * (x * cos - y * sin),
            90.0 + 20.0 * t + size * (x * sin + y * cos),
        ]
    })
}

fn face(frame: usize) -> Face {
    let landmarks = landmarks(frame);
    let [x, y] = landmarks.nose;
    Face {
        face_box: [x - 45.0, y - 60.0, x + 45.0, y + 60.0].into(),
        landmarks,
        score: 1.0,
    }
}

/// A film of bright discs where the landmarks are, and its labels.
fn filmed(folder: &Path, labelled: std::ops::Range<usize>) -> Item {
    let options = WriterOptions {
        threads: 1,
        ..WriterOptions::new(SIZE.0 as u32, SIZE.1 as u32)
    };
    let mut writer = ClipWriter::create(folder.join("face.mp4"), &options).expect("a film");
    for frame in 0..FRAMES {
        let points = landmarks(frame).points();
        let picture = Array3::from_shape_fn((SIZE.1, SIZE.0, 3), |(y, x, _)| {
            let near = points.iter().map(|[px, py]| {
                let (dx, dy) = (x as f32 + 0.5 - px, y as f32 + 0.5 - py);
                4.5 - dx.hypot(dy)
            });
            let cover = near.fold(0.0, f32::max).min(1.0);
            (60.0 + 180.0 * cover) as u8
        });
        writer
            .write(&picture.view(), frame as f64 / 25.0)
            .expect("a frame");
    }
    writer.finish().expect("finished");
    let fraction = |[x, y]: [f32; 2]| [x / SIZE.0 as f32, y / SIZE.1 as f32];
    let clip = LabelledClip {
        schema: SCHEMA.to_owned(),
        file: "face.mp4".to_owned(),
        sha256: None,
        dataset: "discs".to_owned(),
        class: Some(CLASSES[0].to_owned()),
        subject: None,
        sex: None,
        level: None,
        fold: None,
        settings: RunSettings {
            sampling: "every/1".to_owned(),
            detect_at: "source".to_owned(),
            detector: DetectorSettings {
                name: "drawn".to_owned(),
                min_face: 0.0,
                factor: 0.0,
                thresholds: [0.0; 3],
                keep: "all".to_owned(),
            },
            tracking: TrackConfig::default(),
        },
        source: Some(Picture {
            width: SIZE.0 as u32,
            height: SIZE.1 as u32,
            pixel_aspect: 1.0,
        }),
        frames: (0..FRAMES as u64)
            .map(|index| FrameRecord {
                index,
                time: index as f64 / 25.0,
                validity: match labelled.contains(&(index as usize)) {
                    true => Validity::Detected,
                    false => Validity::None,
                },
            })
            .collect(),
        tracks: vec![TrackRecord {
            id: 0,
            is_subject: true,
            faces: labelled
                .map(|frame| FaceRecord::new(frame, &face(frame).map(fraction)))
                .collect(),
        }],
        action_units: None,
        warnings: Vec::new(),
        error: None,
    };
    let labels = folder.join("labels.jsonl");
    let mut writer = LabelWriter::create(&labels).expect("labels");
    writer.write(&clip).expect("written");
    writer.finish().expect("finished");
    let classes = CLASSES.map(str::to_owned);
    let selection = Selection {
        classes: Some(&classes),
        ..Selection::default()
    };
    let data = Dataset::read_to_test(&labels, &selection).expect("read");
    data.items.into_iter().next().expect("a clip")
}

fn model(crop: Crop, frames: usize) -> Config {
    let mut config = model_config(Structure::Cascade);
    config.preprocessing.crop = crop;
    let json = serde_json::json!({
        "family": "videomae", "image_size": SIDE, "frames": frames, "channels": 3, "patch": 16,
        "tubelet": 2, "width": 24, "depth": 1, "heads": 3, "hidden": 48, "eps": 1e-6,
        "final_norm": true, "position": "sin-cos", "drop_path": 0.0
    });
    let families = mtcae_model::encoder::Families::default();
    let fields = json.as_object().expect("fields").clone();
    config.encoder = families.read(fields, "test").expect("an encoder");
    config
}

/// Centre of what is bright within some pixels of a place in fractions, in fractions.
fn bright(frame: ArrayView3<'_, u8>, [x, y]: [f32; 2], within: f32) -> [f32; 2] {
    let side = frame.dim().0 as f32;
    let (mut sum, mut weight) = ([0.0; 2], 0.0);
    for ((i, j, _), &level) in frame.slice(s![.., .., 1..2]).indexed_iter() {
        let (u, v) = (j as f32 + 0.5, i as f32 + 0.5);
        if (u - x * side).hypot(v - y * side) < within && level > 100 {
            let w = f32::from(level) - 100.0;
            sum = [sum[0] + w * u, sum[1] + w * v];
            weight += w;
        }
    }
    sum.map(|v| v / weight / side)
}

fn apart(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Whether each label lies on its disc, to within a hundredth of the frame.
fn lie_on_discs(view: &Frames) {
    for (frame, face) in view.pixels.outer_iter().zip(&view.faces) {
        let points = face.expect("a label").landmarks.points();
        for point in points {
            let off = apart(bright(frame, point, 6.0), point);
            assert!(off < 0.01, "{off} beside {point:?}");
        }
    }
}

#[test]
fn aligned_eyes_are_at_the_same_place_in_every_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let item = filmed(folder.path(), 0..FRAMES);
    let view = Viewer::to_test(&model(Crop::aligned(), FRAMES))
        .plain(&item)
        .expect("a view");
    assert_eq!(view.pixels.dim(), (FRAMES, SIDE, SIDE, 3));
    lie_on_discs(&view);
    // By the definition: 3.6 sizes, and the middle of the eyes 0.45 above the centre.
    let eyes = [0.5, -0.5].map(|x| [0.5 - x / 3.6, 0.5 - 0.45 / 3.6]);
    for frame in view.pixels.outer_iter() {
        for eye in eyes {
            let off = apart(bright(frame, eye, 6.0), eye);
            assert!(off < 0.01, "{off} beside {eye:?}");
        }
    }
}

#[test]
fn a_face_crop_is_one_square_around_all_boxes() {
    let folder = tempfile::tempdir().expect("a folder");
    let item = filmed(folder.path(), 0..FRAMES);
    let view = Viewer::to_test(&model(Crop::face(), FRAMES))
        .plain(&item)
        .expect("a view");
    lie_on_discs(&view);
    // The square reaches beyond the picture's height: it is as large as that.
    let boxes: Vec<_> = (0..FRAMES).map(|i| face(i).face_box).collect();
    let rect = Crop::surround(&boxes, 1.3, (320.0, 240.0));
    let first = view.faces[0].expect("a label").face_box;
    let left = (f64::from(boxes[0].x1) - rect.x) / rect.width;
    assert!((f64::from(first.x1) - left).abs() < 1e-4);
    assert!(rect.width < 240.0 && rect.width == rect.height);
}

#[test]
fn frames_without_the_subject_are_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let item = filmed(folder.path(), 6..FRAMES);
    for crop in [Crop::aligned(), Crop::face()] {
        let view = Viewer::to_test(&model(crop, FRAMES))
            .plain(&item)
            .expect("a view");
        lie_on_discs(&view);
    }
    let view = Viewer::to_test(&model(Crop::None, FRAMES)).plain(&item);
    let labelled = view.expect("a view").faces.iter().flatten().count();
    assert_eq!(labelled, FRAMES - 6, "whole frames are shown as they were");
}

#[test]
fn varied_crops_keep_labels_on_their_pixels() {
    let folder = tempfile::tempdir().expect("a folder");
    let item = filmed(folder.path(), 0..FRAMES);
    for crop in [Crop::aligned(), Crop::face()] {
        let config = TrainConfig {
            crop_scale: Range { min: 0.9, max: 1.3 },
            crop_shift: 0.05,
            crop_turn: 20.0,
            wide: 0.3,
            squeeze: 1.6,
            flip: true,
            ..plain()
        };
        let model = model(crop, 4);
        let viewer = Viewer::to_train(&model, &config).expect("a viewer");
        let decoded = viewer.decode_for_training(&item, None).expect("decoded");
        let (mut sizes, mut places) = (Vec::new(), Vec::new());
        for seed in 0..40 {
            let rng = || ChaCha8Rng::seed_from_u64(seed);
            let view = viewer.augmented(&decoded, &mut rng()).expect("a view");
            let again = viewer.augmented(&decoded, &mut rng()).expect("a view");
            assert!(view.pixels == again.pixels && view.faces == again.faces);
            let points = view.faces[0].expect("a label").landmarks.points();
            sizes.push(apart(points[0], points[1]));
            places.push(points[2]);
            // Discs grow small in a wide view.
            for (frame, face) in view.pixels.outer_iter().zip(&view.faces) {
                for point in face.expect("a label").landmarks.points() {
                    let off = apart(bright(frame, point, 4.0), point);
                    assert!(off < 0.015, "{off} beside {point:?}, {seed}");
                }
                let points = face.expect("a label").landmarks.points();
                assert!(points[0][0] < points[1][0], "the left eye is left");
            }
        }
        sizes.sort_by(f32::total_cmp);
        let varied = sizes[39] / sizes[0];
        assert!(varied > 1.5, "{varied}");
        let left = places.iter().filter(|p| p[0] < 0.5).count();
        assert!((10..=30).contains(&left), "{left} of 40");
    }
}

#[test]
fn without_variation_training_sees_what_tests_see() {
    let folder = tempfile::tempdir().expect("a folder");
    let item = filmed(folder.path(), 0..FRAMES);
    for crop in [Crop::aligned(), Crop::face(), Crop::Aligned { scale: 6.0 }] {
        let model = model(crop, 8);
        // What varies whole frames does nothing here.
        let config = TrainConfig {
            crop: 0.5,
            ..plain()
        };
        let viewer = Viewer::to_train(&model, &config).expect("a viewer");
        let decoded = viewer.decode_for_training(&item, None).expect("decoded");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let seen = viewer.augmented(&decoded, &mut rng).expect("a view");
        let plain = Viewer::to_test(&model).plain(&item).expect("a view");
        assert!(seen.pixels == plain.pixels && seen.faces == plain.faces);
    }
}

/// The first checkpoint of a place, which sees this.
fn seeing(place: &Place, crop: &str) -> Start {
    let path = place.checkpoint.join("config.json");
    let text = std::fs::read_to_string(&path).expect("read");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["preprocessing"]["crop"] = crop.into();
    std::fs::write(&path, config.to_string()).expect("written");
    Start::checkpoint(&place.checkpoint).expect("a start")
}

#[test]
fn a_run_on_crops_is_the_same_each_time_and_says_what_is_idle() {
    let place = Place::new();
    let start = seeing(&place, "aligned:3");
    let config = TrainConfig {
        crop_scale: Range { min: 0.8, max: 1.2 },
        crop_turn: 10.0,
        wide: 0.5,
        gamma: 0.3,
        grey: 0.3,
        blur: 3.0,
        noise: 5.0,
        erase: 0.5,
        crop: 0.8,
        trim: 0.1,
        tune: Tune::All,
        epochs: 1,
        ..plain()
    };
    let data = place.data(&config);
    let split = data.split(Some(0), &config).expect("a split");
    let fitted = |name: &str, workers: usize| {
        let folder = place.path(name);
        let config = TrainConfig {
            workers,
            ..config.clone()
        };
        let run = Run {
            name,
            folder: &folder,
            start: &start,
            data: &data,
            split: &split,
            cache: None,
            config: &config,
            device: &Device::Cpu,
        };
        let mut said = Vec::new();
        fit(&run, &mut |event| {
            if let Event::Notice(notice) = event {
                said.push((*notice).to_owned());
            }
            ControlFlow::Continue(())
        })
        .map(drop)
        .expect("trained");
        let idle = "the model sees crops to a face (aligned:3): crop cannot take effect";
        assert!(said.iter().any(|s| s == idle), "{said:?}");
        losses(&folder)
    };
    let once = fitted("once", 1);
    assert!(!once.is_empty());
    assert_eq!(once, fitted("again", 3));
}

#[test]
fn features_of_other_crops_are_others() {
    let place = Place::new();
    let config = TrainConfig {
        tune: Tune::Decoder,
        ..plain()
    };
    let data: Arc<Dataset> = place.data(&config);
    let folder = place.path("cache");
    let opened = |crop: &str| {
        let (start, mut lacked) = (seeing(&place, crop), 0);
        let cache = FeatureCache::open(&folder, &start, &data, &config, &Device::Cpu, &mut |e| {
            if let Event::Cache { missing, .. } = e {
                lacked = *missing;
            }
            ControlFlow::Continue(())
        });
        (cache.expect("a cache").path().to_owned(), lacked)
    };
    let all = data.items.len();
    let (whole, aligned) = (opened("none"), opened("aligned:3"));
    assert_eq!((whole.1, aligned.1), (all, all));
    assert_ne!(whole.0, aligned.0);
    assert_ne!(opened("aligned:4").0, aligned.0);
    assert_eq!(opened("aligned:3"), (aligned.0, 0));
}
