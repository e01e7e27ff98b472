//! `infer` as a person runs it: what it prints, what it writes, and what it says
//! of everything it cannot use.

mod common;

use std::path::Path;

use mtcae_dfer::Resize;
use mtcae_testing::{Fixture, fixtures};

use common::{answer, code, infer, portrait, program, text};

#[test]
fn without_arguments_a_real_and_a_rendered_face_are_shown_to_the_default_model() {
    let output = program("infer")
        .current_dir(std::env::temp_dir())
        .output()
        .expect("started");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(code(&output), 0, "{err}");
    let clips: Vec<&str> = out.split("fixtures/demo/").skip(1).collect();
    let [portrait, scanned] = clips[..] else {
        panic!("two clips: {out}");
    };
    // A smile that shows teeth, both.
    for (clip, name) in [(portrait, "portrait.mp4"), (scanned, "scanned.mp4")] {
        assert!(clip.starts_with(name), "{out}");
        assert!(clip.contains("\nexpression: happy "), "{out}");
        assert!(clip.contains("face seen in 16 of 16 frames"), "{out}");
        assert!(
            clip.contains("The default model was trained on rendered faces alone")
                && clip.contains("docs/faces.md"),
            "{out}"
        );
    }
}

#[test]
fn the_drawn_checkpoint_recognises_a_drawn_face_and_says_what_that_is_worth() {
    let drawn = fixtures().join("demo/rendered.mp4").display().to_string();
    let output = infer(&[&drawn]);
    let out = text(&output.stdout);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(
        out.contains("rendered.mp4")
            && out.contains("\nexpression: happy ")
            && out.contains("256x256"),
        "{out}"
    );
    assert!(out.contains("trained on rendered faces alone"), "{out}");
    assert_eq!(
        out.lines()
            .filter(|l| l.trim_start().starts_with(|c: char| c.is_ascii_digit()))
            .count(),
        16,
        "{out}"
    );
}

