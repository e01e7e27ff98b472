//! Models whose config says that they see a crop, and when they are to give no answer.

#![cfg(feature = "annotate")]

use std::path::{Path, PathBuf};

use mtcae_dfer::video::{ClipWriter, FrameResizer, Video, WriterOptions};
use mtcae_dfer::{
    Crop, DetectAt, Device, FaceFinder, FaceWarning, Pipeline, Prediction, Refusal, Warning,
    Windowing, annotate, write_csv,
};
use mtcae_testing::fixtures;
use ndarray::{Array3, s};
use serde_json::{Value, json};

/// The demo's model with other fields in its config.
fn demo(folder: &Path, crop: &str, answers: Value) -> Pipeline {
    let from = fixtures().join("demo/checkpoint");
    let to = folder.join("checkpoint");
    std::fs::create_dir_all(&to).expect("a folder");
    for file in std::fs::read_dir(&from).expect("a checkpoint") {
        let path = file.expect("a file").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
    let path = to.join("config.json");
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    config["preprocessing"]["crop"] = crop.into();
    if !answers.is_null() {
        config["answers"] = answers;
    }
    std::fs::write(&path, config.to_string()).expect("written");
    Pipeline::load(&to, &Device::Cpu).expect("loaded")
}

fn portrait() -> PathBuf {
    fixtures().join("demo/portrait.mp4")
}

fn refusal(prediction: &Prediction) -> &'static str {
    let name = prediction.refusal.as_ref().map_or("none", Refusal::name);
    assert_eq!(name == "none", !prediction.expression.is_empty());
    name
}

/// Films what `picture` makes of each of the portrait's frames.
fn filmed(path: &Path, picture: impl Fn(usize, &Array3<u8>) -> Array3<u8>) {
    let frames = Video::open(portrait()).and_then(Video::frames);
    let mut writer: Option<ClipWriter> = None;
    for (i, frame) in frames.expect("frames").enumerate() {
        let frame = frame.expect("a frame");
        let made = picture(i, &frame.pixels);
        let (height, width, _) = made.dim();
        let writer = writer.get_or_insert_with(|| {
            let options = WriterOptions::new(width as u32, height as u32);
            ClipWriter::create(path, &options).expect("a film")
        });
        writer.write(&made.view(), frame.time).expect("written");
    }
    writer.expect("frames").finish().expect("finished");
}

#[test]
fn a_model_that_sees_crops_follows_the_face_without_being_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = demo(folder.path(), "aligned:3.6", Value::Null);
    assert_eq!(pipeline.crop(), Crop::aligned());
    let prediction = pipeline.predict(portrait()).expect("predicted");
    assert_eq!(prediction.warnings, []);
    let crop = prediction.source.crop.expect("a part of the picture");
    assert!(crop.width < 480.0 && crop.x >= 0.0 && crop.x + crop.width <= 480.0);
    for frame in &prediction.frames {
        let square = frame.square.expect("a square");
        let face = frame.detected.expect("MTCNN's face");
        // Eyes and mouth lie where an upright face has them.
        let [left, right, _, mouth, _] = square.landmarks_within(&face.landmarks).points();
        assert!((0.3..0.45).contains(&left[0]) && (0.55..0.7).contains(&right[0]));
        assert!((left[1] - 0.375).abs() < 0.03 && (right[1] - 0.375).abs() < 0.03);
        assert!((0.6..0.75).contains(&mouth[1]));
    }
    // The same by a finder of one's own, and of windows.
    let finder = FaceFinder::new(&Device::Cpu, DetectAt::Source, None).expect("a finder");
    let again = finder.predict(&pipeline, portrait()).expect("predicted");
    assert_eq!(prediction, again);
    let windowing = Windowing {
        length: 1.0,
        stride: 1.0,
        batch: 1,
    };
    let go_on = |_| std::ops::ControlFlow::Continue(());
    let timeline = pipeline.predict_windows(portrait(), &windowing, go_on);
    let windows = timeline.expect("predicted").windows;
    assert_eq!(windows.len(), 3);
    assert!(
        windows
            .iter()
            .all(|w| w.frames.iter().all(|f| f.square.is_some()))
    );
    // Another part of the frame, where it is asked for.
    let whole = pipeline.clone().with_crop(Crop::None);
    let whole = whole.predict(portrait()).expect("predicted");
    assert_eq!(whole.warnings, [Warning::Face(FaceWarning::NotCropped)]);
    assert_ne!(whole.probabilities, prediction.probabilities);
}

/// What the config of before says is read as what it meant, with the same answers.
#[test]
fn the_face_crop_of_before_is_face_1_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = demo(folder.path(), "face:1.3", Value::Null);
    let path = folder.path().join("checkpoint/config.json");
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    let preprocessing = config["preprocessing"].as_object_mut().expect("fields");
    preprocessing.remove("crop");
    preprocessing.insert("face_crop".to_owned(), true.into());
    std::fs::write(&path, config.to_string()).expect("written");
    let before = Pipeline::load(folder.path().join("checkpoint"), &Device::Cpu).expect("loaded");
    assert_eq!(before.crop(), Crop::face());
    let answers = [&pipeline, &before].map(|p| p.predict(portrait()).expect("predicted"));
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].frames.iter().all(|frame| frame.square.is_none()));
}

