//! Model cards: they say what the files beside them say.

use std::path::{Path, PathBuf};

use mtcae_model::card::{self, CARD, Figure, Group, MEASURED, Measurement};
use mtcae_model::{Checkpoint, checkpoint};
use mtcae_testing::fixtures;

fn default_model() -> PathBuf {
    fixtures().join("default")
}

fn measurement(folder: &Path, command: &str, uar: f64) -> Measurement {
    let opened = Checkpoint::open_ours(folder).expect("opened");
    Measurement {
        on: "Clips of one person".to_owned(),
        command: command.to_owned(),
        model: opened.identity("").expect("hashed").files,
        clips: 3,
        figures: vec![
            Figure::share("UAR", uar, Some([0.25, 0.75])),
            Figure::number("log loss", 1.5),
        ],
        recall: vec![Figure::share("a|b", 1.0, None)],
        groups: vec![Group {
            by: "light".to_owned(),
            name: "flat".to_owned(),
            clips: 2,
            figures: vec![Figure::share("UAR", 0.5, None)],
        }],
        remarks: Vec::new(),
    }
}

/// A copy of the demo's checkpoint, as it is written now.
fn copy(folder: &Path) -> Checkpoint {
    let opened = Checkpoint::open(fixtures().join("demo/checkpoint")).expect("opened");
    let load = |name: String| {
        let tensor = opened.weights().load(&name, &candle_core::Device::Cpu);
        (name, tensor.expect("read"))
    };
    let tensors: Vec<_> = opened.weights().names().into_iter().map(load).collect();
    let tensors = tensors.iter().map(|(name, tensor)| (&name[..], tensor));
    checkpoint::save(folder, opened.config(), tensors).expect("written");
    Checkpoint::open_ours(folder).expect("opened")
}

fn read(folder: &Path) -> String {
    std::fs::read_to_string(folder.join(CARD)).expect("a card")
}

/// `mtcae card > fixtures/default/card.md` writes it.
#[test]
fn the_default_models_card_is_what_its_files_say() {
    let folder = default_model();
    let opened = Checkpoint::open_ours(&folder).expect("opened");
    let (measured, others) = card::measurements(&opened).expect("read");
    assert_eq!((measured.len(), others), (2, 0));
    assert_eq!(read(&folder), card::text(opened.config(), &measured));
}

#[test]
fn every_checkpoint_gets_a_card_and_measurements_stay_with_their_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let opened = copy(folder);
    let config = opened.config();
    let text = read(folder);
    for words in [
        "cascade",
        "happy",
        "Nothing yet",
        "5(1)(f)",
        "2 August 2026",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    card::add(folder, config, measurement(folder, "a", 0.4)).expect("added");
    card::add(folder, config, measurement(folder, "b", 0.6)).expect("added");
    // In place of the first.
    card::add(folder, config, measurement(folder, "a", 0.5)).expect("added");
    let text = read(folder);
    for words in [
        "50.0 % (25.0 to 75.0)",
        "60.0 %",
        "1.500",
        "a\\|b",
        "| light flat | 2 | 50.0 % |",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("40.0 %"), "{text}");

    // Other weights: what was measured says nothing of them.
    let mut changed = config.clone();
    changed.trained_on = Some("other clips".to_owned());
    let weights = std::fs::read(folder.join("model.safetensors")).expect("read");
    let text = serde_json::to_string(&changed).expect("JSON");
    std::fs::write(folder.join("config.json"), text).expect("written");
    let now = || Checkpoint::open_ours(folder).expect("opened");
    assert_eq!(card::measurements(&now()).expect("read"), (Vec::new(), 2));
    card::add(folder, &changed, measurement(folder, "c", 0.7)).expect("added");
    let (measured, others) = card::measurements(&now()).expect("read");
    assert_eq!((measured.len(), others), (1, 0));
    assert_eq!(
        weights,
        std::fs::read(folder.join("model.safetensors")).expect("read")
    );
}

#[test]
fn a_card_of_somebody_elses_stays_and_a_damaged_list_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::write(folder.join(CARD), "# My model\n").expect("written");
    let opened = copy(folder);
    assert_eq!(read(folder), "# My model\n");
    std::fs::write(folder.join(MEASURED), "[{\"on\": 3}]").expect("written");
    let error = card::measurements(&opened)
        .expect_err("damaged")
        .to_string();
    assert!(error.contains(MEASURED), "{error}");
    let error = card::add(folder, opened.config(), measurement(folder, "a", 0.4));
    assert!(error.expect_err("damaged").to_string().contains(MEASURED));
}

#[test]
fn a_checkpoint_inside_a_program_is_that_of_its_files() {
    let folder = default_model();
    let read = |name: &str| std::fs::read(folder.join(name)).expect("read");
    let config = String::from_utf8(read("config.json")).expect("UTF-8");
    let weights = read("model.safetensors");
    let inside = Checkpoint::inside("the default model", &config, &weights).expect("opened");
    let opened = Checkpoint::open_ours(&folder).expect("opened");
    assert_eq!(
        inside.identity("a").expect("hashed"),
        opened.identity("a").expect("hashed")
    );
    let (cpu, name) = (candle_core::Device::Cpu, &inside.weights().names()[0]);
    let numbers = |c: &Checkpoint| {
        let tensor = c.weights().load(name, &cpu).expect("read");
        tensor
            .flatten_all()
            .expect("flat")
            .to_vec1::<f32>()
            .expect("numbers")
    };
    assert_eq!(numbers(&inside), numbers(&opened));
    let list = String::from_utf8(read("measured.json")).expect("UTF-8");
    let (measured, others) = card::measurements_in(&inside, &list).expect("read");
    assert_eq!((measured.len(), others), (2, 0));

    let cut = Checkpoint::inside("cut", &config, &weights[..1000]);
    assert!(cut.is_err());
    let other = config.replace("\"depth\": 6", "\"depth\": 7");
    assert_ne!(other, config);
    let error = Checkpoint::inside("other", &other, &weights)
        .err()
        .expect("tensors are missing");
    assert!(error.to_string().contains("other"), "{error}");
}