#[test]
fn formats_go_to_stdout_and_nothing_else_does() {
    let output = infer(&[&portrait(), "--format", "json"]);
    let json = answer(&output.stdout);
    assert_eq!(json["frames"].as_array().map(Vec::len), Some(16));
    let output = infer(&[&portrait(), "--format", "csv", "--quiet"]);
    assert_eq!(text(&output.stdout).lines().count(), 17);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn files_pictures_and_windows_are_written_under_distinct_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("results");
    let portrait = portrait();
    let twice = [portrait.as_str(), portrait.as_str()];
    let out_arg = out.display().to_string();
    let args = [
        &twice[..],
        &["--out", &out_arg, "--annotate", "png", "--quiet"],
    ]
    .concat();
    assert_eq!(code(&infer(&args)), 0);
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .expect("listed")
        .map(|f| {
            f.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    let want = [
        "infer-settings.json",
        "overview.csv",
        "portrait-2.csv",
        "portrait-2.json",
        "portrait-2.png",
        "portrait.csv",
        "portrait.json",
        "portrait.png",
    ];
    assert_eq!(names, want);

    let args = [
        portrait.as_str(),
        "--out",
        &out_arg,
        "--window",
        "1",
        "--annotate",
        "png,mp4",
        "--format",
        "json",
        "--quiet",
        "--force",
    ];
    assert_eq!(code(&infer(&args)), 0);
    let json = std::fs::read(out.join("portrait.json")).expect("written");
    let json = answer(&json);
    assert_eq!(json["windows"].as_array().map(Vec::len), Some(3));
    let mut film =
        mtcae_dfer::video::Video::open(out.join("portrait.annotated.mp4")).expect("a video");
    assert_eq!(film.frame_count().expect("counted"), 75);
}

/// Every name in the results stands in their document.
#[test]
fn the_document_names_every_field_and_column() {
    fn keys(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    found.insert(key.clone());
                    keys(value, found);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let page = fixtures().join("../docs/results-format.md");
    let page = std::fs::read_to_string(page).expect("read");
    let mut names = std::collections::BTreeSet::new();
    for more in [&["--people", "all"][..], &["--window", "1"]] {
        let portrait = portrait();
        let output = infer(&[&[portrait.as_str(), "--format", "json"], more].concat());
        let json = serde_json::from_slice(&output.stdout).expect("JSON");
        keys(&json, &mut names);
    }
    let table = text(&infer(&[&portrait(), "--format", "csv"]).stdout);
    let header = table.lines().next().expect("a header");
    names.extend(
        header
            .split(',')
            .map(|column| match column.strip_prefix("p_") {
                Some(_) => "p_CLASS".to_owned(),
                None => column.replace("detected_", ""),
            }),
    );
    assert!(names.len() > 40);
    for name in &names {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// Answers of MTCNN stand in the results unless they are not wanted.
#[test]
fn faces_are_looked_for_unless_it_is_said() {
    let seen = |args: &[&str]| {
        let portrait = portrait();
        let output = infer(&[&[portrait.as_str(), "--format", "json"], args].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let json = answer(&output.stdout);
        let json = json.get("windows").map_or(&json, |w| &w[0]).clone();
        let frames = json["frames"].as_array().expect("frames").clone();
        let found = frames.iter().filter(|f| !f["detected"].is_null()).count();
        (found > 0, json["expression"].clone())
    };
    let (found, expression) = seen(&[]);
    assert!(found);
    assert_eq!(seen(&["--faces", "mtcnn"]), (true, expression.clone()));
    assert_eq!(seen(&["--faces", "none"]), (false, expression));
    assert!(seen(&["--window", "1"]).0);
    assert!(!seen(&["--window", "1", "--faces", "none"]).0);
}

/// A demo checkpoint with another sampling.
fn with_sampling(sampling: &str) -> tempfile::TempDir {
    with_preprocessing(sampling, "squash")
}

/// A demo checkpoint with another sampling and resizing.
fn with_preprocessing(sampling: &str, resize: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = fixtures().join("demo/checkpoint");
    let config = std::fs::read_to_string(demo.join("config.json")).expect("read");
    assert!(config.contains("\"uniform\""));
    let config = config.replace("\"uniform\"", &format!("\"{sampling}\""));
    assert!(config.contains("\"squash\""));
    let config = config.replace("\"squash\"", &format!("\"{resize}\""));
    std::fs::write(folder.path().join("config.json"), config).expect("written");
    let weights = "model.safetensors";
    std::fs::copy(demo.join(weights), folder.path().join(weights)).expect("copied");
    folder
}

#[test]
fn every_way_to_look_takes_several_views() {
    let checkpoint = with_sampling("multi-clip:3x1");
    let checkpoint = checkpoint.path().display().to_string();
    let trace = tempfile::tempdir().expect("a folder");
    let trace_file = trace.path().join("trace.safetensors");
    let trace_arg = trace_file.display().to_string();
    let ask = |args: &[&str]| {
        let portrait = portrait();
        let all = ["--checkpoint", &checkpoint, "--format", "json", &portrait];
        let output = infer(&[&all[..], args].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        answer(&output.stdout)
    };
    let plain = ask(&["--faces", "none"]);
    assert_eq!(plain["frames"].as_array().map(Vec::len), Some(48));
    let windows = ask(&["--window", "1"]);
    let frames = &windows["windows"][0]["frames"];
    assert_eq!(frames.as_array().map(Vec::len), Some(48));
    let traced = ask(&["--trace", &trace_arg]);
    assert_eq!(traced["frames"].as_array().map(Vec::len), Some(48));
    // Another path of computation, so not equal to the bit.
    let confidence = |json: &serde_json::Value| json["confidence"].as_f64().expect("a number");
    assert!((confidence(&traced) - confidence(&plain)).abs() < 1e-4);
    assert_eq!(
        Fixture::open(&trace_file).get("clip").dims(),
        [16, 64, 64, 3]
    );
}

/// Three squares of each frame are averaged in every way to look at a whole picture; of a
/// face there is one.
#[test]
fn every_way_to_look_takes_three_crops() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder
        .path()
        .join("trace.safetensors")
        .display()
        .to_string();
    let ask = |resize: &str, args: &[&str]| {
        let checkpoint = with_preprocessing("multi-clip:2x4", resize);
        let checkpoint = checkpoint.path().display().to_string();
        let portrait = portrait();
        let all = ["--checkpoint", &checkpoint, "--format", "json", &portrait];
        let output = infer(&[&all[..], args].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        answer(&output.stdout)
    };
    let confidence = |json: &serde_json::Value| json["confidence"].as_f64().expect("a number");
    let plain = ask("three-crop", &[]);
    // Each frame of each clip once, in the answer and for the detector.
    assert_eq!(plain["frames"].as_array().map(Vec::len), Some(32));
    assert_eq!(plain["seen"]["of"], 32);
    assert_eq!(plain["source"]["crop"], serde_json::Value::Null);
    let windows = ask("three-crop", &["--window", "10", "--batch", "4"]);
    let window = &windows["windows"][0];
    assert_eq!(window["frames"].as_array().map(Vec::len), Some(32));
    assert!((confidence(window) - confidence(&plain)).abs() < 1e-4);
    let traced = ask("three-crop", &["--trace", &trace]);
    assert!((confidence(&traced) - confidence(&plain)).abs() < 1e-4);
    let clip = Fixture::open(Path::new(&trace)).get("clip").clone();
    assert_eq!(clip.dims(), [16, 64, 64, 3]);
    let crop = ["--crop", "face"];
    assert_eq!(ask("three-crop", &crop), ask("squash", &crop));
    assert_ne!(confidence(&plain), confidence(&ask("squash", &[])));
}

#[test]
fn a_trace_holds_the_clip_and_every_intermediate() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.safetensors");
    let output = infer(&[
        &portrait(),
        "--trace",
        &path.display().to_string(),
        "--quiet",
    ]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let trace = Fixture::open(&path);
    for name in [
        "clip",
        "tubes",
        "patch_embed",
        "embeddings",
        "encoder.blocks.0",
        "F",
        "X1",
        "Y1",
        "Y2",
        "Y3",
    ] {
        trace.get(name);
    }
    assert_eq!(trace.get("clip").dims(), [16, 64, 64, 3]);
    assert_eq!(trace.get("head.expression").dims(), [1, 8]);
    assert_eq!(trace.config()["format"], "mtcae-dfer");
}

/// One clear line naming the file, exit code 1, and no results of it.
#[test]
fn bad_files_are_named_and_do_not_stop_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let whole = std::fs::read(fixtures().join("demo/portrait.mp4")).expect("read");
    std::fs::write(at("empty.mp4"), b"").expect("written");
    std::fs::write(at("text.mp4"), b"this is no video").expect("written");
    std::fs::write(at("truncated.mp4"), &whole[..200]).expect("written");
    std::fs::write(
        at("list.m3u8"),
        b"#EXTM3U\n#EXTINF:1,\nhttp://example.org/a.ts\n",
    )
    .expect("written");
    std::fs::write(
        at("list.mp4"),
        format!("ffconcat version 1.0\nfile '{}'\n", portrait()),
    )
    .expect("written");
    std::fs::create_dir(at("folder")).expect("made");
    let video = |name: &str| fixtures().join("video").join(name).display().to_string();
    let bad = [
        at("empty.mp4"),
        at("text.mp4"),
        at("truncated.mp4"),
        at("list.m3u8"),
        at("list.mp4"),
        at("folder"),
        at("missing.mp4"),
        at("no*match.mp4"),
        "http://example.org/a.mp4".to_owned(),
        "concat:a.mp4|b.mp4".to_owned(),
        video("audio.m4a"),
        video("zero.mp4"),
        video("cenc.mp4"),
    ];
    for bad in &bad {
        let out = at("out");
        let output = infer(&[bad, &portrait(), "--out", &out]);
        let err = text(&output.stderr);
        let errors: Vec<&str> = err.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(code(&output), 1, "{bad}: {err}");
        assert!(
            errors.len() == 1 && errors[0].contains(bad.as_str()),
            "{bad}: {err}"
        );
        assert!(!err.contains("panicked"), "{bad}: {err}");
        let mut left: Vec<_> = std::fs::read_dir(&out)
            .expect("listed")
            .map(|f| f.expect("an entry").file_name())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "infer-settings.json",
                "overview.csv",
                "portrait.csv",
                "portrait.json"
            ],
            "{bad}: the good video's results and nothing else"
        );
        std::fs::remove_dir_all(&out).expect("removed");
    }
}

#[test]
fn damaged_videos_give_what_decodes_and_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.mp4");
    let mut bytes = std::fs::read(fixtures().join("demo/portrait.mp4")).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4000]
        .iter_mut()
        .for_each(|b| *b = b.wrapping_mul(7).wrapping_add(13));
    std::fs::write(&path, bytes).expect("written");
    let output = infer(&[&path.display().to_string()]);
    let err = text(&output.stderr);
    assert_eq!(code(&output), 0, "{err}");
    assert!(
        err.lines()
            .any(|l| l.starts_with("warning: ") && l.contains("damaged.mp4") && l.contains(" s")),
        "{err}"
    );
}

#[test]
fn bad_checkpoints_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = folder.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).expect("made");
    let demo = fixtures().join("demo/checkpoint");
    let config = std::fs::read_to_string(demo.join("config.json")).expect("read");
    let weights = std::fs::read(demo.join("model.safetensors")).expect("read");
    let run = |config: &str, weights: &[u8]| {
        std::fs::write(checkpoint.join("config.json"), config).expect("written");
        std::fs::write(checkpoint.join("model.safetensors"), weights).expect("written");
        let output = infer(&["--checkpoint", &checkpoint.display().to_string()]);
        assert_eq!(code(&output), 1);
        let err = text(&output.stderr);
        assert_eq!(err.lines().count(), 1, "{err}");
        err
    };
    let err = run(&config.replace("\"depth\": 4", "\"dpeth\": 4"), &weights);
    assert!(
        err.contains("config.json") && err.contains("dpeth"),
        "{err}"
    );
    let err = run(&config, &weights[..weights.len() / 2]);
    assert!(err.contains("model.safetensors"), "{err}");
    let err = run(&config.replace("\"depth\": 4", "\"depth\": 5"), &weights);
    assert!(err.contains("encoder.blocks.4.norm1.weight"), "{err}");

    let output = infer(&["--checkpoint", "/no/such/folder"]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("/no/such/folder"));
    let output = infer(&["--checkpoint", "hub:nobody"]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("hub:nobody"));
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let cases: [&[&str]; 15] = [
        &["--nonsense"],
        &["--window", "-1"],
        &["--window", "nan"],
        &["--threads", "0"],
        &["--format", "xml"],
        &["--annotate", "png"],
        &["--trace", "t.safetensors", "--window", "1"],
        &["--faces", "none", "--crop", "face"],
        &["--faces", "none", "--people", "all"],
        &["--faces", "none", "--min-face", "40"],
        &["--min-face", "5"],
        &["--min-seen", "3"],
        &["--resume"],
        &["--out", "o", "--resume", "--force"],
        &["--faces", "mtcnn", "--trace", "t.safetensors"],
    ];
    for args in cases {
        assert_eq!(code(&infer(args)), 2, "{args:?}");
    }
    let output = infer(&["--device", "tpu"]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("tpu"));
    let output = infer(&["--device", "cuda:0"]);
    assert!(
        code(&output) == 1 && text(&output.stderr).contains("cuda:0"),
        "no fallback to the CPU"
    );
}

