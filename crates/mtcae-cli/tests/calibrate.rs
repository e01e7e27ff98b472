//! `calibrate` as a person runs it, and what becomes of a calibrated checkpoint.

mod common;
mod training;

use std::path::Path;

use common::answer;
use serde_json::Value;
use training::{Material, arguments, bytes, done, material, refused, run, text};

fn config(checkpoint: &str) -> Value {
    serde_json::from_slice(&bytes(checkpoint, "config.json")).expect("JSON")
}

/// A model that was trained a little.
fn trained(folder: &Path) -> String {
    let out = folder.join("run").display().to_string();
    let more = ["--epochs", "4", "--lr", "0.003", "--fold", "0"];
    done("train", &arguments(&out, &more));
    format!("{out}/model")
}

/// Logarithm of the ratio of the two classes' probabilities in a table of predictions.
fn odds(table: &[u8]) -> Vec<f64> {
    let text = String::from_utf8_lossy(table);
    let rows = text.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        let p = |k: usize| cells[cells.len() - k].parse::<f64>().expect("a number");
        (p(2) / p(1)).ln()
    });
    rows.collect()
}

#[test]
fn a_calibrated_checkpoint_answers_as_it_was_fitted_and_trains_as_if_it_were_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let model = trained(folder.path());
    let Material { labels, .. } = material();
    let fit = |out: &str, more: &[&str]| {
        let args = ["--labels", labels, "--checkpoint", &model, "--out", out];
        done("calibrate", &[&args[..], &["--allow-seen"], more].concat())
    };
    let said = fit(&at("warm"), &["--answer-share", "0.5"]);
    for words in [
        "18 clips of 3 people",
        "uncalibrated ",
        "fitted on all: temperature ",
        "least confidence   answered      right",
        "unsure below ",
        "WAS TRAINED ON",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (before, after) = (config(&model), config(&at("warm")));
    let scale = &after["calibration"]["scale"];
    let factor = scale[0].as_f64().expect("a factor");
    assert!(factor > 0.0 && scale[0] == scale[1], "{after}");
    assert_eq!(after["calibration"].get("bias"), None);
    let fitted_on = after["calibration"]["fitted_on"].as_str().expect("words");
    assert!(
        fitted_on.contains("18 clips of 3 people, by temperature"),
        "{fitted_on}"
    );
    let least = after["answers"]["least_confidence"]
        .as_f64()
        .expect("a number");
    assert!((0.5..1.0).contains(&least), "{least}");
    assert_eq!(before["classes"], after["classes"]);
    assert!(bytes(&model, "model.safetensors") == bytes(&at("warm"), "model.safetensors"));

    // What is said of clips is what was said, scaled.
    let evaluated = |checkpoint: &str, out: &str| {
        let args = ["--labels", labels, "--checkpoint", checkpoint, "--out", out];
        done(
            "evaluate",
            &[&args[..], &["--allow-seen", "--bootstrap", "0"]].concat(),
        );
        odds(&bytes(out, "predictions.csv"))
    };
    let plain = evaluated(&model, &at("plain"));
    let scaled = evaluated(&at("warm"), &at("scaled"));
    assert_eq!(plain.len(), 18);
    for (plain, scaled) in plain.iter().zip(&scaled) {
        assert!(
            (factor * plain - scaled).abs() < 1e-4,
            "{plain} {scaled} {factor}"
        );
    }

    // Vector scaling, of what is calibrated already: its own is fitted anew.
    let said = fit(
        &at("vector"),
        &["--method", "vector", "--least-confidence", "0.9"],
    );
    assert!(said.contains("happy        factor "), "{said}");
    let vector = config(&at("vector"));
    assert_eq!(
        vector["calibration"]["bias"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(vector["answers"]["least_confidence"], 0.9);
    let warm = at("warm");
    let again = [
        "--labels",
        labels,
        "--checkpoint",
        &warm,
        "--allow-seen",
        "--out",
    ];
    let again = run("calibrate", &[&again[..], &[&at("again")]].concat());
    let notes = text(&again.stderr);
    assert!(
        notes.contains("calibration and answers.least_confidence of the checkpoint is left out"),
        "{notes}"
    );
    assert_eq!(config(&at("again"))["calibration"], after["calibration"]);
    assert_eq!(
        config(&at("again"))["answers"].get("least_confidence"),
        None
    );

    // Trained on, it is as if it had never been calibrated.
    let (cold, warmed) = (at("cold"), at("warmed"));
    let go = |checkpoint: &str, out: &str| {
        let more = ["--epochs", "1", "--checkpoint", checkpoint];
        let args = arguments(out, &more);
        let args: Vec<&str> = args.into_iter().filter(|a| *a != "--quiet").collect();
        let more = ["--fold", "0", "--allow-seen", "--keep-decoder"];
        let output = run("train", &[&args[..], &more].concat());
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        said
    };
    assert!(!go(&model, &cold).contains("measured before this training"));
    let said = go(&warm, &warmed);
    assert!(
        said.contains("calibration` and `answers.least_confidence` of the checkpoint's config"),
        "{said}"
    );
    for file in ["model/model.safetensors", "predictions.csv"] {
        assert!(bytes(&cold, file) == bytes(&warmed, file), "{file}");
    }
    assert_eq!(config(&format!("{warmed}/model")).get("calibration"), None);
}

#[test]
fn what_cannot_be_fitted_or_written_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let Material { labels, checkpoint } = material();
    let one = std::fs::read_to_string(labels).expect("labels");
    let of_one = one.lines().filter(|l| l.contains("\"subject\":\"01\""));
    let of_one: String = of_one.flat_map(|l| [l, "\n"]).collect();
    let beside = Path::new(labels).with_file_name("one.jsonl");
    std::fs::write(&beside, of_one).expect("written");
    let beside = beside.display().to_string();
    let out = at("out");
    for (labels, out, more, said) in [
        (labels, checkpoint, &[][..], "is of the model that is read"),
        (
            labels,
            &out,
            &["--answer-share", "0"],
            "--answer-share: must be above 0",
        ),
        (
            labels,
            &out,
            &["--least-confidence", "1"],
            "--least-confidence: must be between",
        ),
        (
            labels,
            &out,
            &["--batch", "0"],
            "--batch: must be at least 1",
        ),
        (labels, &out, &["--fold", "9"], "--fold 9 has no clips"),
        (
            &beside,
            &out,
            &[],
            "clips of one person are given; at least two",
        ),
    ] {
        let args = ["--labels", labels, "--checkpoint", checkpoint, "--out", out];
        let output = run("calibrate", &[&args[..], &["--quiet"], more].concat());
        let refusal = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}: {refusal}");
        assert!(refusal.contains(said), "{said}: {refusal}");
        assert!(!Path::new(&at("out")).exists());
    }
    let args = [
        "--labels",
        labels,
        "--checkpoint",
        checkpoint,
        "--out",
        &out,
        "--quiet",
    ];
    done("calibrate", &args);
    let refusal = refused("calibrate", &args);
    assert!(refusal.contains("exists already; --force"), "{refusal}");
    done("calibrate", &[&args[..], &["--force"]].concat());
}

