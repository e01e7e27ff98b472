//! `report`, and `infer --report`: pages of results.

mod common;

use std::path::Path;

use common::{code, program, text};

/// The exit code and what was said on stderr.
fn run(name: &str, folder: &Path, args: &[&str]) -> (i32, String) {
    let output = program(name).args(args).current_dir(folder).output();
    let output = output.expect("started");
    (code(&output), text(&output.stderr))
}

/// One clear line and exit code 1.
fn refused(name: &str, folder: &Path, args: &[&str]) -> String {
    let (status, said) = run(name, folder, args);
    assert_eq!(status, 1, "{name} {args:?}: {said}");
    assert!(
        said.starts_with("error: ") && said.lines().count() == 1,
        "{said}"
    );
    said
}

const RESULTS: &str = r#"{"format": "mtcae-results", "version": 1, "predictions": []}"#;

#[test]
fn a_page_is_written_over_results_and_over_nothing_else_unasked() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let at = |name: &str| folder.join(name);
    std::fs::write(at("a.json"), RESULTS).expect("written");
    let page = ["a.json", "--out", "page.html"];
    let (status, said) = run("report", folder, &page);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("1 of 1 videos are not there") && said.contains("wrote page.html"),
        "{said}"
    );
    let said = refused("report", folder, &page);
    assert!(
        said.contains("--out: page.html is there already; --force overwrites it"),
        "{said}"
    );
    let (status, said) = run(
        "report",
        folder,
        &["a.json", "--out", "page.html", "--force", "--quiet"],
    );
    assert_eq!((status, &said[..]), (0, ""));
    let said = refused("report", folder, &["a.json", "--out", "a.json", "--force"]);
    assert!(said.contains("--out: a.json is an input"), "{said}");
    assert_eq!(
        std::fs::read_to_string(at("a.json")).expect("read"),
        RESULTS
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::write(folder.join("torn.json"), &RESULTS[..40]).expect("written");
    std::fs::write(folder.join("a.json"), RESULTS).expect("written");
    for (args, words) in [
        (&["torn.json"][..], "torn.json: not JSON: EOF while parsing"),
        (&["."], "torn.json: not JSON: EOF while parsing"),
        (&["none.json"], "none.json: "),
        (&["a.json", "--labels", "none.jsonl"], "none.jsonl: "),
        (
            &["a.json", "--labels", "torn.json"],
            "torn.json, line 1: torn off",
        ),
        (
            &["a.json", "--out", "no/page.html"],
            "no: there is no such folder",
        ),
    ] {
        let mut args = args.to_vec();
        if !args.contains(&"--out") {
            args.extend(["--out", "page.html"]);
        }
        let said = refused("report", folder, &args);
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(!folder.join("page.html").exists());
    }
}

#[test]
fn infer_writes_a_page_over_all_results_of_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let demo = mtcae_testing::fixtures().join("demo");
    let infer = |clip: &str, more: &[&str]| {
        let clip = demo.join(clip).display().to_string();
        let mut args = vec![&clip[..], "--out", "out", "--report", "--quiet"];
        args.extend(more);
        run("infer", folder, &args)
    };
    assert_eq!(infer("rendered.mp4", &[]), (0, String::new()));
    let page = || std::fs::read_to_string(folder.join("out/report.html")).expect("a page");
    assert!(page().contains("rendered.mp4"));
    let (status, said) = infer("scanned.mp4", &[]);
    assert!(
        status == 1 && said.contains("--resume and --force write it anew"),
        "{said}"
    );
    assert_eq!(infer("scanned.mp4", &["--resume"]), (0, String::new()));
    assert!(page().contains("rendered.mp4") && page().contains("scanned.mp4"));
    std::fs::write(folder.join("out/report.html"), "<p>mine</p>").expect("written");
    let (status, said) = infer("scanned.mp4", &["--force"]);
    assert!(
        status == 1 && said.contains("is none of these pages"),
        "{said}"
    );
    assert_eq!(page(), "<p>mine</p>");
    let (status, said) = infer("scanned.mp4", &["--format", "csv", "--force"]);
    assert!(
        status == 2 && said.contains("--format must have json"),
        "{said}"
    );
}
