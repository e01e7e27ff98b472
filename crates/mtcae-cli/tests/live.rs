//! `infer -`: a stream from standard input.

mod common;

use std::io::Write;
use std::process::{Output, Stdio};

use common::{code, program, text};
use mtcae_dfer::video::Video;
use mtcae_dfer::{Answer, Results};
use mtcae_testing::fixtures;

/// `infer -` with these bytes on its standard input.
fn infer(bytes: &[u8], args: &[&str]) -> Output {
    let mut command = program("infer");
    command
        .args(["-", "--checkpoint"])
        .arg(fixtures().join("default"));
    command.args(args).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // A program that refuses it does not read it all.
    drop(child.stdin.take().expect("a pipe").write_all(bytes));
    child.wait_with_output().expect("ended")
}

/// The portrait's pictures, and what `--raw` says of them.
fn portrait() -> (Vec<u8>, String) {
    let video = Video::open(fixtures().join("demo/portrait.mp4")).expect("opened");
    let info = video.info().clone();
    let mut bytes = Vec::new();
    for frame in video.frames().expect("frames") {
        bytes.extend(frame.expect("a frame").pixels.iter().copied());
    }
    let (width, height) = (info.geometry.width, info.geometry.height);
    (bytes, format!("{width}x{height}:rgb24@{}", info.fps))
}

#[test]
fn a_stream_is_answered_window_by_window() {
    let (bytes, raw) = portrait();
    let wait = ["--raw", &raw, "--late", "wait"];
    let output = infer(&bytes, &wait);
    let (said, notes) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(code(&output), 0, "{notes}");
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.lines().all(|line| line.contains("happy (")), "{said}");
    assert!(notes.contains("3 windows, "), "{notes}");

    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().display().to_string();
    let more = ["--people", "all", "--window", "1", "--quiet", "--out", &out];
    let output = infer(&bytes, &[&wait[..], &more].concat());
    assert_eq!((code(&output), text(&output.stdout)), (0, String::new()));
    let path = folder.path().join("stream.jsonl");
    let results = Results::read(&path).expect("read");
    let provenance = results.provenance.expect("it says where it comes from");
    assert_eq!(provenance.source, None);
    let Answer::Windows(timelines) = results.answer else {
        panic!("no windows");
    };
    assert_eq!((timelines.len(), timelines[0].windows.len()), (1, 5));
    assert_eq!(timelines[0].windows[0].person, Some(1));

    // Other programs go on from there.
    let lines = path.display().to_string();
    let mut convert = program("convert");
    convert.args([&lines, "--format", "vtt", "--out", &out]);
    assert_eq!(code(&convert.output().expect("started")), 0);
    let captions = std::fs::read_to_string(folder.path().join("stream.vtt")).expect("written");
    assert!(captions.contains("happy"), "{captions}");

    let output = infer(&bytes, &[&wait[..], &more].concat());
    let refusal = text(&output.stderr);
    assert!(
        code(&output) == 1 && refusal.contains("--force"),
        "{refusal}"
    );

    let output = infer(&bytes, &[&wait[..], &["--format", "json", "-q"]].concat());
    let said = text(&output.stdout);
    assert_eq!(said.lines().count(), 4, "{said}");
    let first: serde_json::Value =
        serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["format"], "mtcae-lines");
    assert_eq!(
        first["provenance"]["settings"]["checkpoint"]
            .as_str()
            .map(|c| c.ends_with("default")),
        Some(true)
    );
}

#[test]
fn what_cannot_be_followed_is_said_in_one_line() {
    for (bytes, words) in [
        (&b""[..], "standard input: "),
        (b"no video", "standard input: "),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "standard input: "),
    ] {
        let output = infer(bytes, &[]);
        let refusal = text(&output.stderr);
        assert_eq!(
            (code(&output), refusal.lines().count()),
            (1, 1),
            "{refusal}"
        );
        assert!(refusal.contains(words), "{refusal}");
    }
    for (args, words) in [
        (&["a.mp4"][..], "the only input"),
        (&["--format", "csv"], "--format can only be json"),
        (&["--faces", "none"], "--faces none"),
        (&["--out", "x", "--resume"], "lines of JSON"),
        (&["--raw", "12"], "640x480:rgb24@25"),
        (&["--window", "0"], "above 0"),
    ] {
        let output = infer(b"", args);
        let refusal = text(&output.stderr);
        assert!(
            code(&output) == 2 && refusal.contains(words),
            "{words}: {refusal}"
        );
    }
    let mut file = program("infer");
    file.args(["a.mp4", "--late", "wait"]);
    let refusal = text(&file.output().expect("started").stderr);
    assert!(
        refusal.contains("--raw, --late and --serve are for -"),
        "{refusal}"
    );
}