#[test]
fn below_the_confidence_that_is_asked_for_it_is_unsure() {
    let demo = mtcae_testing::fixtures().join("demo/rendered.mp4");
    let demo = demo.display().to_string();
    let drawn = mtcae_testing::fixtures().join("demo/checkpoint");
    let drawn = drawn.display().to_string();
    let base = [demo.as_str(), "--checkpoint", &drawn];
    let said = done(
        "infer",
        &[&base[..], &["--least-confidence", "0.9999"]].concat(),
    );
    for words in [
        "no answer: unsure (the most probable class has 99.",
        "likeliest: happy (99.",
        "%), fearful (",
        "  surprised ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let json = |more: &[&str]| -> Value {
        let args = ["--format", "json", "--quiet"];
        let said = done("infer", &[&base[..], more, &args[..]].concat());
        answer(said.as_bytes())
    };
    let (unsure, sure) = (json(&["--least-confidence", "0.9999"]), json(&[]));
    assert_eq!(unsure["refusal"]["kind"], "unsure");
    assert_eq!(unsure["refusal"]["least"], 0.9999);
    assert_eq!(
        (&unsure["expression"], &sure["expression"]),
        (&"".into(), &"happy".into())
    );
    assert_eq!(unsure["probabilities"], sure["probabilities"]);
    assert_eq!(json(&["--least-confidence", "0"]), sure);
    let refusal = refused("infer", &[&base[..], &["--least-confidence", "1"]].concat());
    assert!(
        refusal.starts_with("error: --least-confidence: "),
        "{refusal}"
    );
}
