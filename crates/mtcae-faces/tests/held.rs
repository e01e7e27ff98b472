//! A detector is not made where the process cannot be held to the instruction set that it
//! is to be held to. The variable is read once a process: this program runs again with it.
#![cfg(feature = "embedded-weights")]

use std::process::Command;

use mtcae_faces::{Detector, DetectorConfig, Error};

#[test]
#[ignore = "the other test runs it, in a process of its own"]
fn tells() {
    match Detector::new(DetectorConfig::default()) {
        Err(Error::Isa(error)) => println!("said {error}"),
        other => println!("made {}", other.is_ok()),
    }
}

#[test]
fn a_detector_says_that_the_variable_cannot_be_obeyed() {
    for (value, words) in [
        ("avx3", "said MTCAE_ISA=\"avx3\": no such instruction set"),
        ("portable", "made true"),
    ] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "tells", "--ignored", "--nocapture"]);
        let output = command.env("MTCAE_ISA", value).output().expect("started");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(words), "{value}: {text}");
    }
}
