//! What `train` says of everything it cannot use: one line that names it, exit
//! code 1, and nothing lost.

mod training;

use std::path::Path;

use serde_json::Value;
use training::{Material, arguments, bytes, done, material, refused, run, text};

/// A copy of the label file beside it, changed.
fn relabelled(name: &str, change: impl Fn(&mut Value)) -> String {
    let labels = Path::new(&material().labels);
    let text = std::fs::read_to_string(labels).expect("labels");
    let mut out = String::new();
    for line in text.lines() {
        let mut clip: Value = serde_json::from_str(line).expect("JSON");
        change(&mut clip);
        out += &format!("{clip}\n");
    }
    let path = labels.with_file_name(format!("{name}.jsonl"));
    std::fs::write(&path, out).expect("written");
    path.display().to_string()
}

#[test]
fn labels_that_cannot_be_trained_on_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run").display().to_string();
    let train = |labels: &str, more: &[&str]| {
        let args = arguments(&out, &["--labels", labels]);
        refused("train", &[&args[..], more].concat())
    };
    let missing = relabelled("missing", |clip| {
        if clip["subject"] == "Actor_02"
            || clip["file"]
                .as_str()
                .is_some_and(|f| f.contains("Actor_02"))
        {
            let file = clip["file"]
                .as_str()
                .expect("a name")
                .replace("Actor_02", "Actor_99");
            clip["file"] = file.into();
        }
    });
    let said = train(&missing, &[]);
    assert!(
        said.contains("missing.jsonl: 6 labelled videos are missing (Actor_99/")
            && said.contains("allow_missing"),
        "{said}"
    );
    // The others are trained on: two subjects for two folds.
    let more = ["--labels", &missing, "--folds", "2", "--validation", "0"];
    let args = arguments(&out, &more);
    let output = run(
        "train",
        &[&args[..], &["--allow-missing", "true", "--fold", "0"]].concat(),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(out_has(&out, "model/model.safetensors"));
    std::fs::remove_dir_all(&out).expect("removed");

    let fold = std::cell::Cell::new(0);
    let two_folds = relabelled("two-folds", |clip| {
        if fold.get() == 0 {
            let was = clip["fold"].as_u64().expect("a fold");
            clip["fold"] = ((was + 1) % 3).into();
        }
        fold.set(1);
    });
    let said = train(&two_folds, &["--cross-validate"]);
    assert!(said.contains("fold") && said.contains("subject"), "{said}");

    let rare = relabelled("rare", |clip| {
        // Only one actor is ever sad.
        let fold = clip["fold"].as_u64().expect("a fold");
        if fold != 1 {
            clip["class"] = "happy".into();
        }
    });
    let said = train(&rare, &["--cross-validate"]);
    assert!(
        said.contains("fold 0: no clip to be tested on of class sad"),
        "{said}"
    );
    let said = train(&rare, &["--fold", "1"]);
    assert!(
        said.contains("fold 1: no clip to train on of class sad"),
        "{said}"
    );
    let said = train(&rare, &["--fold", "3"]);
    assert!(said.contains("--fold 3: there are 3 folds"), "{said}");

    let said = train(&rare, &["--classes", "happy,angry"]);
    assert!(
        said.contains("rare.jsonl") && said.contains("\"sad\" is none of happy, angry"),
        "{said}"
    );
    let said = train("/no/such/labels.jsonl", &[]);
    assert!(said.contains("/no/such/labels.jsonl"), "{said}");
    let torn = relabelled("torn", |_| {});
    let whole = std::fs::read(&torn).expect("read");
    std::fs::write(&torn, &whole[..whole.len() - 50]).expect("torn");
    let said = train(&torn, &[]);
    assert!(said.contains("torn.jsonl") && said.contains("18"), "{said}");
    assert!(!out_has(&out, "state.safetensors"), "nothing was begun");
}

