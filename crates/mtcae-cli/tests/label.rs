//! `label` as a person runs it, and the faces that `infer` finds with it.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use mtcae_testing::fixtures;

use common::{answer, program, text};

fn run(name: &str, args: &[&str]) -> Output {
    program(name).args(args).output().expect("started")
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
        text(&again.stderr).contains("l.jsonl: exists already; --resume goes on with it"),
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
fn resuming_with_other_folds_or_classes_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (class, subject) in [("happy", "1"), ("happy", "2"), ("sad", "1"), ("sad", "2")] {
        let place = folder.path().join("clips").join(class).join(subject);
        std::fs::create_dir_all(&place).expect("made");
        std::fs::write(place.join("a.mp4"), b"no video").expect("written");
    }
    let clips = folder.path().join("clips").display().to_string();
    let out = folder.path().join("l.jsonl");
    let label = |more: &[&str]| {
        let out = out.display().to_string();
        let args = [&clips, "--dataset", "folder", "--out", &out, "--quiet"];
        run("label", &[&args[..], more].concat())
    };
    label(&["--folds", "2", "--seed", "0"]);
    let whole = std::fs::read_to_string(&out).expect("labels");
    let two: String = whole.split_inclusive('\n').take(2).collect();
    std::fs::write(&out, &two).expect("cut");
    // Of two people in two folds, some seed deals the other way round.
    let refused = (1..9).find_map(|seed: u32| {
        std::fs::write(&out, &two).expect("cut");
        let again = label(&["--folds", "2", "--seed", &seed.to_string(), "--resume"]);
        let said = text(&again.stderr);
        said.contains("cannot resume").then_some((again, said))
    });
    let (again, said) = refused.expect("a seed of other folds");
    let first = two.lines().next().expect("a line");
    let (was, is) = match first.contains("\"fold\":0") {
        true => (0, 1),
        false => (1, 0),
    };
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(
        said.contains("l.jsonl: cannot resume: line 1 ")
            && said.contains(&format!("has fold {was}, and this run {is}")),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&out).expect("labels"), two);
    let renamed = two.replace("\"class\":\"happy\"", "\"class\":\"joy\"");
    std::fs::write(&out, &renamed).expect("written");
    let said = text(&label(&["--folds", "2", "--resume"]).stderr);
    assert!(
        said.contains("line 1 has class \"joy\", and this run \"happy\""),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&out).expect("labels"), renamed);
}

/// One line, and nothing written.
#[test]
fn a_dataset_without_one_good_name_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let clips = folder.path().join("clips");
    std::fs::create_dir_all(clips.join("x")).expect("made");
    let out = folder.path().join("l.jsonl").display().to_string();
    let clips = clips.display().to_string();
    let refused = |dataset: &str| {
        let output = run("label", &[&clips, "--dataset", dataset, "--out", &out]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            output.stdout.is_empty() && said.lines().count() == 1,
            "{said}"
        );
        assert!(
            said.starts_with(&format!("error: {clips}: contains no clip of {dataset}")),
            "{said}"
        );
        assert!(!Path::new(&out).exists(), "{dataset}");
        said
    };
    for dataset in ["ravdess", "crema-d", "mead", "folder"] {
        refused(dataset);
    }
    std::fs::copy(portrait(), Path::new(&clips).join("x/holiday.mp4")).expect("copied");
    std::fs::write(Path::new(&clips).join("x/notes.txt"), "").expect("written");
    for dataset in ["ravdess", "crema-d", "mead"] {
        let said = refused(dataset);
        assert!(
            said.contains("holiday.mp4") && said.contains(".txt"),
            "{said}"
        );
    }
    // No input at all.
    let output = run("label", &["/no/such/*.mp4", "--out", &out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_person_in_two_folds_is_refused_as_training_would() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (clips, out) = (at("clips.csv"), at("l.jsonl"));
    for name in ["a.mp4", "b.mp4", "c.mp4"] {
        std::fs::write(at(name), b"no video").expect("written");
    }
    let label = |rows: &str, more: &[&str]| {
        std::fs::write(&clips, format!("file,class,subject,fold\n{rows}")).expect("written");
        let args = [&clips, "--dataset", "manifest", "--out", &out, "--quiet"];
        let output = run("label", &[&args[..], more].concat());
        (output.status.code(), text(&output.stderr))
    };
    let torn = "a.mp4,happy,mia,0\nb.mp4,sad,mia,1\nc.mp4,sad,tom,1\n";
    let (code, said) = label(torn, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.lines().count() == 1
            && said.contains("clips.csv")
            && said.contains("mia is in folds 0 and 1")
            && said.contains("--folds K"),
        "{said}"
    );
    assert!(!Path::new(&out).exists(), "nothing was begun");
    let (_, said) = label("a.mp4,happy,mia,0\nb.mp4,sad,mia,\n", &[]);
    assert!(said.contains("1 clip has no fold"), "{said}");
    // Dealt anew, the table's folds do not matter; the clips are no videos.
    let (_, said) = label(torn, &["--folds", "2"]);
    assert!(
        !said.contains("folds") && Path::new(&out).exists(),
        "{said}"
    );
}

#[test]
fn a_table_of_labels_goes_over_nothing() {
    let (folder, clips) = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (video, out) = (clips.join("a.mp4").display().to_string(), at("l.jsonl"));
    let before = std::fs::read(&video).expect("a video");
    std::fs::write(at("table.csv"), "mine").expect("written");
    for (csv, words) in [
        (&video, "is an input of this run"),
        (&out, "is also --out"),
        (&at("table.csv"), "exists already; give another name"),
    ] {
        let output = run("label", &[&video, "--out", &out, "--csv", csv]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("error: --csv: ") && said.contains(words),
            "{said}"
        );
        assert!(!Path::new(&out).exists(), "nothing was begun");
    }
    assert!(std::fs::read(&video).expect("a video") == before);
}

/// A label file is UTF-8: what it cannot say is named, and the rest is labelled.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_named_and_the_others_labelled() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;
    let (folder, clips) = folder();
    std::fs::remove_file(clips.join("b.mp4")).expect("removed");
    std::fs::remove_file(clips.join("c.mp4")).expect("removed");
    let odd = clips.join(OsStr::from_bytes(b"d\xff.mp4"));
    std::fs::copy(portrait(), &odd).expect("copied");
    let label = |input: OsString, out: &str| {
        let out = folder.path().join(out);
        let mut command = program("label");
        command.arg(input).arg("--out").arg(&out).arg("--quiet");
        (command.output().expect("started"), out)
    };
    let (output, out) = label(clips.clone().into(), "l.jsonl");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.lines().count() == 1 && said.contains("not UTF-8"),
        "{said}"
    );
    assert_eq!(
        std::fs::read_to_string(out)
            .expect("labels")
            .lines()
            .count(),
        1
    );
    let (output, out) = label(odd.into(), "m.jsonl");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.lines().count() == 1 && said.contains("not UTF-8"),
        "{said}"
    );
    assert!(!out.exists());
}

