//! `label` as a person runs it, and the faces that `infer` finds with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mtcae_testing::fixtures;

fn run(program: &str, args: &[&str]) -> Output {
    let test = std::env::current_exe().expect("this test's path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("a build folder");
    let program = profile.join("examples").join(program);
    Command::new(program).args(args).output().expect("started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn portrait() -> String {
    fixtures().join("demo/portrait.mp4").display().to_string()
}

/// Three clips: a face, a file that is no video, a face again.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let clips = folder.path().join("clips");
    std::fs::create_dir(&clips).expect("made");
    for name in ["a.mp4", "c.mp4"] {
        std::fs::copy(portrait(), clips.join(name)).expect("copied");
    }
    std::fs::write(clips.join("b.mp4"), b"no video").expect("written");
    (folder, clips)
}

#[test]
fn a_folder_is_labelled_previewed_and_tabled_and_faults_are_listed() {
    let (folder, clips) = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (out, csv, preview) = (at("l.jsonl"), at("l.csv"), at("preview"));
    let clips = clips.display().to_string();
    let args = [
        clips.as_str(),
        "--out",
        &out,
        "--csv",
        &csv,
        "--preview",
        &preview,
    ];
    let output = run("label", &args);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "one clip is no video: {err}");
    assert!(err.contains("b.mp4") && !err.contains("panicked"), "{err}");
    let lines = std::fs::read_to_string(&out).expect("labels");
    assert_eq!(lines.lines().count(), 3);
    let first: serde_json::Value =
        serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["frames"].as_array().map(Vec::len), Some(16));
    assert_eq!(first["tracks"].as_array().map(Vec::len), Some(1));
    // A heading, sixteen rows a video, and one row for the fault.
    assert_eq!(
        std::fs::read_to_string(&csv)
            .expect("a table")
            .lines()
            .count(),
        34
    );
    assert_eq!(std::fs::read_dir(&preview).expect("previews").count(), 2);

    let again = run("label", &args);
    assert_eq!(
        again.status.code(),
        Some(1),
        "an existing file is not overwritten"
    );
    assert!(
        text(&again.stderr).contains("l.jsonl"),
        "{}",
        text(&again.stderr)
    );
}

#[test]
fn resuming_a_torn_file_gives_the_same_bytes() {
    let (folder, clips) = folder();
    let clips = clips.display().to_string();
    let out = folder.path().join("l.jsonl");
    let out_arg = out.display().to_string();
    run("label", &[&clips, "--out", &out_arg, "--quiet"]);
    let whole = std::fs::read(&out).expect("labels");
    for cut in [whole.len() - 5, whole.len() / 2, 0] {
        std::fs::write(&out, &whole[..cut]).expect("cut");
        run(
            "label",
            &[
                &clips, "--out", &out_arg, "--resume", "--jobs", "1", "--quiet",
            ],
        );
        assert!(
            std::fs::read(&out).expect("labels") == whole,
            "cut at {cut}"
        );
    }
}

#[test]
fn infer_crops_to_the_face_and_answers_for_everybody() {
    let video = portrait();
    let parse = |args: &[&str]| -> serde_json::Value {
        let output = run("infer", args);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let whole = parse(&[&video, "--format", "json"]);
    let frames = whole["frames"].as_array().expect("frames");
    assert!(
        frames
            .iter()
            .all(|f| f["detected"]["score"].as_f64().is_some_and(|s| s > 0.9))
    );
    let crop = parse(&[&video, "--format", "json", "--crop", "face"]);
    let rect = &crop["source"]["crop"];
    // A square but for the rounding of its corners.
    let side = |name: &str| rect[name].as_f64().expect("a number");
    assert!(
        (side("width") - side("height")).abs() < 1e-9 && side("width") < 360.0,
        "{rect}"
    );
    let people = parse(&[&video, "--format", "json", "--people", "all"]);
    assert_eq!(people[0]["person"], 1);
    assert_eq!(people.as_array().map(Vec::len), Some(1));

    // A picture without anybody.
    let chart = fixtures().join("video/few.mp4").display().to_string();
    let output = run("infer", &[&chart, "--crop", "face"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("no face"),
        "{}",
        text(&output.stderr)
    );
}
