//! `train`, `evaluate` and `ablation` as a person runs them: killed, resumed, and
//! on a full disk.

mod training;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use training::{
    BUSY, MTCAE, Material, arguments, bytes, done, killed_at, log, material, run, text,
};

#[test]
fn killed_at_any_moment_and_resumed_it_ends_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (whole, pieces) = (at("whole"), at("pieces"));
    done("train", &arguments(&whole, BUSY));
    let want = log(&whole);
    assert!(want.len() == 18, "{}", want.len());

    let again = [&arguments(&pieces, BUSY)[..], &["--resume"]].concat();
    let path = Path::new(&pieces).join("metrics.jsonl");
    let mut killed = 0;
    // Where exactly in a step, a save or a validation the signal comes is chance.
    for lines in [1, 2, 4, 5, 7, 9, 12, 14, 16] {
        killed += u32::from(killed_at(&again, &path, lines));
    }
    assert!(killed >= 4, "{killed} runs were killed");
    done("train", &again);
    assert_eq!(log(&pieces), want);
    for file in [
        "model/model.safetensors",
        "model/config.json",
        "predictions.csv",
    ] {
        assert!(bytes(&pieces, file) == bytes(&whole, file), "{file}");
    }
    let model = Path::new(&pieces).join("model");
    let model = model.display().to_string();
    let Material { labels, .. } = material();
    let said = done(
        "evaluate",
        &[
            "--labels",
            labels,
            "--checkpoint",
            &model,
            "--bootstrap",
            "0",
            "--allow-seen",
            "--quiet",
        ],
    );
    assert!(said.starts_with("18 clips: UAR "), "{said}");
}

#[test]
fn a_cross_validation_killed_and_resumed_reports_the_same_as_its_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (whole, pieces, cache) = (at("whole"), at("pieces"), at("cache"));
    let begin = |out| {
        let more = ["--cache", &cache, "--save-every", "1"];
        let args: Vec<String> = arguments(out, &more)
            .into_iter()
            .map(str::to_owned)
            .collect();
        [args, vec!["--cross-validate".to_owned()]].concat()
    };
    let (first, second) = (begin(&whole), begin(&pieces));
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    let printed = done("train", &first);
    assert!(printed.contains("mean ± std of 3 folds: UAR "), "{printed}");
    let resume = [&second[..], &["--resume"]].concat();
    for (fold, lines) in [(0, 2), (1, 1), (1, 4), (2, 3)] {
        let log = format!("{pieces}/fold-{fold}/metrics.jsonl");
        killed_at(&resume, Path::new(&log), lines);
    }
    done("train", &resume);
    for file in [
        "metrics.jsonl",
        "predictions.csv",
        "report.md",
        "fold-2/model/model.safetensors",
    ] {
        assert!(bytes(&pieces, file) == bytes(&whole, file), "{file}");
    }
    for picture in ["confusion.png", "fold-0/curves.png"] {
        assert!(!bytes(&pieces, picture).is_empty());
    }

    let (table, out) = (format!("{whole}/predictions.csv"), at("evaluated"));
    let said = done("evaluate", &["--predictions", &table, "--out", &out]);
    let mut summary: Value = serde_json::from_slice(&bytes(&out, "summary.json")).expect("JSON");
    summary.as_object_mut().expect("an object").remove("about");
    let lines = String::from_utf8(bytes(&whole, "metrics.jsonl")).expect("text");
    let pooled = lines
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    let mut pooled = pooled.filter(|l| l["kind"] == "pooled");
    let mut pooled = pooled.next().expect("a line");
    pooled.as_object_mut().expect("an object").remove("kind");
    assert_eq!(pooled, summary);
    assert!(
        printed.starts_with(said.lines().next().expect("a line")),
        "{printed}\n{said}"
    );
    assert!(bytes(&out, "predictions.csv") == bytes(&whole, "predictions.csv"));
    // Folds and their spread, as the report has them.
    let spread = printed
        .lines()
        .find(|l| l.starts_with("mean ± std of 3 folds"));
    assert!(said.contains(spread.expect("a line")), "{printed}\n{said}");
    assert!(said.contains("  fold 2: 6 clips, UAR "), "{said}");
    let output = run("evaluate", &["--predictions", &table, "--device", "cpu"]);
    assert_eq!(output.status.code(), Some(2), "no model is run");

    // A subject's own fold, and no other, is measured with --fold.
    let said = done(
        "evaluate",
        &["--predictions", &table, "--fold", "1", "--bootstrap", "0"],
    );
    assert!(said.starts_with("6 clips: "), "{said}");
}

#[test]
fn an_ablation_prints_its_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("ablation").display().to_string();
    let more = [
        "--structures",
        "single-task,shared-mlp",
        "--seeds",
        "1",
        "--epochs",
        "1",
    ];
    let args = arguments(&out, &more);
    let table = done("ablation", &args);
    assert!(
        table.contains("| single-task | ") && table.contains("| shared-mlp | "),
        "{table}"
    );
    assert_eq!(table.trim_end(), text(&bytes(&out, "table.md")).trim_end());
    assert_eq!(
        done("ablation", &args),
        table,
        "gone on with: nothing to do"
    );
}

/// A disk with no room for the state: the last state stays whole and the run goes
/// on from it when there is room.
#[cfg(unix)]
#[test]
fn on_a_full_disk_the_last_state_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (whole, out) = (at("whole"), at("run"));
    done("train", &arguments(&whole, BUSY));
    let args = [&arguments(&out, BUSY)[..], &["--resume"]].concat();
    assert!(killed_at(&args, &Path::new(&out).join("metrics.jsonl"), 4));
    let state = bytes(&out, "state.safetensors");
    // A limit on the size of files stands for the end of the disk. Where the signal
    // is ignored, writes fail, as they do there.
    let kib = (state.len() / 2048).to_string();
    let script = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script, &kib])
        .args([MTCAE, "train"])
        .args(&args)
        .output()
        .expect("started");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("error: ")
            && said.lines().count() == 1
            && said.contains("state.safetensors"),
        "{said}"
    );
    assert!(bytes(&out, "state.safetensors") == state);
    let left = std::fs::read_dir(&out).expect("listed");
    let left = left.map(|f| {
        f.expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let left: Vec<String> = left.filter(|name| name.ends_with(".mtcae-part")).collect();
    // One may be left by the kill before, none by the full disk.
    assert!(left.len() <= 1, "{left:?}");
    done("train", &args);
    assert_eq!(log(&out), log(&whole));
    let model = "model/model.safetensors";
    assert!(bytes(&out, model) == bytes(&whole, model));
}
