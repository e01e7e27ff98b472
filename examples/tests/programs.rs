//! Each program is an example by itself, with usage text of its own.

use std::path::Path;
use std::process::Command;

#[test]
fn every_example_runs_its_program() {
    // Examples are built beside the tests: target/PROFILE/examples.
    let test = std::env::current_exe().expect("this test's path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("a build folder");
    for program in mtcae_cli::Program::ALL {
        let name = format!("{program:?}").to_lowercase();
        let path = profile.join("examples").join(&name);
        let output = Command::new(path).arg("--help").output().expect("started");
        let said = String::from_utf8_lossy(&output.stdout);
        let usage = format!("\nUsage: {name} ");
        assert!(output.status.success() && said.contains(&usage), "{said}");
    }
}