#[test]
fn a_model_that_gives_no_numbers_gives_no_answer() {
    let checkpoint = with_sampling("uniform");
    let device = mtcae_dfer::Device::Cpu;
    let path = checkpoint.path().join("model.safetensors");
    let mut tensors = mtcae_dfer::model::candle_core::safetensors::load(&path, &device);
    let tensors = tensors.as_mut().expect("read");
    let name = "decoder.heads.expression.fc.bias";
    let bias = (&tensors[name] * f64::NAN).expect("scaled");
    tensors.insert(name.to_owned(), bias);
    mtcae_dfer::model::candle_core::safetensors::save(tensors, &path).expect("written");
    let checkpoint = checkpoint.path().display().to_string();
    for more in [&[][..], &["--window", "1"], &["--crop", "face"]] {
        let portrait = portrait();
        let output = infer(&[&[portrait.as_str(), "--checkpoint", &checkpoint], more].concat());
        let err = text(&output.stderr);
        assert_eq!(code(&output), 1, "{err}");
        assert!(
            err.contains("portrait.mp4") && err.contains("expression"),
            "{err}"
        );
        assert_eq!(text(&output.stdout), "");
    }
}

/// Runs `init` into `out` and gives its config and what it said.
fn init(args: &[&str], out: &Path) -> (mtcae_dfer::model::Config, String) {
    let out_arg = out.display().to_string();
    let output = program("init")
        .args([args, &["--out", &out_arg]].concat())
        .output()
        .expect("started");
    let err = text(&output.stderr);
    assert_eq!(code(&output), 0, "{err}");
    let config = mtcae_dfer::model::Checkpoint::open(out).expect("a config");
    let config = config.config();
    (config.clone(), err)
}

