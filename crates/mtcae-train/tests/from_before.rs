//! What `train` of commit e3dce91 wrote (`fixtures/e3dce91`): a finished run and the
//! cache of features are taken up, a cross-validation is refused in one line.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use mtcae_train::{
    CrossValidation, Dataset, Event, FeatureCache, LOG, PREDICTIONS, Recipe, Run, STATE, Selection,
    Start, TrainConfig, Tune, cross_validate, fit, read_table, write_table,
};

fn set() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/e3dce91")
}

/// A copy, since what is taken up may be written again.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let (from, to) = entry
            .map(|e| (e.path(), to.join(e.file_name())))
            .expect("an entry");
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(std::fs::copy(from, to).expect("copied")),
        }
    }
}

fn copied(name: &str, to: &tempfile::TempDir) -> PathBuf {
    let to = to.path().join(name);
    copy(&set().join(name), &to);
    to
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).expect(name)
}

/// The settings of `make.sh`.
fn settings() -> TrainConfig {
    TrainConfig {
        epochs: 2,
        batch: 2,
        lr: 0.01,
        folds: 2,
        validation: 0.5,
        workers: 2,
        ..TrainConfig::recipe(Recipe::Paper)
    }
}

fn data(config: &TrainConfig) -> Arc<Dataset> {
    let labels = set().join("clips/labels.jsonl");
    Arc::new(Dataset::read(&labels, &Selection::default(), config).expect("the labels"))
}

fn start(data: &Dataset) -> Start {
    let structure = "cascade".parse().expect("a structure");
    let start = Start::checkpoint(set().join("start")).expect("a start");
    start
        .with_decoder(structure, &data.classes, &[])
        .expect("a decoder")
}

fn no_step(event: &Event<'_>) -> ControlFlow<()> {
    assert!(!matches!(event, Event::Step(_)), "a step was taken");
    ControlFlow::Continue(())
}

#[test]
fn tables_are_written_as_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["run", "folds", "folds/fold-0", "folds/fold-1"] {
        let table = set().join(name).join(PREDICTIONS);
        let (results, classes) = read_table(&table).expect("a table");
        let again = folder.path().join(PREDICTIONS);
        write_table(&again, &results, &classes).expect("written");
        assert!(bytes(folder.path(), PREDICTIONS) == std::fs::read(table).expect("read"));
    }
}

/// What identifies a run is made of other bytes now: its state is refused, and nothing is
/// touched. Its model and its log are read as ever.
#[test]
fn the_state_of_a_run_is_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = copied("run", &place);
    let config = TrainConfig {
        accumulate: 2,
        ema: 0.9,
        mixup: 0.8,
        drop_path: 0.2,
        flip: true,
        crop: 0.7,
        save_every: 1,
        tune: Tune::All,
        ..settings()
    };
    let data = data(&config);
    let split = data.split(Some(0), &config).expect("a split");
    let run = Run {
        name: "test",
        folder: &folder,
        start: &start(&data),
        data: &data,
        split: &split,
        cache: None,
        config: &config,
        device: &Device::Cpu,
    };
    let refused = fit(&run, &mut no_step).map(drop);
    let said = refused.expect_err("another version").to_string();
    assert!(
        said.contains(STATE) && said.contains("of format mtcae-train/1, not mtcae-train/2"),
        "{said}"
    );
    assert!(said.contains("take another folder") && said.lines().count() == 1);
    for name in [STATE, LOG] {
        let before = bytes(&set().join("run"), name);
        assert!(bytes(&folder, name) == before, "{name}");
    }
    assert!(
        !mtcae_train::log::read(folder.join(LOG))
            .expect("a log")
            .is_empty()
    );
    Start::checkpoint(folder.join("model")).expect("its model");
}

/// Features are computed anew beside those of before, which a line names. The folder of a
/// cross-validation is refused, and nothing in it is touched.
#[test]
fn a_cross_validation_is_refused_and_a_cache_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (folds, cache) = (copied("folds", &folder), copied("cache", &folder));
    let config = TrainConfig {
        tune: Tune::Decoder,
        ..settings()
    };
    let data = data(&config);
    let start = start(&data);
    let old = std::fs::read_dir(&cache).expect("a folder").next();
    let old = old.expect("a cache").expect("an entry").path();
    let before = std::fs::read(&old).expect("read");
    let (mut lacked, mut notices) = (0, Vec::new());
    let opened = FeatureCache::open(&cache, &start, &data, &config, &Device::Cpu, &mut |event| {
        match event {
            Event::Cache { missing, .. } => lacked = *missing,
            Event::Notice(notice) => notices.push((*notice).to_owned()),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert_eq!(opened.expect("a cache").tokens(), 8);
    assert_eq!(lacked, data.items.len());
    let named = |notice: &String| {
        notice.starts_with(&old.display().to_string()) && notice.contains("earlier version")
    };
    assert!(notices.iter().any(named), "{notices:?}");
    assert!(std::fs::read(&old).expect("read") == before);

    let cv = CrossValidation {
        folder: &folds,
        start: &start,
        data: &data,
        cache: Some(&cache),
        save_models: true,
        test: None,
        config: &config,
        device: &Device::Cpu,
    };
    let refusal = cross_validate(&cv, &mut no_step).expect_err("another version");
    let said = refusal.to_string();
    assert!(
        said.contains("run.json") && said.contains("take another folder"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    for name in [
        "metrics.jsonl",
        PREDICTIONS,
        "report.md",
        "fold-0/fold.json",
    ] {
        assert!(
            bytes(&folds, name) == bytes(&set().join("folds"), name),
            "{name}"
        );
    }
}
