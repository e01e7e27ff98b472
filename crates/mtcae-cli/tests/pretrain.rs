//! `pretrain` as a person runs it: killed, resumed, taken by `init`, and told wrong things.

mod training;

use std::path::Path;

use mtcae_train::MaskedLine;
use training::{bytes, done, killed_while, material, refused};

/// A toy on the rendered clips.
const TOY: &[&str] = &[
    "--quiet",
    "--epochs",
    "3",
    "--batch",
    "2",
    "--accumulate",
    "3",
    "--warmup",
    "1",
    "--lr",
    "0.01",
    "--sampling",
    "dense:1",
    "--validation",
    "0.2",
    "--pictures",
    "2",
    "--save-every",
    "1",
    "--workers",
    "2",
];

fn arguments<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let labels = &material().labels;
    let from = ["--labels", labels, "--out", out, "--size", "tiny"];
    [&from[..], TOY, more].concat()
}

/// All of the log but what a clock says.
fn log(out: &str) -> Vec<MaskedLine> {
    let text = String::from_utf8(bytes(out, "metrics.jsonl")).expect("text");
    let lines = text
        .lines()
        .map(|l| serde_json::from_str(l).expect("a line"));
    let mut lines: Vec<MaskedLine> = lines.collect();
    for line in &mut lines {
        if let MaskedLine::Epoch(line) = line {
            (line.seconds, line.waiting, line.clips_per_second) = (0.0, 0.0, 0.0);
            line.parts = Default::default();
        }
    }
    lines
}

#[test]
fn killed_at_any_moment_and_resumed_it_ends_the_same_and_init_takes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (whole, pieces) = (at("whole"), at("pieces"));
    let said = done("pretrain", &arguments(&whole, &[]));
    assert!(
        said.contains("weights of epoch 3; `mtcae init --encoder "),
        "{said}"
    );
    let want = log(&whole);
    let again = [&arguments(&pieces, &[])[..], &["--resume"]].concat();
    let path = Path::new(&pieces).join("metrics.jsonl");
    for lines in [1, 3, 5, 8] {
        killed_while("pretrain", &again, &path, lines);
    }
    done("pretrain", &again);
    assert_eq!(log(&pieces), want);
    for file in [
        "model/model.safetensors",
        "model/config.json",
        "reconstructions/epoch-002.png",
    ] {
        assert!(bytes(&pieces, file) == bytes(&whole, file), "{file}");
    }
    let (model, start) = (at("whole/model"), at("start"));
    done("init", &["--encoder", &model, "--out", &start]);
    // It goes on from there, too, and tells other settings than it begins with.
    let further = at("further");
    let videos = Path::new(&material().labels).parent().expect("a folder");
    let videos = videos.display().to_string();
    let args = [
        &videos,
        "--out",
        &further,
        "--checkpoint",
        &model,
        "--mask-ratio",
        "0.75",
        "--recipe",
        "pretrain-svfap",
        "--epochs",
        "2",
        "--warmup",
        "1",
        "--accumulate",
        "40",
        "--quiet",
    ];
    done("pretrain", &args);
    assert_eq!(log(&further).len(), 2 + 2, "one step an epoch");
}

#[test]
fn what_cannot_be_pre_trained_is_refused_in_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (out, empty) = (at("out"), at("empty"));
    std::fs::create_dir(&empty).expect("made");
    let checkpoint = &material().checkpoint;
    let ours = ["--out", &out, "--size", "tiny"];
    let labels = &material().labels;
    for (args, words) in [
        (
            [&[&empty[..]][..], &ours].concat(),
            "no video or image file in this folder",
        ),
        (
            [&["nowhere.mp4"][..], &ours].concat(),
            "1 videos are missing (nowhere.mp4)",
        ),
        (
            vec![
                "--labels", labels, "--out", &out, "--family", "resnet", "--size", "tiny",
            ],
            "--family: resnet has no masked pre-training; families that have: lgi-former, tpsbt, videomae",
        ),
        (
            vec![
                "--labels",
                labels,
                "--out",
                &out,
                "--checkpoint",
                checkpoint,
            ],
            "this is a model of another kind",
        ),
        (
            [&["--labels", labels, "--mask-ratio", "1"][..], &ours].concat(),
            "--mask-ratio: ",
        ),
        (
            [&["--labels", labels, "--recipe", "videomae"][..], &ours].concat(),
            "--recipe: `videomae` is no recipe; known: pretrain-videomae",
        ),
        (
            [&["--labels", labels, "--scales", "2"][..], &ours].concat(),
            "--scales: `2` is no list of scales",
        ),
        (
            [&["--labels", labels, "--sampling", "all"][..], &ours].concat(),
            "--sampling: all gives clips of any length",
        ),
    ] {
        let said = refused("pretrain", &args);
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(!Path::new(&out).join("model").exists(), "{args:?}");
    }
    let cache = at("a.features");
    std::fs::write(&cache, b"MTCAEF02 and more").expect("written");
    let said = refused("pretrain", &[&[&cache[..]][..], &ours].concat());
    assert!(said.contains("a.features: holds cached features"), "{said}");
}