fn out_has(out: &str, name: &str) -> bool {
    Path::new(out).join(name).exists()
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (out, toml) = (at("run"), at("settings.toml"));
    std::fs::write(&toml, "epochs = 3\nlearning_rate = 0.1\n").expect("written");
    let said = refused("train", &arguments(&out, &["--config", &toml]));
    assert!(
        said.contains("settings.toml") && said.contains("learning_rate"),
        "{said}"
    );
    std::fs::write(&toml, "epochs = \"three\"\n").expect("written");
    let Material { labels, checkpoint } = material();
    let base = [
        "--labels",
        labels,
        "--checkpoint",
        checkpoint,
        "--out",
        &out,
        "--quiet",
    ];
    let said = refused("train", &[&base[..], &["--config", &toml]].concat());
    assert!(
        said.contains("settings.toml") && said.contains("epochs"),
        "{said}"
    );
    for (flag, value, words) in [
        ("--lr", "-1", "lr: must be 0 or more"),
        ("--batch", "0", "batch: must be at least 1"),
        (
            "--tune",
            "last:3",
            "tune: last:3, but the encoder has 2 blocks",
        ),
        ("--tune", "some", "some"),
        ("--schedule", "linear", "linear"),
        ("--device", "tpu", "tpu"),
        ("--threads", "0", "--threads must be at least 1"),
        ("--checkpoint", "/no/such/model", "/no/such/model"),
    ] {
        // `=`, so that a negative number is a value.
        let mut args = arguments(&out, &[]);
        let given = format!("{flag}={value}");
        if let Some(i) = args.iter().position(|a| *a == flag) {
            args.drain(i..i + 2);
        }
        args.push(&given);
        let said = refused("train", &args);
        assert!(said.contains(words), "{flag} {value}: {said}");
    }
    let cache = ["--tune", "all", "--cache", &out];
    let said = refused("train", &arguments(&out, &cache));
    assert!(said.contains("--cache: tune = all"), "{said}");
    assert!(!out_has(&out, "state.safetensors"));

    // The folder of the run cannot be made.
    let file = at("file");
    std::fs::write(&file, "").expect("written");
    let below = format!("{file}/run");
    let said = refused("train", &arguments(&below, &[]));
    assert!(said.contains(&below), "{said}");

    // A model whose parts do not fit together.
    let broken = at("broken");
    std::fs::create_dir(&broken).expect("made");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(
            Path::new(checkpoint).join(name),
            Path::new(&broken).join(name),
        )
        .expect("copied");
    }
    let path = Path::new(&broken).join("config.json");
    let config = std::fs::read_to_string(&path).expect("read");
    let wider = config.replace("\"features\": 24", "\"features\": 32");
    assert_ne!(config, wider);
    std::fs::write(&path, wider).expect("written");
    let said = refused("train", &arguments(&out, &["--checkpoint", &broken]));
    assert!(
        said.contains("config.json")
            && said.contains("decoder.features: is 32, but the encoder's width is 24"),
        "{said}"
    );
}

#[test]
fn a_run_is_neither_overwritten_nor_gone_on_with_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run").display().to_string();
    done("train", &arguments(&out, &[]));
    let files = [
        "state.safetensors",
        "metrics.jsonl",
        "settings.toml",
        "model/model.safetensors",
    ];
    let before = files.map(|f| bytes(&out, f));
    let said = refused("train", &arguments(&out, &[]));
    assert!(said.contains(&out) && said.contains("--resume"), "{said}");
    for (flag, value, words) in [
        ("--lr", "0.5", "config.lr was 0.001, is 0.5"),
        ("--epochs", "9", "config.epochs was 2, is 9"),
        ("--structure", "shared-mlp", "model.decoder"),
        ("--fold", "1", "other split"),
    ] {
        let args = arguments(&out, &[flag, value]);
        let said = refused("train", &[&args[..], &["--resume"]].concat());
        assert!(
            said.contains("state.safetensors") && said.contains(words),
            "{flag}: {said}"
        );
    }
    assert!(
        files.map(|f| bytes(&out, f)) == before,
        "nothing was touched"
    );
    let again = arguments(&out, &[]);
    done("train", &[&again[..], &["--resume"]].concat());
    assert!(files.map(|f| bytes(&out, f)) == before, "it was over");
}

#[test]
fn a_loss_that_is_no_number_names_step_and_clips_and_keeps_the_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    // A checkpoint with a weight that is none.
    let broken = at("nan");
    std::fs::create_dir(&broken).expect("made");
    let checkpoint = Path::new(&material().checkpoint);
    std::fs::copy(
        checkpoint.join("config.json"),
        Path::new(&broken).join("config.json"),
    )
    .expect("copied");
    let mut weights = std::fs::read(checkpoint.join("model.safetensors")).expect("weights");
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().expect("8 bytes")) as usize;
    let json: Value = serde_json::from_slice(&weights[8..header]).expect("a header");
    let place = &json["encoder.blocks.1.mlp.fc2.bias"]["data_offsets"][0];
    let place = header + place.as_u64().expect("an offset") as usize;
    weights[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(Path::new(&broken).join("model.safetensors"), weights).expect("written");
    let out = at("from-nan");
    let said = refused("train", &arguments(&out, &["--checkpoint", &broken]));
    assert!(
        said.contains("is NaN at step 0 (epoch 0, clips Actor_") && said.contains(".mp4"),
        "{said}"
    );
    assert!(!out_has(&out, "model"), "no model was written");
    let cache = at("cache");
    let said = refused(
        "train",
        &arguments(&at("b"), &["--checkpoint", &broken, "--cache", &cache]),
    );
    assert!(said.contains("NaN") && said.contains("Actor_"), "{said}");

    // A rate that spoils the weights at once, in the only step there is: no state
    // and no model hold them.
    let out = at("spoilt");
    let more = ["--lr", "1e39", "--epochs", "1", "--batch", "12"];
    let said = refused("train", &arguments(&out, &more));
    assert!(
        said.contains("weight decoder.") && said.contains("at step 0 (epoch 0, clips Actor_"),
        "{said}"
    );
    assert!(!out_has(&out, "state.safetensors") && !out_has(&out, "model"));

    // A rate that no loss survives.
    let out = at("diverges");
    let more = ["--lr", "1e30", "--save-every", "1", "--epochs", "5"];
    let said = refused("train", &arguments(&out, &more));
    assert!(
        said.contains(" at step ") && said.contains("clips Actor_") && said.contains("is kept"),
        "{said}"
    );
    let state = bytes(&out, "state.safetensors");
    let args = arguments(&out, &more);
    let again = refused("train", &[&args[..], &["--resume"]].concat());
    assert_eq!(again, said, "it goes on from the step before");
    assert!(bytes(&out, "state.safetensors") == state);
}
