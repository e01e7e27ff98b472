//! `--config`: a file says to the training programs what their flags say.

mod training;

use std::path::Path;

use training::{Material, done, material, program, refused, text};

#[test]
fn a_file_alone_is_a_whole_command_line() {
    let Material { labels, checkpoint } = material();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("settings")).expect("made");
    // Beside neither the file nor the labels: relative to the current folder.
    let file = "settings/run.toml";
    let write = |text: &str| {
        let text = format!("labels = {labels:?}\nquiet = true\n{text}");
        std::fs::write(folder.path().join(file), text).expect("written");
    };
    let run = |name: &str, flags: &[&str]| {
        let mut command = program(name);
        command.args(["--config", file]).args(flags);
        let output = command.current_dir(&folder).output().expect("started");
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let is_there = |name: &str| folder.path().join(name).exists();

    write(&format!(
        "checkpoint = {checkpoint:?}\nout = \"run\"\nfold = 1\nfolds = 3\nepochs = 3\nbatch = 4\n\
         validation = 0.3\ncache = \"features\"\nstructure = \"shared-mlp\"\ndevice = \"cpu\"\n\
         threads = 2\nclasses = [\"sad\", \"happy\"]\n"
    ));
    run("train", &["--epochs", "1"]);
    assert!(is_there("run/model/model.safetensors") && is_there("features"));
    let settings = folder.path().join("run/settings.toml");
    let settings = std::fs::read_to_string(settings).expect("kept");
    assert!(
        settings.contains("epochs = 1\n") && settings.contains("batch = 4\n"),
        "{settings}"
    );
    let model = folder.path().join("run/model/config.json");
    let model = std::fs::read_to_string(model).expect("a model");
    assert!(model.contains("shared-mlp"), "{model}");
    assert!(model.find("\"sad\"") < model.find("\"happy\""), "{model}");

    write(
        "checkpoint = \"run/model\"\nfold = 0\nallow_seen = true\nbootstrap = 0\nout = \"measured\"\n",
    );
    let said = run("evaluate", &["--fold", "2"]);
    assert!(
        said.starts_with("6 clips: ") && is_there("measured/summary.json"),
        "{said}"
    );

    write(&format!(
        "checkpoint = {checkpoint:?}\nout = \"six\"\nfolds = 3\nepochs = 1\nbatch = 4\n\
         validation = 0.3\nstructures = [\"single-task\", \"shared-mlp\"]\nseeds = 1\n"
    ));
    let said = run("ablation", &["--structures", "single-task"]);
    assert!(
        said.contains("| single-task | ") && !said.contains("| shared-mlp | "),
        "{said}"
    );
}

#[test]
fn a_key_that_cannot_be_used_is_named_with_the_file() {
    let Material { labels, checkpoint } = material();
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out").display().to_string();
    let file = folder.path().join("run.toml").display().to_string();
    let given = [
        "--config",
        &file,
        "--labels",
        labels,
        "--checkpoint",
        checkpoint,
    ];
    for (name, toml, words) in [
        (
            "train",
            "epocs = 3",
            "run.toml: epocs: no such argument of mtcae train",
        ),
        (
            "train",
            "fold = \"first\"",
            "run.toml: fold: invalid value 'first'",
        ),
        (
            "train",
            "keep_decoder = 1",
            "run.toml: keep_decoder: must be true or false",
        ),
        (
            "train",
            "structure = \"mlp\"",
            "run.toml: structure: invalid value 'mlp'",
        ),
        (
            "train",
            "smoothing = 2.0",
            "run.toml: smoothing: must be in [0, 1)",
        ),
        (
            "train",
            "schedule = \"stepwise\"",
            "run.toml: schedule: unknown variant `stepwise`",
        ),
        (
            "ablation",
            "structure = \"cascade\"",
            "run.toml: structure: no such argument",
        ),
        (
            "ablation",
            "seeds = []",
            "run.toml: seeds: is an empty list",
        ),
        (
            "evaluate",
            "lr = 0.1",
            "run.toml: lr: no such argument of mtcae evaluate",
        ),
        (
            "evaluate",
            "batch = \"x\"",
            "run.toml: batch: invalid value 'x'",
        ),
        (
            "evaluate",
            "predictions = \"p.csv\"",
            "run.toml: predictions: the argument",
        ),
    ] {
        std::fs::write(&file, format!("{toml}\n")).expect("written");
        let said = refused(name, &[&given[..], &["--out", &out]].concat());
        assert!(said.contains(words), "{name} {toml}: {said}");
    }
    // A flag's fault is not the file's.
    std::fs::write(&file, "epochs = 3\n").expect("written");
    let flags = ["--out", &out, "--schedule", "stepwise"];
    let said = refused("train", &[&given[..], &flags].concat());
    assert!(
        said.starts_with("error: --schedule: unknown variant"),
        "{said}"
    );
    assert!(!Path::new(&out).exists(), "nothing was begun");
}

#[test]
fn help_shows_the_file_and_the_defaults() {
    for (name, default) in [
        ("train", "[default: cpu]"),
        (
            "train",
            "[default: 0.001; vo-lstm: 0.0001; mtl-er, mtformer: 0.00005]",
        ),
        ("evaluate", "[default: 1000]"),
        ("ablation", "[default: 0,1,2]"),
        ("synth", "[default: 24]"),
    ] {
        let said = done(name, &["--help"]);
        // Long lines are broken.
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("--config <FILE.toml>"), "{name}: {said}");
        assert!(said.contains(default), "{name}: {default}: {said}");
    }
}
