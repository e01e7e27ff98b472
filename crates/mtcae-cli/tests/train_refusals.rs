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
            && said.contains("--root says in which folder they lie, and --allow-missing leaves"),
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
        said.contains("fold 0: class sad has no clip to be tested on; --allow-empty-classes"),
        "{said}"
    );
    let said = train(&rare, &["--fold", "1"]);
    assert!(
        said.contains("fold 1: class sad has no clip to train on; --allow-empty-classes"),
        "{said}"
    );
    let said = train(&rare, &["--fold", "3"]);
    assert!(
        said.contains("--fold 3: there is no such fold, only 3 folds"),
        "{said}"
    );

    let said = train(&rare, &["--classes", "happy,angry"]);
    assert!(
        said.contains("rare.jsonl")
            && said.contains("no clip is of class \"angry\"; there are happy, sad"),
        "{said}"
    );
    let said = train("/no/such/labels.jsonl", &[]);
    assert!(said.contains("/no/such/labels.jsonl"), "{said}");
    let torn = relabelled("torn", |_| {});
    let whole = std::fs::read(&torn).expect("read");
    std::fs::write(&torn, &whole[..whole.len() - 50]).expect("torn");
    let said = train(&torn, &[]);
    assert!(said.contains("torn.jsonl") && said.contains("18"), "{said}");
    assert!(!Path::new(&out).exists(), "nothing was begun");
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
        ("--schedule", "round", "round"),
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

