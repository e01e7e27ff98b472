//! Systems under one protocol: what was stopped comes to the same tables, what fails loses
//! nothing else, and what cannot be compared is said before the first hour.

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use common::Place;
use mtcae_train::compare::{Comparison, Failure, Size, System, Systems, Track, compare, tables};
use mtcae_train::{
    Dataset, Error, Event, PREDICTIONS, Selection, TrainConfig, read_table, summarise,
};
use toml::Table;

const DEFINED: &str = r#"
[toy]
title = "A toy"
encoder = "videomae:tiny"
decoder = "single-task"
status = "re-trained"

[toy-cascade]
encoder = "lgi-former:tiny"
decoder = "cascade"
published = "MTCAE-DFER"
under = "the paper's own"
settings = { lr = 2e-3 }

[toy-network]
encoder = { preset = "resnet:tiny", over = "frames", stem_frames = 1, batch_norm = { clips = 2, momentum = 0.1 } }
decoder = "lstm"
recipe = "vo-lstm"

[broken]
encoder = "videomae:gigantic"
decoder = "cascade"
"#;

fn given() -> Table {
    toml::from_str(
        "epochs = 1\nbatch = 7\nfolds = 3\nvalidation = 0\ntune = \"all\"\ngradients = false\nsave_every = 1",
    )
    .expect("settings")
}

fn systems(place: &Place, names: &[&str]) -> Vec<System> {
    let path = place.path("systems.toml");
    std::fs::write(&path, DEFINED).expect("written");
    let mut systems = Systems::known().expect("the paper's");
    systems.define(&path).expect("defined");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    systems.named(&names).expect("known")
}

fn data(place: &Place) -> Dataset {
    let config = TrainConfig {
        folds: 3,
        ..common::plain()
    };
    Dataset::read(&place.labels, &Selection::default(), &config).expect("read")
}

fn run(
    place: &Place,
    folder: &Path,
    names: &[&str],
    seeds: &[u64],
    mut stop: impl FnMut(&Event<'_>) -> bool,
) -> Result<(String, Vec<Failure>), Error> {
    let comparison = Comparison {
        folder,
        systems: &systems(place, names),
        size: Size::Small,
        track: Track::Paper,
        seeds,
        data: &Arc::new(data(place)),
        settings: &given(),
        device: &Device::Cpu,
        machine: "a test",
    };
    compare(
        &comparison,
        &mut |_, _, _| (),
        &mut |event| match stop(event) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        },
    )
}

/// A table without what a clock or an operating system measured.
fn timeless(table: &str) -> String {
    let (before, rest) = table.split_once("## What it costs").expect("costs");
    let (_, after) = rest.split_once("## What each row is").expect("rows");
    format!("{before}{after}")
}

#[test]
fn a_comparison_that_was_stopped_twice_comes_to_the_same_tables() {
    let place = Place::new();
    let names = ["toy", "toy-cascade", "toy-network"];
    let whole = place.path("whole");
    let (table, failures) = run(&place, &whole, &names, &[3], |_| false).expect("done");
    assert!(failures.is_empty(), "{failures:?}");

    let stopped = place.path("stopped");
    for steps in [3, 11] {
        let mut seen = 0;
        let cut = run(&place, &stopped, &names, &[3], |event| {
            seen += usize::from(matches!(event, Event::Step(_)));
            seen == steps
        });
        assert!(matches!(cut, Err(Error::Cancelled)), "stopped");
    }
    let (again, _) = run(&place, &stopped, &names, &[3], |_| false).expect("done");
    assert_eq!(timeless(&again), timeless(&table));
    for name in names {
        let said = |of: &Path| {
            let path = of.join(name).join("seed-3").join(PREDICTIONS);
            std::fs::read(path).expect("predictions")
        };
        assert_eq!(said(&whole), said(&stopped), "{name}");
        assert!(!whole.join(name).join("seed-3.start").exists());
    }

    // What the table says is what was predicted, measured by what evaluates.
    let (results, classes) =
        read_table(&whole.join("toy/seed-3").join(PREDICTIONS)).expect("a table");
    let summary = summarise(&results, &classes, None).expect("measured");
    let uar = format!("| A toy | re-trained | {:.2} ±", 100.0 * summary.uar);
    assert!(table.contains(&uar), "{table}");
    assert!(table.contains("UAR less toy-cascade's"), "{table}");

    // Nothing else is needed to make it again.
    std::fs::remove_file(whole.join("table.md")).expect("removed");
    assert_eq!(tables(&whole).expect("made again"), table);
    let page = std::fs::read_to_string(whole.join("table.html")).expect("a page");
    assert!(page.contains("<td>A toy</td>") && page.ends_with("</html>\n"));

    // Done is done; and another seed or system adds to it.
    let (_, failures) = run(&place, &whole, &["toy"], &[3], |event| {
        matches!(event, Event::Step(_))
    })
    .expect("nothing to do");
    assert!(failures.is_empty());
    // A cell of other clips is no part of it.
    let path = whole.join("toy/seed-3").join(PREDICTIONS);
    let text = std::fs::read_to_string(&path).expect("predictions");
    let shorter: Vec<&str> = text.lines().take(5).collect();
    std::fs::write(&path, shorter.join("\n")).expect("written");
    let error = tables(&whole).expect_err("too few").to_string();
    assert!(
        error.contains("4 rows of 4 clips, and the comparison 21"),
        "{error}"
    );
}