#[test]
fn nobody_is_an_answer_where_the_config_has_answers() {
    let none = fixtures().join("mtcnn/none.png");
    for crop in ["aligned", "none"] {
        let folder = tempfile::tempdir().expect("a folder");
        let pipeline = demo(folder.path(), crop, json!({}));
        let finder = FaceFinder::new(&Device::Cpu, DetectAt::Source, None).expect("a finder");
        let prediction = finder.predict(&pipeline, &none).expect("an answer");
        assert_eq!(refusal(&prediction), "no-face");
        assert_eq!(prediction.seen.as_ref().map(|s| s.frames), Some(0));
        assert_eq!(prediction.frames.len(), 16);
        let mut table = Vec::new();
        write_csv(&mut table, [&prediction]).expect("written");
        let table = String::from_utf8(table).expect("text");
        assert!(
            table
                .lines()
                .skip(1)
                .all(|row| row.contains(",no answer: no-face,"))
        );
        let answer = mtcae_dfer::Answer::Clip(vec![prediction]);
        annotate::sheet(&pipeline, &answer, &none, crop != "none").expect("drawn");
    }
    // Where it has none, it is the error of before.
    let folder = tempfile::tempdir().expect("a folder");
    let error = demo(folder.path(), "aligned", Value::Null).predict(&none);
    let error = error.expect_err("nobody").to_string();
    assert!(error.ends_with("MTCNN finds no face to crop to"), "{error}");
}

#[test]
fn a_face_too_small_or_turned_away_is_not_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    let answers = json!({"smallest_eyes": 10.0, "farthest_turn": 1.2});
    let pipeline = demo(folder.path(), "aligned", answers);
    let good = pipeline.predict(portrait()).expect("predicted");
    assert_eq!(refusal(&good), "none");

    // A face of about 12 pixels.
    let small = folder.path().join("small.mp4");
    let eyes = |p: &Prediction| {
        let face = p.frames[0].detected.expect("a face").landmarks;
        f64::from(
            (face.left_eye[0] - face.right_eye[0]).hypot(face.left_eye[1] - face.right_eye[1]),
        )
    };
    let times = (eyes(&good) / 5.5).round() as usize;
    filmed(&small, |_, frame| {
        let (height, width, _) = frame.dim();
        let (less_w, less_h) = (width / times, height / times);
        // On a ground that keeps the picture's size.
        let mut out = Array3::from_elem((height, width, 3), 90);
        let mut pixels = vec![0; less_w * less_h * 3];
        let from = frame.as_standard_layout();
        FrameResizer::default()
            .resize(
                from.as_slice().expect("rows"),
                (width as u32, height as u32),
                None,
                (less_w as u32, less_h as u32),
                &mut pixels,
            )
            .expect("made smaller");
        let pixels = Array3::from_shape_vec((less_h, less_w, 3), pixels).expect("a picture");
        out.slice_mut(s![100..100 + less_h, 200..200 + less_w, ..])
            .assign(&pixels);
        out
    });
    let unseen = pipeline.predict(&small).expect("an answer");
    // Whether MTCNN finds it, below the size that it looks for, or not.
    assert!(["no-face", "too-small"].contains(&refusal(&unseen)));
    let near = FaceFinder::new(&Device::Cpu, DetectAt::Source, Some(12.0)).expect("a finder");
    let seen = near.predict(&pipeline, &small).expect("an answer");
    assert_eq!(refusal(&seen), "too-small");
    let words = seen.refusal.expect("a reason").to_string();
    assert!(words.ends_with("10 are needed)"), "{words}");

    let strict = tempfile::tempdir().expect("a folder");
    let strict = demo(strict.path(), "aligned", json!({"farthest_turn": 1e-3}));
    let away = strict.predict(portrait()).expect("an answer");
    assert_eq!(refusal(&away), "turned-away");
}

#[test]
fn a_face_that_leaves_the_picture_and_others_like_it_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = demo(folder.path(), "aligned", Value::Null);
    let leaving = folder.path().join("leaving.mp4");
    filmed(&leaving, |i, frame| {
        let width = frame.dim().1;
        let by = (i * width / 60).min(width - 1);
        let mut out = Array3::from_elem(frame.dim(), 90);
        let stays = frame.slice(s![.., ..width - by, ..]);
        out.slice_mut(s![.., by.., ..]).assign(&stays);
        out
    });
    let prediction = pipeline.predict(&leaving).expect("predicted");
    let words: Vec<String> = prediction
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    let said = |text: &str| words.iter().any(|w| w.contains(text));
    assert!(said("the face leaves the picture in"), "{words:?}");

    let five = fixtures().join("mtcnn/five.png");
    let prediction = pipeline.predict(five).expect("predicted");
    let others = prediction.warnings.iter().find_map(|w| match w {
        Warning::Face(FaceWarning::Several { others }) => Some(*others),
        _ => None,
    });
    assert!(others.is_some_and(|n| (1..=4).contains(&n)), "{others:?}");
}