/// Published models are tested on several views of a clip, and trained on one.
#[test]
fn a_model_of_several_views_is_measured_and_not_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, out, cache) = (at("model"), at("run"), at("cache"));
    std::fs::create_dir(&model).expect("made");
    let checkpoint = Path::new(&material().checkpoint);
    let copy = |name: &str| {
        std::fs::copy(checkpoint.join(name), Path::new(&model).join(name)).expect("copied");
    };
    copy("config.json");
    copy("model.safetensors");
    let path = Path::new(&model).join("config.json");
    let config = std::fs::read_to_string(&path).expect("a config");
    let config = config.replace("\"squash\"", "\"three-crop\"");
    std::fs::write(&path, config).expect("written");
    for more in [&[][..], &["--cache", &cache]] {
        let args = [&["--checkpoint", &model], more].concat();
        let said = refused("train", &arguments(&out, &args));
        assert!(
            said.contains("preprocessing.resize: three-crop") && said.contains("shortest-edge"),
            "{said}"
        );
        assert!(!Path::new(&out).exists() && !Path::new(&cache).exists());
    }
    let labels = &material().labels;
    let base = ["--labels", labels, "--checkpoint", &model, "--quiet"];
    let said = done("evaluate", &base);
    assert!(said.starts_with("18 clips: "), "{said}");
    assert_eq!(
        done("evaluate", &[&base[..], &["--batch", "1"]].concat()),
        said
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

/// An answer about people that a model was trained on is confident and wrong.
#[test]
fn people_that_a_model_was_trained_on_are_not_measured_unasked() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (run_1, out) = (at("run"), at("measured"));
    done(
        "train",
        &arguments(&run_1, &["--fold", "1", "--validation", "0"]),
    );
    let model = format!("{run_1}/model");
    let labels = &material().labels;
    let base = ["--labels", labels, "--checkpoint", &model, "--quiet"];
    let evaluate = |more: &[&'static str]| [&base[..], more].concat();
    // Whom it never saw.
    let said = done("evaluate", &evaluate(&["--fold", "1"]));
    assert!(
        said.starts_with("6 clips: ")
            && said.contains("Of 1 person measured, the model was trained on none."),
        "{said}"
    );
    for more in [&["--fold", "0"][..], &[]] {
        let said = refused("evaluate", &evaluate(more));
        assert!(
            said.contains("WAS TRAINED ON ") && said.contains("--allow-seen"),
            "{said}"
        );
    }
    let allowed = evaluate(&["--allow-seen"]);
    let said = done("evaluate", &[&allowed[..], &["--out", &out]].concat());
    assert!(
        said.contains("Of 3 people measured, the model WAS TRAINED ON 2 of them (")
            && said.contains("no interval: too few subjects to draw an interval from: 3")
            && said.contains("chance: UAR 50.00 %, WAR 50.00 %")
            && said.contains("where they were rendered; NME is the mean distance")
            && said.contains("Version "),
        "{said}"
    );
    let summary: Value = serde_json::from_slice(&bytes(&out, "summary.json")).expect("JSON");
    let about = &summary["about"];
    assert_eq!(about["people"]["trained_on"], 2, "{summary}");
    assert_eq!(about["bootstrap"]["seed"], 0, "{summary}");
    assert!(summary.get("uar_interval").is_none(), "{summary}");

    // Nor by a run that begins with that model.
    let next = at("next");
    let more = ["--checkpoint", &model, "--fold", "0"];
    let said = refused("train", &arguments(&next, &more));
    assert!(
        said.contains("of 1 person measured, the model WAS TRAINED ON 1 of them"),
        "{said}"
    );
    let args = arguments(&next, &more);
    done("train", &[&args[..], &["--allow-seen"]].concat());
    // It knows whom either was trained on.
    let next = format!("{next}/model");
    let args = ["--labels", labels, "--checkpoint", &next, "--quiet"];
    let said = refused("evaluate", &args);
    assert!(
        said.contains("of 3 people measured, the model WAS TRAINED ON 3 of them"),
        "{said}"
    );

    // A checkpoint that does not say, as all were once.
    let path = Path::new(&model).join("config.json");
    let text = std::fs::read_to_string(&path).expect("read");
    for person in ["\"01\"", "\"02\"", "\"03\"", "Actor"] {
        assert!(!text.contains(person), "{person}: {text}");
    }
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    let known = config.as_object_mut().expect("an object");
    known.remove("trained_subjects").expect("subjects");
    std::fs::write(&path, config.to_string()).expect("written");
    let said = done("evaluate", &evaluate(&[]));
    assert!(
        said.contains(
            "Of 3 people measured, the model may have been trained on some: its checkpoint"
        ),
        "{said}"
    );
}

#[test]
fn the_labels_folds_are_kept_and_nothing_is_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let out = at("run");
    // Without --folds: the labels have three, the settings of these tests say so too.
    let Material { labels, checkpoint } = material();
    let args = [
        "--labels",
        labels,
        "--checkpoint",
        checkpoint,
        "--out",
        &out,
        "--epochs",
        "1",
        "--validation",
        "0",
        "--cross-validate",
    ];
    let output = run("train", &args);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("3 folds of the labels") && !said.contains("dealt"),
        "{said}"
    );
    assert!(text(&output.stdout).contains("mean ± std of 3 folds"));
    let report = text(&bytes(&out, "report.md"));
    for words in [
        "3 subject-independent folds of the labels",
        "| NME % |",
        "No interval of fold 0, fold 1, fold 2: too few subjects to draw an interval from: 1, and 4 are needed.",
        "Chance, of all clips: UAR 50.00 %, WAR 50.00 %",
        "Training had the seed 0. Version ",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
    assert!(
        !report.contains("–5") && !report.contains("(50.0"),
        "{report}"
    );

    // The table of the run is not written over by a part of it.
    let table = format!("{out}/predictions.csv");
    let before = bytes(&out, "predictions.csv");
    let args = ["--predictions", &table, "--fold", "1", "--out", &out];
    let said = refused("evaluate", &args);
    assert!(
        said.contains("--out: ") && said.contains("another folder"),
        "{said}"
    );
    assert!(bytes(&out, "predictions.csv") == before);
    let copied = at("copied");
    std::fs::create_dir(&copied).expect("made");
    let table = format!("{copied}/predictions.csv");
    std::fs::write(&table, &before).expect("written");
    let args = ["--predictions", &table, "--fold", "1", "--out", &copied];
    let said = refused("evaluate", &args);
    assert!(said.contains("is the table that is read"), "{said}");
    assert!(bytes(&copied, "predictions.csv") == before);
    // One flag that is missing, not three.
    let output = run("evaluate", &["--labels", labels]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--checkpoint") && !said.contains("  --predictions"),
        "{said}"
    );
}

