//! What the tests share.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::process::{Command, Output};

use mtcae_testing::fixtures;

/// `mtcae` with a subcommand.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtcae"));
    command.arg(name);
    command
}

/// `infer`, with the checkpoint of drawn faces, which sees whole frames, unless another is given.
pub fn infer(args: &[&str]) -> Output {
    let drawn = fixtures().join("demo/checkpoint").display().to_string();
    let given = args.contains(&"--checkpoint");
    let checkpoint: &[&str] = if given {
        &[]
    } else {
        &["--checkpoint", &drawn]
    };
    // From elsewhere than the repository, as an installed program would run.
    program("infer")
        .args(checkpoint)
        .args(args)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("started")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn portrait() -> String {
    fixtures().join("demo/portrait.mp4").display().to_string()
}

/// What results say of each person: predictions or timelines.
pub fn answers(results: &[u8]) -> Vec<serde_json::Value> {
    let json: serde_json::Value = serde_json::from_slice(results).expect("JSON and nothing else");
    assert_eq!(json["format"], "mtcae-results");
    let (clip, windows) = (&json["predictions"], &json["timelines"]);
    let answers = clip.as_array().or(windows.as_array());
    answers.expect("predictions or timelines").clone()
}

/// What results say of the only person.
pub fn answer(results: &[u8]) -> serde_json::Value {
    let mut answers = answers(results);
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}