#[test]
fn init_takes_over_preprocessing_or_says_what_it_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("own");
    init(&["--size", "tiny"], &own);
    let path = own.join("config.json");
    let config = std::fs::read_to_string(&path).expect("read");
    let config = config.replace("\"uniform\"", "\"dense:2\"");
    let config = config.replace("\"squash\"", "\"shortest-edge\"");
    let config = config.replace("0.485", "0.5");
    std::fs::write(&path, config).expect("written");
    let own_arg = own.display().to_string();
    let (config, said) = init(&["--encoder", &own_arg], &folder.path().join("next"));
    let given = config.preprocessing;
    assert_eq!(
        (given.sampling, given.resize, given.mean),
        (
            "dense:2".parse().expect("a sampling"),
            Resize::ShortestEdgeCrop,
            [0.5, 0.456, 0.406]
        )
    );
    assert!(!said.contains("ImageNet"), "{said}");

    let published = fixtures().join("checkpoints/hf-old").display().to_string();
    let (config, said) = init(&["--encoder", &published], &folder.path().join("hf"));
    assert_eq!(config.preprocessing.resize, Resize::Squash);
    assert!(
        said.contains("shortest edge of 32 with centre crop of 32x32 is not used"),
        "{said}"
    );
}

#[test]
fn init_refuses_a_config_that_cannot_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("new.json");
    let demo = fixtures().join("demo/checkpoint/config.json");
    let demo = std::fs::read_to_string(demo).expect("read");
    std::fs::write(&file, demo.replace("\"uniform\"", "\"unifrom\"")).expect("written");
    let (file, out) = (
        file.display().to_string(),
        folder.path().join("out").display().to_string(),
    );
    let cases: [(&[&str], &str); 2] = [
        (&["--config", &file], "preprocessing.sampling"),
        (&["--size", "tiny", "--classes", "happy,happy"], "classes"),
    ];
    for (args, field) in cases {
        let output = program("init")
            .args([args, &["--out", &out]].concat())
            .output()
            .expect("started");
        let err = text(&output.stderr);
        assert!(code(&output) == 1 && err.contains(field), "{err}");
        assert!(!Path::new(&out).exists());
    }
}