/// The table that docs/training.md shows, with the command that it gives.
#[test]
fn a_table_of_ones_own_is_labelled_as_documented() {
    let docs = fixtures().join("../docs/training.md");
    let docs = std::fs::read_to_string(docs).expect("documented");
    let table = docs
        .split("```csv\n")
        .nth(1)
        .and_then(|t| t.split("```").next());
    let table = table.expect("a table");
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (clips, out) = (at("clips.csv"), at("labels.jsonl"));
    std::fs::write(&clips, table).expect("written");
    let files: Vec<&str> = table
        .lines()
        .skip(1)
        .filter_map(|l| l.split(',').next())
        .collect();
    for file in &files {
        let file = folder.path().join(file);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::copy(portrait(), file).expect("copied");
    }
    let args = [&clips, "--dataset", "manifest", "--out", &out];
    let output = run("label", &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = std::fs::read_to_string(&out).expect("labels");
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    assert_eq!(
        lines.iter().map(|l| l["file"].as_str()).collect::<Vec<_>>(),
        files.iter().map(|f| Some(*f)).collect::<Vec<_>>()
    );
    let second = &lines[1];
    assert_eq!(
        (
            &second["class"],
            &second["subject"],
            &second["sex"],
            &second["fold"]
        ),
        (&"happy".into(), &"mia".into(), &"female".into(), &1.into())
    );
    // One class less.
    let out = at("fewer.jsonl");
    let args = [
        &clips,
        "--dataset",
        "manifest",
        "--classes",
        "happy",
        "--out",
        &out,
    ];
    let said = text(&run("label", &args).stderr);
    assert!(
        said.contains("line 4: unknown class \"sad\"; known: happy"),
        "{said}"
    );
}

#[test]
fn no_flag_is_accepted_and_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("l.jsonl").display().to_string();
    let clips = folder.path().display().to_string();
    for (flags, words) in [
        (&["--folds", "5"][..], "--folds: needs a --dataset"),
        (
            &["--classes", "x,y"],
            "--classes: applies to --dataset manifest",
        ),
        (
            &["--dataset", "folder", "--classes", "x,y"],
            "--classes: applies to",
        ),
        (&["--dataset", "folder", "--seed", "3"], "--folds <K>"),
    ] {
        let output = run("label", &[&[&clips, "--out", &out], flags].concat());
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{flags:?}: {said}"
        );
        assert!(!Path::new(&out).exists(), "nothing was begun: {said}");
    }
}

#[test]
fn infer_crops_to_the_face_and_answers_for_everybody() {
    let video = portrait();
    let drawn = fixtures().join("demo/checkpoint").display().to_string();
    let asked = |args: &[&str]| run("infer", &[args, &["--checkpoint", &drawn]].concat());
    let parse = |args: &[&str]| -> serde_json::Value {
        let output = asked(args);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        answer(&output.stdout)
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
    assert_eq!(people["person"], 1);

    // A picture without anybody.
    let chart = fixtures().join("video/few.mp4").display().to_string();
    let output = asked(&[&chart, "--crop", "face"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("no face"),
        "{}",
        text(&output.stderr)
    );
}
