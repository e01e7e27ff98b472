//! What `train` of commit e3dce91 wrote (`fixtures/e3dce91`): a finished run and the
//! cache of features are taken up, a cross-validation is refused in one line.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use mtcae_train::{
    CrossValidation, Dataset, Event, FeatureCache, LOG, PREDICTIONS, Recipe, Run, STATE, Selection,
    Start, TrainConfig, Tune, cross_validate, fit, predict, read_table, write_table,
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
    Start::encoder_of(set().join("start"), structure, &data.classes).expect("a start")
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

/// It takes no further step, and its model says of the held-out clips what it said.
#[test]
fn a_finished_run_is_taken_up() {
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
    let fitted = fit(&run, &mut no_step).expect("taken up");
    for name in [STATE, LOG] {
        assert!(
            bytes(&folder, name) == bytes(&set().join("run"), name),
            "{name}"
        );
    }
    let (model, source) = (&fitted.started.model, &fitted.source);
    let said = predict(
        model,
        source,
        &data,
        &split.test,
        None,
        &config,
        &Device::Cpu,
        &mut no_step,
    );
    let (said, _) = said.expect("predicted");
    let (before, _) = read_table(&folder.join(PREDICTIONS)).expect("a table");
    assert_eq!(said.len(), before.len());
    for (said, before) in said.iter().zip(&before) {
        assert_eq!((&said.file, said.class), (&before.file, before.class));
        for (p, q) in said.probabilities.iter().zip(&before.probabilities) {
            // The last bits of an `f32`, of sums in another order.
            assert!((p - q).abs() <= 1e-5, "{}: {p} and {q}", said.file);
        }
    }
}

/// No feature is computed again. Results of folds lacked what an answer by chance gives:
/// they are refused, and nothing is touched.
#[test]
fn a_cross_validation_is_known_and_its_results_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (folds, cache) = (copied("folds", &folder), copied("cache", &folder));
    let config = TrainConfig {
        tune: Tune::Decoder,
        ..settings()
    };
    let data = data(&config);
    let start = start(&data);
    let mut lacked = usize::MAX;
    let opened = FeatureCache::of(&start, &data, &config, &cache, &Device::Cpu, &mut |event| {
        if let Event::Cache { missing, .. } = event {
            lacked = *missing;
        }
        ControlFlow::Continue(())
    });
    assert_eq!(opened.expect("a cache").tokens(), 8);
    assert_eq!(lacked, 0, "the cache was not found");

    // The set lies elsewhere than where it was made.
    let path = folds.join("run.json");
    let run = std::fs::read_to_string(&path).expect("run.json");
    let labels = data.labels.display().to_string();
    std::fs::write(&path, run.replace("clips/labels.jsonl", &labels)).expect("written");
    let cv = CrossValidation {
        folder: &folds,
        start: &start,
        data: &data,
        cache: Some(&cache),
        save_models: true,
        config: &config,
        device: &Device::Cpu,
    };
    let refusal = cross_validate(&cv, &mut no_step).expect_err("results of another version");
    let said = refusal.to_string();
    assert!(said.contains("fold-0/fold.json"), "{said}");
    assert!(
        said.contains("delete it to train this fold again"),
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