#[test]
fn init_takes_over_a_pretrained_encoder() {
    use mtcae_dfer::model::candle_core;

    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("new").display().to_string();
    let encoder = fixtures()
        .join("checkpoints/videomae-pretrain.pth")
        .display()
        .to_string();
    let output = program("init")
        .args(["--encoder", &encoder, "--out", &out])
        .output()
        .expect("started");
    // A bare .pth says nothing of heads and sizes, and 16 is no published width.
    assert_eq!(code(&output), 1);
    assert!(
        text(&output.stderr).contains("heads"),
        "{}",
        text(&output.stderr)
    );
    let encoder = fixtures().join("checkpoints/hf-old").display().to_string();
    let output = program("init")
        .args(["--encoder", &encoder, "--out", &out])
        .output()
        .expect("started");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let config = mtcae_dfer::model::Checkpoint::open(&out).expect("a config");
    let config = config.config();
    assert_eq!(config.encoder.output().width, 16);
    // What is drawn otherwise is the decoder alone.
    let other = folder.path().join("xavier").display().to_string();
    let output = program("init")
        .args(["--encoder", &encoder, "--out", &other])
        .args(["--weights", "xavier"])
        .output()
        .expect("started");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let [normal, xavier] = [&out, &other].map(|folder| {
        let file = Path::new(folder).join("model.safetensors");
        candle_core::safetensors::load(file, &candle_core::Device::Cpu).expect("read")
    });
    let deviation = |tensor: &candle_core::Tensor| -> f32 {
        let squares = tensor.sqr().and_then(|t| t.mean_all());
        squares
            .and_then(|t| t.to_scalar::<f32>())
            .expect("a number")
            .sqrt()
    };
    for (name, tensor) in &normal {
        let [a, b] = [deviation(tensor), deviation(&xavier[name])];
        if name.starts_with("encoder.") {
            assert_eq!(a.to_bits(), b.to_bits(), "{name}");
        } else if tensor.rank() == 2 {
            // √(2/(inputs + outputs)) for 0.02.
            assert!(b > 3.0 * a, "{name}: {a}, {b}");
        }
    }
}

#[test]
fn a_family_that_the_program_does_not_know_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    init(&["--size", "tiny"], &model);
    let path = model.join("config.json");
    let config = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, config.replace("\"videomae\"", "\"vit\"")).expect("written");
    let (model, out) = (model.display().to_string(), out.display().to_string());
    let runs = [
        infer(&[&portrait(), "--checkpoint", &model, "--out", &out]),
        program("init")
            .args(["--encoder", &model, "--out", &out])
            .output()
            .expect("started"),
    ];
    for output in runs {
        let err = text(&output.stderr);
        assert_eq!(code(&output), 1, "{err}");
        assert!(
            err.contains("config.json: encoder.family: unknown family \"vit\""),
            "{err}"
        );
        assert_eq!(err.trim_end().lines().count(), 1, "{err}");
        assert!(!Path::new(&out).exists());
    }
}
