//! What the tests of `infer` share.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mtcae_testing::fixtures;

/// Examples are built beside the tests: target/PROFILE/examples.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("a build folder");
    profile.join("examples").join(name)
}

pub fn infer(args: &[&str]) -> Output {
    // From elsewhere than the repository, as an installed program would run.
    Command::new(program("infer"))
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
