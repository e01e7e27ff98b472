//! Formats of other programs, as `infer`, `convert` and `label` write them. What is in them is
//! held against the readers of other programs by `scripts/test-formats.sh`.

mod common;

use std::path::Path;
use std::process::Output;

use common::{code, infer, portrait, program, text};
use mtcae_testing::fixtures;

const ALL: &str = "json,csv,eaf,textgrid,boris,bids,parquet,arrow,srt,vtt,coco";

/// What all of them end in.
const ENDINGS: [&str; 12] = [
    ".TextGrid",
    ".arrow",
    ".boris.csv",
    ".coco.json",
    ".csv",
    ".eaf",
    ".json",
    ".parquet",
    ".srt",
    ".vtt",
    "_events.json",
    "_events.tsv",
];

fn convert(args: &[&str]) -> Output {
    program("convert").args(args).output().expect("started")
}

fn said(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn every_format_is_written_resumed_and_made_again_of_the_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (out, again, video) = (at("out"), at("again"), portrait());
    let args = [
        &*video, "--window", "1", "--format", ALL, "--out", &out, "-q",
    ];
    let output = infer(&args);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .expect("written")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter(|name| name.starts_with("portrait"))
        .collect();
    names.sort();
    assert_eq!(names, ENDINGS.map(|ending| format!("portrait{ending}")));

    // What is there stays; what is missing is written with the rest.
    let written = |name: &str| {
        let path = Path::new(&out).join(name);
        path.metadata().and_then(|m| m.modified()).expect("there")
    };
    let before = written("portrait.parquet");
    let resumed = infer(&[&args[..], &["--resume"]].concat());
    assert_eq!(code(&resumed), 0, "{}", said(&resumed));
    assert_eq!(written("portrait.parquet"), before);
    let refused = infer(&args);
    assert!(code(&refused) == 1 && said(&refused).contains("is there already"));

    let json = format!("{out}/portrait.json");
    let made = convert(&[&json, "--format", ALL, "--out", &again]);
    assert_eq!(code(&made), 0, "{}", said(&made));
    for name in names.iter().filter(|name| !name.ends_with(".eaf")) {
        let read = |folder: &str| std::fs::read(Path::new(folder).join(name)).expect("read");
        assert_eq!(read(&out), read(&again), "{name}");
    }
    let refused = convert(&[&json, "--format", "bids", "--out", &again]);
    let why = said(&refused);
    assert!(
        code(&refused) == 1 && why.contains("_events.tsv is there already; --force"),
        "{why}"
    );
    assert_eq!(
        code(&convert(&[
            &json, "--format", "bids", "--out", &again, "--force"
        ])),
        0
    );
    let refused = convert(&[&json, "--format", "json", "--out", &out, "--force"]);
    assert!(code(&refused) == 1 && said(&refused).contains("portrait.json is an input"));
}

#[test]
fn documents_that_name_their_video_are_resumed_by_themselves_and_others_are_nobodys() {
    let folder = tempfile::tempdir().expect("a folder");
    for (format, goes_on) in [("eaf", true), ("arrow", true), ("srt", false)] {
        let out = folder.path().join(format).display().to_string();
        let video = portrait();
        let args = [&*video, "--format", format, "--out", &out, "-q"];
        assert_eq!(code(&infer(&args)), 0);
        let again = infer(&[&args[..], &["--resume"]].concat());
        assert_eq!(code(&again) == 0, goes_on, "{format}: {}", said(&again));
    }
}

#[test]
fn columns_of_openface_are_files_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().display().to_string();
    let output = infer(&[&portrait(), "--out", &out, "--columns", "openface", "-q"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let table = std::fs::read_to_string(folder.path().join("portrait.openface.csv"));
    let table = table.expect("written");
    assert!(
        table.starts_with("frame,face_id,timestamp,confidence,success,x_0,"),
        "{table}"
    );
    assert!(folder.path().join("portrait.json").exists());
    let output = infer(&[&portrait(), "--format", "eaf", "--columns", "openface"]);
    assert!(code(&output) == 2 && said(&output).contains("--columns has no effect"));
}

#[test]
fn stdout_holds_one_document_of_text() {
    let video = portrait();
    let output = infer(&[&video, "--format", "srt"]);
    assert!(code(&output) == 0 && text(&output.stdout).starts_with("1\n00:00:00,000 --> "));
    for (args, why) in [
        (
            &[&*video, "--format", "parquet"][..],
            "--format parquet: is no text",
        ),
        (
            &[&video, "--format", "json,bids"],
            "--format bids: is two files",
        ),
        (
            &[&video, &video, "--format", "vtt"],
            "--format vtt: is one document a file",
        ),
        (
            &[&video, "--format", "csv,coco"],
            "--format coco: is one document a file",
        ),
    ] {
        let output = infer(args);
        let said = said(&output);
        assert!(code(&output) == 1 && output.stdout.is_empty(), "{said}");
        assert!(
            said.contains(why) && said.trim_end().ends_with("give --out DIR"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn what_is_no_results_is_told_apart_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let labels = fixtures()
        .join("e3dce91/labels.jsonl")
        .display()
        .to_string();
    let torn = write(
        "torn.json",
        "{\"format\":\"mtcae-results\",\"version\":1,\"predictions\":[{",
    );
    let newer = write("newer.json", "{\"format\":\"mtcae-results\",\"version\":9}");
    let other = write("other.json", "{\"format\":\"something\"}");
    let here = folder.path().display().to_string();
    for (input, why) in [
        (
            &labels,
            "is a label file, and convert takes results of infer",
        ),
        (&torn, "torn.json: not JSON: EOF while parsing"),
        (&newer, "a newer program wrote it"),
        (&other, "not \"mtcae-results\""),
        (&here, "is a folder; give the files in it"),
    ] {
        let output = convert(&[input, "--format", "srt"]);
        let said = said(&output);
        assert!(code(&output) == 1 && said.contains(why), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let output = convert(&[&torn, "--format", "xml"]);
    let said = said(&output);
    assert!(
        code(&output) == 2 && said.contains("formats are json, csv, eaf"),
        "{said}"
    );
}

#[test]
fn labels_are_tables_and_coco_beside_their_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (out, video) = (at("l.jsonl"), portrait());
    let label = |more: &[&str]| {
        let args = [&*video, "--out", &out, "-q"];
        program("label")
            .args(args)
            .args(more)
            .output()
            .expect("started")
    };
    let output = label(&["--format", "eaf"]);
    let why = said(&output);
    assert!(
        code(&output) == 2 && why.contains("labels are written as parquet, arrow or coco"),
        "{why}"
    );
    let output = label(&["--format", "parquet,arrow,coco"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let coco = std::fs::read(at("l.coco.json")).expect("written");
    let coco: serde_json::Value = serde_json::from_slice(&coco).expect("JSON");
    assert_eq!(coco["annotations"].as_array().map(Vec::len), Some(16));
    assert!(Path::new(&at("l.parquet")).exists() && Path::new(&at("l.arrow")).exists());
    std::fs::remove_file(&out).expect("removed");
    let output = label(&["--format", "coco"]);
    let why = said(&output);
    assert!(
        code(&output) == 1 && why.contains("--format: ") && why.contains("exists already"),
        "{why}"
    );
}
