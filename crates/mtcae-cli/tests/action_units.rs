//! Action units from rendered clips through training to answers.

mod common;
mod training;

use std::path::Path;

use common::answer;
use serde_json::Value;
use training::{done, material, run, text, tiny};

/// A tiny model with a task for two units.
fn checkpoint(folder: &Path, names: &str) -> String {
    let mut config = tiny().with_action_units(names.split(',').map(str::to_owned).collect());
    config.preprocessing.sampling = "dense:1".parse().expect("a sampling");
    let file = folder.join("model.json");
    std::fs::write(&file, serde_json::to_string(&config).expect("JSON")).expect("written");
    let out = folder.join("model").display().to_string();
    done(
        "init",
        &["--config", &file.display().to_string(), "--out", &out],
    );
    out
}

#[test]
fn what_is_rendered_is_labelled_learned_measured_and_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let labels = &material().labels;
    // Rendered clips say what their faces do: a smile grows from rest to its apex.
    let text = std::fs::read_to_string(labels).expect("labels");
    let clip = text
        .lines()
        .find(|line| line.contains("01-01-03-03"))
        .expect("a strong smile");
    let clip: Value = serde_json::from_str(clip).expect("JSON");
    let units = &clip["action_units"];
    let names = units["names"].as_array().expect("names");
    let smile = names.iter().position(|name| name == "AU12").expect("AU12");
    let strengths = units["strengths"].as_array().expect("rows");
    let strength = |frame: usize| strengths[frame][smile].as_f64().expect("a number");
    assert_eq!(
        strengths.len(),
        clip["frames"].as_array().expect("frames").len()
    );
    assert!(
        strength(2) > 0.5 && strength(2) > strength(0) + 0.3,
        "{units}"
    );

    let model = checkpoint(folder.path(), "AU12,AU15");
    let run = folder.path().join("run").display().to_string();
    let settings = [
        "--epochs", "2", "--batch", "4", "--tune", "all", "--folds", "3", "--quiet",
    ];
    let mut args = vec![
        "--labels",
        labels,
        "--checkpoint",
        &model,
        "--keep-decoder",
        "--out",
        &run,
    ];
    args.extend(settings);
    done("train", &args);
    let log = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).expect("a log");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!(
            line["action_units"].as_f64().is_some_and(|loss| loss > 0.0),
            "{line}"
        );
    }

    let trained = format!("{run}/model");
    let report = folder.path().join("report").display().to_string();
    let said = done(
        "evaluate",
        &[
            "--labels",
            labels,
            "--checkpoint",
            &trained,
            "--allow-seen",
            "--out",
            &report,
            "--quiet",
        ],
    );
    assert!(said.contains("AU12") && said.contains("ICC(3,1)"), "{said}");
    let summary = std::fs::read(folder.path().join("report/summary.json")).expect("a summary");
    let summary: Value = serde_json::from_slice(&summary).expect("JSON");
    let units = summary["action_units"].as_array().expect("units");
    assert_eq!(units.len(), 2);
    // 18 clips of four frames each.
    assert_eq!(
        (units[1]["name"].as_str(), units[1]["frames"].as_u64()),
        (Some("AU15"), Some(72))
    );

    let clip = Path::new(labels).with_file_name(clip["file"].as_str().expect("a file"));
    let clip = clip.display().to_string();
    let infer = |format: &str| {
        done(
            "infer",
            &[
                &clip,
                "--checkpoint",
                &trained,
                "--faces",
                "none",
                "--format",
                format,
                "--quiet",
            ],
        )
    };
    let answer = answer(infer("json").as_bytes());
    assert_eq!(answer["action_units"], serde_json::json!(["AU12", "AU15"]));
    for frame in answer["frames"].as_array().expect("frames") {
        let strengths = frame["action_units"].as_array().expect("strengths");
        let within = |v: &Value| v.as_f64().is_some_and(|v| (0.0..=1.0).contains(&v));
        assert!(
            strengths.len() == 2 && strengths.iter().all(within),
            "{frame}"
        );
    }
    let table = infer("csv");
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let head = rows.headers().expect("a header").clone();
    let place = head
        .iter()
        .position(|name| name == "AU15")
        .expect("a column");
    for row in rows.records() {
        let row = row.expect("a row");
        assert!(
            row[place]
                .parse::<f32>()
                .is_ok_and(|v| (0.0..=1.0).contains(&v)),
            "{row:?}"
        );
    }
}

/// Runs `train` on labels; what it says on the terminal.
fn trained(labels: &str, model: &str, out: &str, more: &[&str]) -> String {
    let mut args = vec!["--labels", labels, "--checkpoint", model, "--out", out];
    args.extend(["--epochs", "1", "--batch", "4", "--folds", "3"]);
    args.extend(more);
    let output = run("train", &args);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

fn units_of(model: &str) -> Value {
    let config = std::fs::read(Path::new(model).join("config.json")).expect("a config");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    config["action_units"].clone()
}

#[test]
fn labels_that_say_none_or_some_train_what_they_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let labels = &material().labels;
    let root = Path::new(labels)
        .parent()
        .expect("a folder")
        .display()
        .to_string();
    let model = checkpoint(folder.path(), "AU12,AU15");
    // As labels of MTCNN's are: nothing is known of what faces do, in all clips or in most.
    let without = |kept: usize, name: &str| {
        let text = std::fs::read_to_string(labels).expect("labels");
        let lines = text.lines().enumerate().map(|(i, line)| {
            let mut clip: Value = serde_json::from_str(line).expect("JSON");
            if i >= kept {
                clip.as_object_mut()
                    .expect("an object")
                    .remove("action_units");
            }
            format!("{clip}\n")
        });
        std::fs::write(at(name), lines.collect::<String>()).expect("written");
        at(name)
    };
    let (none, some) = (without(0, "none.jsonl"), without(2, "some.jsonl"));

    // A decoder that is kept goes on, and the run says what it does not learn.
    let kept = ["--keep-decoder", "--tune", "all", "--root", &root];
    let said = trained(&none, &model, &at("kept"), &kept);
    assert!(
        said.contains("no clip's labels say all of the model's action units (AU12, AU15)"),
        "{said}"
    );
    // One that is drawn has no such task.
    let said = trained(&none, &model, &at("drawn"), &["--root", &root]);
    assert!(
        said.contains("the new decoder has no task for them"),
        "{said}"
    );
    assert_eq!(units_of(&format!("{}/model", at("drawn"))), Value::Null);
    // Two clips of eighteen: most batches know nothing, and each parameter has its gradient.
    let said = trained(&some, &model, &at("some"), &["--root", &root]);
    assert!(!said.contains("action units"), "{said}");
    let both = serde_json::json!(["AU12", "AU15"]);
    assert_eq!(units_of(&format!("{}/model", at("some"))), both);
}
