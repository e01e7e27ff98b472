//! `mtcae` itself: its subcommands, and an installed one far from the source tree.

mod common;

use std::process::Command;

use common::{code, program, text};

const MTCAE: &str = env!("CARGO_BIN_EXE_mtcae");

fn mtcae(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(MTCAE).args(args).output().expect("started");
    (code(&output), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_lists_the_subcommands_and_describes_each() {
    let (status, said, _) = mtcae(&["--help"]);
    assert_eq!(status, 0);
    let names = [
        "infer",
        "init",
        "label",
        "merge",
        "synth",
        "pretrain",
        "train",
        "evaluate",
        "calibrate",
        "ablation",
        "compare",
        "card",
        "export",
        "report",
    ];
    for name in names {
        assert!(said.contains(&format!("\n  {name} ")), "{said}");
        let usage = format!("Usage: mtcae {name} ");
        for args in [&[name, "--help"][..], &["help", name]] {
            let (status, said, _) = mtcae(args);
            assert!(status == 0 && said.contains(&usage), "{said}");
        }
        let (_, version, _) = mtcae(&[name, "--version"]);
        assert_eq!(
            version,
            format!("mtcae {name} {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
    assert_eq!(
        mtcae(&["--version"]).1,
        format!("mtcae {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_wrong_command_line_is_explained_with_exit_code_2() {
    for (args, words) in [
        (&[][..], "Usage: mtcae <COMMAND>"),
        (&["infr"], "unrecognized subcommand 'infr'"),
        (&["--quiet", "infer"], "unexpected argument '--quiet'"),
        (
            &["infer", "--min-seen", "3", "--crop", "none"],
            "Usage: mtcae infer ",
        ),
        (&["train"], "Usage: mtcae train "),
    ] {
        let (status, _, said) = mtcae(args);
        assert!(status == 2 && said.contains(words), "{args:?}: {said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.toml");
    std::fs::write(&file, "lr = 1\n").expect("written");
    let (status, _, said) = mtcae(&["synth", "--config", &file.display().to_string()]);
    assert!(
        status == 1 && said.contains("lr: no such argument of mtcae synth; mtcae synth --help"),
        "{said}"
    );
}

/// From the source tree's own folder the demo's names are short.
#[test]
fn the_demo_is_found_from_anywhere() {
    let root = mtcae_testing::fixtures().join("..").canonicalize();
    let root = root.expect("the source tree");
    let said = |folder: &std::path::Path| {
        let output = program("infer").current_dir(folder).output();
        let output = output.expect("started");
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let (near, far) = (said(&root), said(&std::env::temp_dir()));
    assert!(
        near.starts_with("fixtures/demo/portrait.mp4  480x360\n"),
        "{near}"
    );
    assert!(
        far.starts_with(&root.join("fixtures/demo").display().to_string()),
        "{far}"
    );
}
