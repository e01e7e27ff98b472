//! Published classifiers through `infer` and `evaluate`, against the answers of transformers
//! and of the original test protocols.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use mtcae_testing::{Fixture, fixtures};

const MTCAE: &str = env!("CARGO_BIN_EXE_mtcae");

/// Probabilities of float32 against float64 through softmax: as the logits', of which the
/// largest is near 5.
const TOLERANCE: f64 = 1e-5;

fn infer(args: &[&str]) -> Output {
    let mut command = Command::new(MTCAE);
    command.arg("infer").args(args);
    command.output().expect("started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(name: &str) -> String {
    fixtures().join(name).display().to_string()
}

/// Names of classes and probabilities.
fn answer(args: &[&str]) -> (Vec<String>, Vec<f64>) {
    let output = infer(&[args, &["--faces", "none", "--format", "json", "--quiet"]].concat());
    assert!(
        output.status.success(),
        "{args:?}: {}",
        text(&output.stderr)
    );
    let said = common::answer(&output.stdout);
    let classes = said["probabilities"].as_array().expect("a list").iter();
    classes
        .map(|class| {
            let name = class["class"].as_str().expect("a name").to_owned();
            (name, class["probability"].as_f64().expect("a number"))
        })
        .unzip()
}

/// One line, exit code 1, and nothing written.
fn refused(args: &[&str]) -> String {
    let output = infer(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(
        said.starts_with("error: ") && said.lines().count() == 1,
        "{said}"
    );
    assert!(output.stdout.is_empty());
    said
}

#[test]
fn classifiers_answer_as_transformers_and_the_original_tests_do() {
    let seven = ["--classes", "a,b,c,d,e,f,g", "--heads", "3"];
    let sizes = ["--image-size", "32", "--frames", "8"];
    let unsaid = [&seven[..], &sizes].concat();
    for (file, expected, more) in [
        ("hugging-face", "hugging-face", &[][..]),
        ("hugging-face-bin", "hugging-face", &[]),
        ("hugging-face-first-token", "hugging-face-first-token", &[]),
        ("videomae-finetune.pth", "videomae-finetune", &unsaid),
    ] {
        let fixture = Fixture::load(&format!("classifiers/expected-{expected}.safetensors"));
        for (video, sampling, resize, want) in [
            ("exact", "uniform", "shortest-edge", "exact.uniform.1x1"),
            ("long", "uniform", "shortest-edge", "long.uniform.1x1"),
            ("tall", "uniform", "shortest-edge", "tall.uniform.1x1"),
            ("long", "uniform", "three-crop", "long.uniform.1x3"),
            ("tall", "uniform", "three-crop", "tall.uniform.1x3"),
            (
                "long",
                "multi-clip:2x4",
                "shortest-edge",
                "long.stride4.2x1",
            ),
            (
                "long",
                "multi-clip:2x2",
                "shortest-edge",
                "long.stride2.2x1",
            ),
            ("long", "multi-clip:2x4", "three-crop", "long.stride4.2x3"),
            ("long", "multi-clip:5x2", "three-crop", "long.stride2.5x3"),
            ("long", "multi-clip:2x8", "three-crop", "long.stride8.2x3"),
            ("tall", "multi-clip:5x2", "three-crop", "tall.stride2.5x3"),
        ] {
            let (checkpoint, video) = (
                path(&format!("classifiers/{file}")),
                path(&format!("classifiers/{video}.mkv")),
            );
            let views = ["--sampling", sampling, "--resize", resize];
            let args = [&["--checkpoint", &checkpoint, &video][..], &views, more].concat();
            let (_, got) = answer(&args);
            let want_tensor = fixture.get(&format!("{want}.probabilities"));
            let want_values: Vec<f32> = want_tensor.to_vec1().expect("numbers");
            assert_eq!(got.len(), want_values.len());
            for (got, want_value) in got.iter().zip(want_values) {
                let off = (got - f64::from(want_value)).abs();
                assert!(off <= TOLERANCE, "{file} {want}: {got} for {want_value}");
            }
        }
    }
}

#[test]
fn names_of_classes_are_the_configs_or_those_given() {
    let (checkpoint, video) = (
        path("classifiers/hugging-face"),
        path("classifiers/exact.mkv"),
    );
    let (names, _) = answer(&["--checkpoint", &checkpoint, &video]);
    assert_eq!(names, ["neutral", "happy", "sad", "angry", "surprised"]);
    let given = ["--classes", "a,b,c,d,e"];
    let (names, _) = answer(&[&["--checkpoint", &checkpoint, &video][..], &given].concat());
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

/// MAE-DFER's and SVFAP's look at crops to the face, twice.
#[test]
fn models_of_faces_are_shown_crops_unless_it_is_said_otherwise() {
    let (checkpoint, video) = (
        path("families/mae-dfer-finetune.pth"),
        path("demo/rendered.mp4"),
    );
    let unsaid = [
        "--classes",
        "a,b,c,d,e,f,g",
        "--heads",
        "2",
        "--image-size",
        "32",
    ];
    let base = [
        &["--checkpoint", &checkpoint, &video, "--format", "json"][..],
        &unsaid,
    ]
    .concat();
    let said = |more: &[&str]| -> (serde_json::Value, String) {
        let output = infer(&[&base[..], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json = common::answer(&output.stdout);
        (json, text(&output.stderr))
    };
    let indices = |json: &serde_json::Value| -> Vec<u64> {
        let frames = json["frames"].as_array().expect("frames").iter();
        frames
            .map(|f| f["index"].as_u64().expect("a number"))
            .collect()
    };
    let (cropped, _) = said(&[]);
    assert!(cropped["source"]["crop"].is_object(), "{cropped}");
    // 48 frames, of which every fourth is seen: 12, padded with the last to 16, twice.
    let mut want: Vec<u64> = (0..12).chain([11; 4]).map(|i| 4 * i).collect();
    want = want.iter().flat_map(|i| [*i, *i]).collect();
    assert_eq!(indices(&cropped), want);
    let (whole, warned) = said(&["--crop", "none"]);
    assert!(whole["source"]["crop"].is_null());
    assert!(warned.contains("trained on crops to faces"), "{warned}");
    assert_ne!(whole["probabilities"], cropped["probabilities"]);

    // Of windows it is said once.
    let windows = [&base[..], &["--crop", "none", "--window", "1"]].concat();
    let warned = text(&infer(&windows).stderr);
    assert_eq!(
        warned.matches("trained on crops to faces").count(),
        1,
        "{warned}"
    );
    for (more, want) in [
        (&["--faces", "none"][..], "give --crop none"),
        (
            &["--resize", "three-crop"],
            "--resize has no effect on crops to faces",
        ),
    ] {
        let output = infer(&[&base[..], more].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(want) && output.stdout.is_empty(), "{said}");
    }
}

/// What the answers depend on is noted beside them.
#[test]
fn results_are_not_gone_on_with_under_other_names_of_classes() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out").display().to_string();
    let (checkpoint, video) = (
        path("classifiers/hugging-face"),
        path("classifiers/exact.mkv"),
    );
    let run = |more: &[&str]| {
        let args = [
            "--checkpoint",
            &checkpoint,
            &video,
            "--faces",
            "none",
            "--out",
            &out,
        ];
        infer(&[&args[..], more].concat())
    };
    assert!(run(&["--classes", "a,b,c,d,e"]).status.success());
    assert!(
        run(&["--classes", "a,b,c,d,e", "--resume"])
            .status
            .success()
    );
    for more in [
        &["--classes", "e,d,c,b,a"][..],
        &["--sampling", "authors"],
        &[],
    ] {
        let output = run(&[more, &["--resume"]].concat());
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && said.contains("given was "),
            "{said}"
        );
    }
}

#[test]
fn flags_of_a_model_are_none_of_a_table_and_training_is_of_models_of_ours() {
    let run = |name: &str, args: &[&str]| {
        let output = Command::new(MTCAE).arg(name).args(args).output();
        let output = output.expect("started");
        (output.status.code(), text(&output.stderr))
    };
    for flag in [
        ["--classes", "a,b"],
        ["--sampling", "authors"],
        ["--image-size", "64"],
    ] {
        let (code, said) = run(
            "evaluate",
            &[&["--predictions", "t.csv"][..], &flag].concat(),
        );
        assert!(
            code == Some(2) && said.contains("cannot be used with"),
            "{said}"
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out").display().to_string();
    for checkpoint in [
        "classifiers/hugging-face",
        "classifiers/videomae-finetune.pth",
    ] {
        let checkpoint = path(checkpoint);
        let labels = path("e3dce91/labels.jsonl");
        let args = [
            "--labels",
            &labels,
            "--checkpoint",
            &checkpoint,
            "--out",
            &out,
        ];
        let (code, said) = run("train", &args);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("`mtcae init --encoder` makes one of ours"),
            "{said}"
        );
        assert!(!Path::new(&out).exists());
    }
}

#[test]
fn what_cannot_answer_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out").display().to_string();
    let video = path("classifiers/exact.mkv");
    let refuse = |checkpoint: &str, more: &[&str]| {
        let args = [
            &["--checkpoint", checkpoint, &video, "--out", &out][..],
            more,
        ]
        .concat();
        let said = refused(&args);
        assert!(!Path::new(&out).exists(), "{said}");
        said
    };
    let file = path("classifiers/videomae-finetune.pth");
    let sizes = ["--heads", "3", "--image-size", "32", "--frames", "8"];
    let said = refuse(&file, &[]);
    assert!(said.ends_with("must be given (--heads)\n"), "{said}");
    let said = refuse(&file, &sizes);
    assert!(
        said.contains("names the 7 classes") && said.ends_with("(--classes)\n"),
        "{said}"
    );
    let two = [&sizes[..], &["--classes", "happy,sad"]].concat();
    let said = refuse(&file, &two);
    assert!(
        said.contains("2 names of classes are given (happy, sad)"),
        "{said}"
    );
    let alone = path("families/svfap-pretrain.pth");
    let said = refuse(&alone, &["--heads", "2", "--image-size", "32"]);
    assert!(said.contains("an encoder without a classifier"), "{said}");
    let few = ["--heads", "2", "--image-size", "32", "--frames", "12"];
    let said = refuse(&path("families/svfap-finetune.pth"), &few);
    assert!(said.contains("frames: 12 make 6 slices"), "{said}");
    let odd = ["--heads", "2", "--image-size", "24"];
    let said = refuse(&path("families/mae-dfer-finetune.pth"), &odd);
    assert!(said.contains("4×2×1 regions do not divide"), "{said}");
    let ours = path("demo/checkpoint");
    let said = refuse(&ours, &["--classes", "a,b"]);
    assert!(said.contains("a model of ours"), "{said}");
    let said = refuse("nowhere.pth", &["--classes", "a,b"]);
    assert!(said.starts_with("error: nowhere.pth: "), "{said}");
    let said = refuse(&path("classifiers/hugging-face"), &["--heads", "1"]);
    assert!(
        said.contains("config.json: heads: 1 heads are given, but it says 3"),
        "{said}"
    );
    let said = refuse(
        &path("classifiers/hugging-face"),
        &["--classes", "a,a,b,c,d"],
    );
    assert!(
        said.contains("hugging-face: ") && said.contains("\"a\" is listed twice"),
        "{said}"
    );
}