#[test]
fn init_leaves_a_model_that_is_there_and_fits_the_decoder_to_the_encoder() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("model").display().to_string();
    let said = done("init", &["--size", "tiny", "--out", &out]);
    assert!(
        said.contains("decoder, 64 wide, 2 deep, 3 heads of 24"),
        "{said}"
    );
    let files = ["config.json", "model.safetensors"];
    let before = files.map(|f| bytes(&out, f));
    let other = ["--size", "tiny", "--seed", "1", "--out", &out];
    let said = refused("init", &other);
    assert!(
        said.contains("config.json: exists already; --force"),
        "{said}"
    );
    assert!(files.map(|f| bytes(&out, f)) == before, "it is as it was");
    std::fs::remove_file(Path::new(&out).join("config.json")).expect("removed");
    let said = refused("init", &other);
    assert!(said.contains("model.safetensors: exists already"), "{said}");
    done("init", &[&other[..], &["--force"]].concat());
    assert!(bytes(&out, files[1]) != before[1], "another seed");

    // The encoder of these tests is 24 wide: the paper's decoder would be 500 times it.
    let small = folder.path().join("small").display().to_string();
    let said = done(
        "init",
        &["--encoder", &material().checkpoint, "--out", &small],
    );
    assert!(
        said.contains("decoder, 16 wide, 2 deep, 3 heads of 8"),
        "{said}"
    );
    let sizes = [
        "--decoder-width",
        "40",
        "--decoder-depth",
        "1",
        "--decoder-heads",
        "2",
    ];
    let flags = ["--size", "tiny", "--force", "--out", &small];
    let said = done("init", &[&flags[..], &sizes].concat());
    assert!(
        said.contains("decoder, 40 wide, 1 deep, 2 heads of 24"),
        "{said}"
    );
    let said = refused(
        "init",
        &["--size", "tiny", "--heads", "5", "--force", "--out", &small],
    );
    assert!(
        said.contains("--heads: is for an --encoder") && said.contains("--decoder-heads"),
        "{said}"
    );
    let output = run("init", &["--decoder-width", "0", "--out", &small]);
    assert_eq!(output.status.code(), Some(2));
}

/// A pipe that nobody writes into would be waited for without end.
#[cfg(unix)]
#[test]
fn pipes_are_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (pipe, out) = (at("pipe"), at("run"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("started").success());
    for (name, args) in [
        ("train", arguments(&out, &["--labels", &pipe])),
        ("train", arguments(&out, &["--config", &pipe])),
        ("evaluate", vec!["--predictions", &pipe]),
    ] {
        let mut child = training::program(name)
            .args(&args)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let since = std::time::Instant::now();
        while child.try_wait().expect("asked").is_none() {
            if since.elapsed().as_secs() > 20 {
                child.kill().expect("killed");
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let output = child.wait_with_output().expect("ended");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name} {args:?}: {said}");
        assert!(
            said.lines().count() == 1
                && said.contains(&pipe)
                && said.contains("not a regular file"),
            "{said}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_a_program_quietly() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let table = at("p.csv");
    let rows = "file,subject,level,fold,class,predicted,frames,iou,nme,p_a,p_b\n\
                x.mp4,s,,0,a,a,0,,,0.75,0.25\n";
    std::fs::write(&table, rows).expect("written");
    let out = at("measured");
    let output = std::process::Command::new("bash")
        .args(["-c", "set -o pipefail; \"$@\" | true", "bash"])
        .args([training::MTCAE, "evaluate"])
        .args(["--predictions", &table, "--out", &out])
        .output()
        .expect("started");
    let said = text(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    assert!(
        out_has(&out, "summary.json"),
        "what it was asked for is there"
    );
}
