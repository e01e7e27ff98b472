//! A tiny labelled dataset and a tiny checkpoint, made in a moment.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use mtcae_faces::tracks::TrackConfig;
use mtcae_labels::labels::{
    DetectorSettings, FaceRecord, FrameRecord, LabelWriter, LabelledClip, RunSettings, SCHEMA,
    Source, TrackRecord, Validity,
};
use mtcae_model::decoder::{Config as DecoderConfig, Structure};
use mtcae_model::encoder::VideoMaeConfig;
use mtcae_model::init::suited_decoder;
use mtcae_model::{Config, Mtcae, checkpoint};
use mtcae_nn::ParamStore;
use mtcae_train::log::{Line, read};
use mtcae_train::{Dataset, Recipe, Selection, TrainConfig, Tune};
use mtcae_video::{ClipWriter, WriterOptions};
use ndarray::Array3;

pub const CLASSES: [&str; 3] = ["angry", "happy", "sad"];
pub const SUBJECTS: usize = 7;
const WIDTH: usize = 40;
const HEIGHT: usize = 32;
const FRAMES: usize = 6;

/// A folder with labelled clips and a checkpoint; gone when dropped.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub labels: PathBuf,
    pub checkpoint: PathBuf,
}

impl Place {
    /// Three clips of each of seven subjects, one of each class, and an untrained
    /// cascade.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let labels = folder.path().join("labels.jsonl");
        let checkpoint = folder.path().join("checkpoint");
        let mut writer = LabelWriter::create(&labels).unwrap();
        for subject in 0..SUBJECTS {
            for (class, name) in CLASSES.iter().enumerate() {
                let file = format!("s{subject}-{name}.mp4");
                film(&folder.path().join(&file), subject, class);
                writer.write(&label(&file, subject, class)).unwrap();
            }
        }
        writer.finish().unwrap();
        save_checkpoint(&checkpoint, Structure::Cascade, 1);
        Self {
            folder,
            labels,
            checkpoint,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data(&self, config: &TrainConfig) -> Arc<Dataset> {
        Arc::new(Dataset::read(&self.labels, &Selection::default(), config).unwrap())
    }
}

/// Left and top of the square that stands for a face, in pixels.
fn corner(subject: usize, frame: usize) -> (usize, usize) {
    (
        4 + (3 * subject + frame) % 16,
        4 + (2 * subject + frame) % 10,
    )
}

const SIDE: usize = 14;

/// A bright square on a dark ground; its colour says the class.
fn film(path: &Path, subject: usize, class: usize) {
    let options = WriterOptions {
        threads: 1,
        ..WriterOptions::new(WIDTH as u32, HEIGHT as u32)
    };
    let mut writer = ClipWriter::create(path, &options).unwrap();
    for frame in 0..FRAMES {
        let (left, top) = corner(subject, frame);
        let picture = Array3::from_shape_fn((HEIGHT, WIDTH, 3), |(y, x, c)| {
            let inside = (left..left + SIDE).contains(&x) && (top..top + SIDE).contains(&y);
            match inside {
                true if c == class => 230,
                true => 90 + 10 * subject as u8,
                false => 20 + 5 * c as u8,
            }
        });
        let time = frame as f64 / 25.0;
        writer.write(&picture.view(), time).unwrap();
    }
    writer.finish().unwrap();
}

fn label(file: &str, subject: usize, class: usize) -> LabelledClip {
    let face = |frame: usize| {
        let (left, top) = corner(subject, frame);
        let at = |dx: f32, dy: f32| {
            [
                (left as f32 + dx * SIDE as f32) / WIDTH as f32,
                (top as f32 + dy * SIDE as f32) / HEIGHT as f32,
            ]
        };
        let ([x1, y1], [x2, y2]) = (at(0.0, 0.0), at(1.0, 1.0));
        FaceRecord {
            frame,
            validity: Validity::Detected,
            score: 1.0,
            bbox: [x1, y1, x2, y2],
            landmarks: [
                at(0.3, 0.3),
                at(0.7, 0.3),
                at(0.5, 0.5),
                at(0.35, 0.75),
                at(0.65, 0.75),
            ],
        }
    };
    LabelledClip {
        schema: SCHEMA.to_owned(),
        file: file.to_owned(),
        sha256: None,
        dataset: "squares".to_owned(),
        class: Some(CLASSES[class].to_owned()),
        subject: Some(format!("s{subject}")),
        sex: None,
        level: Some(format!("{}", 1 + subject % 2)),
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
        source: Some(Source {
            width: WIDTH as u32,
            height: HEIGHT as u32,
            pixel_aspect: 1.0,
        }),
        frames: (0..FRAMES as u64)
            .map(|index| FrameRecord {
                index,
                time: index as f64 / 25.0,
                validity: Validity::Detected,
            })
            .collect(),
        // The last frame of each clip shows no face.
        tracks: vec![TrackRecord {
            id: 0,
            is_subject: true,
            faces: (0..FRAMES - 1).map(face).collect(),
        }],
        action_units: None,
        warnings: Vec::new(),
        error: None,
    }
}

/// 4 frames of 32x32, 8 tokens of width 24, two blocks and two decoder layers.
pub fn model_config(structure: Structure) -> Config {
    let encoder = VideoMaeConfig {
        image_size: 32,
        frames: 4,
        width: 24,
        depth: 2,
        heads: 3,
        hidden: 48,
        ..VideoMaeConfig::small()
    };
    let classes = CLASSES.map(str::to_owned).to_vec();
    let config = Config::new(encoder, structure, classes);
    if !structure.has_stages() {
        return Config {
            decoder: suited_decoder(config.decoder),
            ..config
        };
    }
    Config {
        decoder: DecoderConfig {
            width: 16,
            depth: 2,
            heads: 2,
            head_dim: 8,
            mlp_ratio: 2.0,
            ..config.decoder
        },
        ..config
    }
}

pub fn save_checkpoint(folder: &Path, structure: Structure, seed: u64) {
    save(folder, &model_config(structure), seed);
}

/// A drawn model of a config as a checkpoint.
pub fn save(folder: &Path, config: &Config, seed: u64) {
    let store = ParamStore::new(seed);
    Mtcae::new(config, store.builder(&Device::Cpu)).unwrap();
    let vars = store.vars();
    let tensors: Vec<(&str, &Tensor)> = vars
        .iter()
        .map(|(name, var)| (name.as_str(), var.as_tensor()))
        .collect();
    checkpoint::save(folder, config, tensors).unwrap();
}

/// Everything that draws random numbers or keeps a state is on.
pub fn busy() -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch: 3,
        accumulate: 2,
        lr: 3e-3,
        ema: 0.9,
        mixup: 0.8,
        drop_path: 0.2,
        layer_decay: 0.75,
        clip_norm: 1.0,
        smoothing: 0.1,
        flip: true,
        crop: 0.7,
        jitter: 0.3,
        tune: Tune::All,
        validation: 0.25,
        folds: 3,
        save_every: 1,
        workers: 2,
        queue: 2,
        ..TrainConfig::recipe(Recipe::Paper)
    }
}

/// The paper's recipe, short.
pub fn plain() -> TrainConfig {
    TrainConfig {
        epochs: 2,
        batch: 4,
        folds: 3,
        ..TrainConfig::recipe(Recipe::Paper)
    }
}

/// The lines of a log without what a clock says.
pub fn log(folder: &Path) -> Vec<Line> {
    let mut lines = read(folder.join(mtcae_train::LOG)).unwrap();
    for line in &mut lines {
        if let Line::Epoch(line) = line {
            (line.seconds, line.waiting, line.clips_per_second) = (0.0, 0.0, 0.0);
            line.parts = None;
        }
    }
    lines
}

/// The loss of each step, to the bit.
pub fn losses(folder: &Path) -> Vec<u64> {
    let of_step = |line: &Line| match line {
        Line::Step(s) => Some(s.loss.to_bits()),
        Line::Epoch(_) => None,
    };
    log(folder).iter().filter_map(of_step).collect()
}
