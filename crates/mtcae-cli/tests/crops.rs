//! Crops as a person uses them: what is trained, measured and inferred sees the same.

mod common;
mod training;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use common::answer;
use mtcae_dfer::video::ndarray::s;
use mtcae_dfer::video::{ClipWriter, Video, WriterOptions};
use mtcae_dfer::{DetectAt, Device, FaceFinder, Pipeline, Precision};
use mtcae_testing::fixtures;
use mtcae_train::{Dataset, Loading, Selection, Source, predict};
use serde_json::Value;
use training::{done, refused, run, text};

/// The middle of the portrait, 256 pixels wide and high: labels, which are fractions, come
/// back as the pixels that they were.
fn filmed(path: &Path) {
    let mut writer = ClipWriter::create(path, &WriterOptions::new(256, 256)).expect("a film");
    let portrait = fixtures().join("demo/portrait.mp4");
    let frames = Video::open(portrait).and_then(Video::frames);
    for frame in frames.expect("frames") {
        let frame = frame.expect("a frame");
        let part = frame.pixels.slice(s![50..306, 112..368, ..]);
        writer.write(&part, frame.time).expect("written");
    }
    writer.finish().expect("finished");
}

/// The same faces and the same pixels: probabilities are equal to the bit.
#[test]
fn what_is_measured_is_what_is_inferred() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(folder.path().join("happy")).expect("a folder");
    filmed(&folder.path().join("happy/face.mp4"));
    let labels = at("labels.jsonl");
    let clips = folder.path().display().to_string();
    let way = ["--dataset", "folder", "--detect-at", "source", "--quiet"];
    done("label", &[&[&clips, "--out", &labels][..], &way].concat());
    for (name, crop) in [("a", "aligned"), ("b", "face"), ("c", "aligned:5.5")] {
        let checkpoint = at(name);
        let sizes = ["--size", "tiny", "--image-size", "64", "--frames", "8"];
        let more = [
            "--classes",
            "happy,sad",
            "--crop",
            crop,
            "--out",
            &checkpoint,
        ];
        done("init", &[&sizes[..], &more].concat());

        let pipeline = Pipeline::load(&checkpoint, &Device::Cpu).expect("loaded");
        let finder = FaceFinder::new(&Device::Cpu, DetectAt::Source, None).expect("a finder");
        let said = finder.predict(&pipeline, folder.path().join("happy/face.mp4"));
        let said = said.expect("predicted");
        let said: Vec<f64> = said
            .probabilities
            .iter()
            .map(|p| p.probability.into())
            .collect();

        let classes = ["happy", "sad"].map(str::to_owned);
        let selection = Selection {
            classes: Some(&classes),
            ..Selection::default()
        };
        let data = Arc::new(Dataset::read_to_test(&labels, &selection).expect("read"));
        let opened = mtcae_dfer::model::Checkpoint::open(&checkpoint).expect("opened");
        let engine = opened
            .engine(&Device::Cpu, Precision::F32)
            .expect("an engine");
        let source = Arc::new(Source::to_test(&data, &engine, Loading::default()));
        let mut watch = |_: &mtcae_train::Event<'_>| ControlFlow::Continue(());
        let (measured, _) = predict(&engine, &source, &[0], None, &mut watch).expect("measured");
        assert_eq!(measured[0].probabilities, said, "{crop}");
        assert_eq!(measured[0].frames, 8);
        // A crop that is another is another answer.
        let other = engine.config().preprocessing.crop.to_string();
        assert!(other.starts_with(crop), "{other}");
    }
}

#[test]
fn crops_are_named_and_follow_the_config() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let checkpoint = at("checkpoint");
    let sizes = ["--size", "tiny", "--image-size", "64", "--frames", "8"];
    done(
        "init",
        &[&sizes[..], &["--crop", "aligned", "--out", &checkpoint]].concat(),
    );
    let config = folder.path().join("checkpoint/config.json");
    let config: Value =
        serde_json::from_slice(&std::fs::read(config).expect("read")).expect("JSON");
    assert_eq!(config["preprocessing"]["crop"], "aligned:3.6");

    let portrait = fixtures().join("demo/portrait.mp4").display().to_string();
    let said = |more: &[&str]| -> Value {
        let base = [
            &portrait[..],
            "--checkpoint",
            &checkpoint,
            "--format",
            "json",
        ];
        let said = done("infer", &[&base[..], more].concat());
        answer(said.as_bytes())
    };
    let own = said(&[]);
    assert!(
        own["frames"][0]["square"]["side"]
            .as_f64()
            .expect("a square")
            > 50.0
    );
    assert_eq!(own, said(&["--crop", "aligned:3.6"]));
    assert!(said(&["--crop", "face:1.5"])["frames"][0]["square"].is_null());
    assert!(said(&["--crop", "none"])["source"]["crop"].is_null());
    let output = run("infer", &[&portrait, "--crop", "round"]);
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words.contains("`round` is no crop; known: none, face[:MARGIN]"),
        "{words}"
    );
    let other = refused("infer", &[&portrait, "--checkpoint", &at("nowhere")]);
    assert!(other.contains("nowhere"));
}

/// A picture without anybody, with a model that is to say so.
#[test]
fn no_face_is_an_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = folder.path().join("checkpoint");
    let to = checkpoint.display().to_string();
    let sizes = ["--size", "tiny", "--image-size", "64", "--frames", "8"];
    done(
        "init",
        &[&sizes[..], &["--crop", "aligned", "--out", &to]].concat(),
    );
    let path = checkpoint.join("config.json");
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    config["answers"] = serde_json::json!({"smallest_eyes": 10, "farthest_turn": 1.5});
    std::fs::write(&path, config.to_string()).expect("written");
    let none = fixtures().join("mtcnn/none.png").display().to_string();
    let said = done("infer", &[&none, "--checkpoint", &to]);
    assert!(
        said.contains("\nno answer: no face (none is seen in"),
        "{said}"
    );
    let args = [&none, "--checkpoint", &to, "--format", "json"];
    let json = answer(done("infer", &args).as_bytes());
    assert_eq!(json["refusal"]["kind"], "no-face");
    assert_eq!(
        (&json["expression"], &json["probabilities"]),
        (&"".into(), &serde_json::json!([]))
    );

    config["answers"] = serde_json::json!({"smallest_eyes": -1});
    std::fs::write(&path, config.to_string()).expect("written");
    let words = refused("infer", &[&none, "--checkpoint", &to]);
    assert!(
        words.contains("answers.smallest_eyes: is -1; must be above 0, or absent"),
        "{words}"
    );
}