#[test]
fn a_system_that_fails_does_not_lose_the_others_and_is_tried_again() {
    let place = Place::new();
    let folder = place.path("compared");
    for _ in 0..2 {
        let (table, failures) =
            run(&place, &folder, &["broken", "toy"], &[0], |_| false).expect("done");
        assert_eq!(failures.len(), 1);
        let reason = &failures[0].reason;
        assert!(
            reason.contains("gigantic") && reason.contains("tiny"),
            "{reason}"
        );
        assert!(table.contains("| A toy | re-trained |"), "{table}");
        assert!(
            table.contains("## Missing\n\n- broken, seed 0: "),
            "{table}"
        );
    }
    let error = |names: &[&str], seeds: &[u64]| {
        let comparison = run(&place, &folder, names, seeds, |_| false);
        comparison.err().map(|e| e.to_string())
    };
    assert_eq!(error(&["toy"], &[0]), None);
    // Another definition under the same name.
    let other = DEFINED.replace("single-task", "shared-mlp");
    let path = place.path("other.toml");
    std::fs::write(&path, other).expect("written");
    let mut defined = Systems::known().expect("the paper's");
    defined.define(&path).expect("defined");
    let systems = defined.named(&["toy".to_owned()]).expect("known");
    let comparison = Comparison {
        folder: &folder,
        systems: &systems,
        size: Size::Small,
        track: Track::Paper,
        seeds: &[0],
        data: &Arc::new(data(&place)),
        settings: &given(),
        device: &Device::Cpu,
        machine: "a test",
    };
    let said = compare(&comparison, &mut |_, _, _| (), &mut |_| {
        ControlFlow::Continue(())
    });
    let said = said.expect_err("another definition").to_string();
    assert!(
        said.contains("compare.json") && said.contains("toy.decoder was \"single-task\""),
        "{said}"
    );
}

#[test]
fn what_cannot_be_compared_is_said_at_once() {
    let place = Place::new();
    let known = Systems::known().expect("the paper's");
    let named = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        known.named(&names).expect_err("refused").to_string()
    };
    assert_eq!(
        named(&["mnc", "svfap", "mnc"]),
        "systems: mnc is named twice"
    );
    assert!(named(&["mtl"]).starts_with("systems: there is no \"mtl\"; known: vo-lstm,"));
    let path = place.path("bad.toml");
    for (text, words) in [
        ("[a]\ndecoder = \"cascade\"", "[a]: `encoder` is missing"),
        ("[a]\nencoder = \"vit\"", "[a]: \"vit\" is not FAMILY:SIZE"),
        ("[mnc]\ncolour = 1", "[mnc]: unknown field `colour`"),
        (
            "[mnc.settings]\nlearning = 1",
            "[mnc.settings]: settings: there is no setting \"learning\"",
        ),
        ("[mnc.settings]\nlr = \"fast\"", "[mnc.settings]: lr: "),
        ("[\"../a\"]\n", "is to be a folder's name too"),
        ("[a", "bad.toml"),
    ] {
        std::fs::write(&path, text).expect("written");
        let error = known
            .clone()
            .define(&path)
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("bad.toml") && error.contains(words),
            "{error}"
        );
    }
    for (dataset, track, words) in [
        (
            "mead",
            Track::Native,
            "track: native: nobody has published a protocol of MEAD",
        ),
        (
            "ravdess",
            Track::Paper,
            "track: paper has 7 classes of ravdess, and the labels have 3: angry",
        ),
        ("ravdess", Track::Native, "track: native has 8 classes"),
        (
            "crema-d",
            Track::Native,
            "track: native has 6 classes of crema-d",
        ),
    ] {
        let mut data = data(&place);
        data.dataset = dataset.to_owned();
        let error = track.apply(&mut data).expect_err("refused").to_string();
        assert!(error.starts_with(words), "{error}");
    }
    let mut none = data(&place);
    none.folds = 0;
    let error = Track::Paper
        .apply(&mut none)
        .expect_err("no folds")
        .to_string();
    assert!(error.contains("have no folds; --folds K"), "{error}");
}

#[test]
fn ravdess_has_the_classes_and_folds_of_each_track() {
    use mtcae_labels::dataset::ravdess::expression_of;
    assert_eq!(
        expression_of("Actor_12/01-01-02-01-01-01-12.mp4"),
        Some("calm")
    );
    assert_eq!(
        expression_of("Actor_12/01-01-01-01-01-01-12.mp4"),
        Some("neutral")
    );
    assert_eq!(expression_of("portrait.mp4"), None);
    let place = Place::new();
    let mut data = data(&place);
    data.dataset = "ravdess".to_owned();
    data.classes = (0..8).map(|n| format!("c{n}")).collect();
    let template = data.items[0].clone();
    data.items = (1..=24)
        .map(|actor| {
            let mut item = template.clone();
            item.subject = format!("{actor:02}");
            item
        })
        .collect();
    Track::Native.apply(&mut data).expect("24 actors");
    let folds: Vec<u32> = data.items.iter().map(|item| item.fold).collect();
    assert_eq!(data.folds, 6);
    assert_eq!(folds[..8], [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(folds[20..], [5, 5, 5, 5]);
    data.items[3].subject = "s3".to_owned();
    let error = Track::Native
        .apply(&mut data)
        .expect_err("no actor")
        .to_string();
    assert!(
        error.contains("24 actors") && error.contains("\"s3\""),
        "{error}"
    );
}
