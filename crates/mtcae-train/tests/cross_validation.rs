//! Cross-validation and ablation: no subject on both sides, and a run that was
//! stopped gives the report of one that was not.

mod common;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use common::{CLASSES, Place, plain};
use mtcae_model::Checkpoint;
use mtcae_model::decoder::Structure;
use mtcae_train::objective::Bootstrap;
use mtcae_train::{
    Ablation, CrossValidation, Dataset, Error, Event, PREDICTIONS, Recipe, Report, Run, Selection,
    Start, TrainConfig, ablate, cross_validate, fit, read_table, summarise,
};

const FOLDS: u32 = 3;

fn config() -> TrainConfig {
    TrainConfig {
        validation: 0.3,
        save_every: 2,
        lr: 3e-3,
        ..plain()
    }
}

/// Runs until the `stop`-th event that `counts`.
fn run(
    place: &Place,
    config: &TrainConfig,
    name: &str,
    stop: impl Fn(&Event<'_>) -> bool,
) -> Result<Report, Error> {
    let data = place.data(config);
    let start = Start::checkpoint(&place.checkpoint)?;
    let (folder, cache) = (place.path(name), place.path("cache"));
    let cv = CrossValidation {
        folder: &folder,
        start: &start,
        data: &data,
        cache: name.contains("cached").then_some(&cache),
        save_models: true,
        test: None,
        config,
        device: &Device::Cpu,
    };
    cross_validate(&cv, &mut |event| match stop(event) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })
}

fn subjects(data: &Dataset, places: &[usize]) -> BTreeSet<String> {
    let of = |&i: &usize| data.items[i].subject.clone();
    places.iter().map(of).collect()
}

#[test]
fn no_subject_is_on_two_sides_of_a_split() {
    let place = Place::new();
    for seed in 0..20 {
        let config = TrainConfig { seed, ..config() };
        let data = place.data(&config);
        let mut tested = Vec::new();
        for fold in 0..FOLDS {
            let split = data.split(Some(fold), &config).expect("a split");
            let train = subjects(&data, &split.train);
            let validation = subjects(&data, &split.validation);
            let test = subjects(&data, &split.test);
            assert!(train.is_disjoint(&test), "{train:?} {test:?}");
            assert!(train.is_disjoint(&validation), "{train:?} {validation:?}");
            assert!(validation.is_disjoint(&test), "{validation:?} {test:?}");
            assert!(!train.is_empty() && !validation.is_empty() && !test.is_empty());
            let all = split.train.len() + split.validation.len() + split.test.len();
            assert_eq!(all, data.items.len());
            tested.extend(split.test);
        }
        tested.sort_unstable();
        assert_eq!(tested, (0..data.items.len()).collect::<Vec<_>>());
        let split = data.split(None, &config).expect("a split");
        assert!(split.test.is_empty());
        let train = subjects(&data, &split.train);
        assert!(train.is_disjoint(&subjects(&data, &split.validation)));
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn stopped_and_gone_on_with_it_gives_the_same_report() {
    let place = Place::new();
    let config = config();
    let whole = run(&place, &config, "whole", |_| false).expect("a report");

    // Stopped at the start of the second fold, in its middle, and in the test of
    // the third.
    let second = |event: &Event<'_>| matches!(event, Event::Start { name, .. } if name.starts_with("fold 1 "));
    assert!(matches!(
        run(&place, &config, "pieces", second),
        Err(Error::Cancelled)
    ));
    assert!(place.path("pieces/fold-0/fold.json").is_file());
    assert!(!place.path("pieces/fold-1/fold.json").is_file());
    let middle = |event: &Event<'_>| matches!(event, Event::Step(line) if line.step == 3);
    let stopped = run(&place, &config, "pieces", middle);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let epochs = std::cell::Cell::new(0);
    let in_test = |event: &Event<'_>| {
        if matches!(event, Event::Epoch(_)) {
            epochs.set(epochs.get() + 1);
        }
        // Two epochs of the second fold may be left, then two of the third.
        matches!(event, Event::Predicted { done, .. } if epochs.get() >= 2 && *done > 0)
    };
    let _ = run(&place, &config, "pieces", in_test);
    let steps = std::cell::Cell::new(0);
    let rest = run(&place, &config, "pieces", |event| {
        if matches!(event, Event::Step(_)) {
            steps.set(steps.get() + 1);
        }
        false
    });
    assert_eq!(rest.expect("a report"), whole);
    for file in ["metrics.jsonl", "report.md", PREDICTIONS] {
        let [a, b] = ["whole", "pieces"].map(|run| text(&place.path(run).join(file)));
        assert_eq!(a, b, "{file}");
    }
    // All is done: nothing is trained again.
    let again = run(&place, &config, "pieces", |event| {
        assert!(!matches!(event, Event::Step(_)), "a step was taken");
        false
    });
    assert_eq!(again.expect("a report"), whole);

    let folder = place.path("whole");
    let mut pictures = vec!["confusion.png".to_owned()];
    pictures.extend((0..FOLDS).map(|k| format!("fold-{k}/curves.png")));
    for picture in pictures {
        let bytes = std::fs::read(folder.join(&picture)).expect("a picture");
        assert_eq!(&bytes[1..4], b"PNG", "{picture}");
    }
    let report = text(&folder.join("report.md"));
    for words in ["| fold 2 |", "| pooled |", "| happy | 7 |", "confusion.png"] {
        assert!(report.contains(words), "{report}");
    }

    // Each clip is tested once, by the fold that never saw its subject.
    let data = place.data(&config);
    let (pooled, classes) = read_table(&folder.join(PREDICTIONS)).expect("a table");
    assert_eq!(classes, CLASSES);
    let files: BTreeSet<&String> = pooled.iter().map(|r| &r.file).collect();
    assert_eq!((files.len(), pooled.len()), (21, 21));
    for fold in 0..FOLDS {
        let table = folder.join(format!("fold-{fold}")).join(PREDICTIONS);
        let (results, _) = read_table(&table).expect("a table");
        let split = data.split(Some(fold), &config).expect("a split");
        let mut seen = subjects(&data, &split.train);
        seen.extend(subjects(&data, &split.validation));
        assert!(
            results
                .iter()
                .all(|r| r.fold == fold && !seen.contains(&r.subject))
        );
        let result = &whole.folds[fold as usize];
        assert_eq!(
            summarise(&results, &classes, Some(&Bootstrap::default())).expect("measured"),
            result.summary
        );
        assert_eq!(
            (result.train, result.validation, result.test),
            (split.train.len(), split.validation.len(), split.test.len())
        );
        // What was tested is what was saved.
        let model = folder.join(format!("fold-{fold}/model"));
        let saved = Checkpoint::open(&model).expect("a checkpoint");
        let saved = saved.config();
        let held_out = subjects(&data, &split.test);
        let words = format!(
            "squares: {} clips of {} people; held out was fold {fold} of 3 dealt by seed 0, {} people",
            split.train.len(),
            subjects(&data, &split.train).len(),
            held_out.len(),
        );
        assert_eq!(saved.trained_on.as_ref(), Some(&words));
        // Whom it has seen it knows, and nobody else, and names none of them.
        let known = saved.trained_subjects.clone().expect("subjects");
        assert!(known.complete);
        assert_eq!(known.digests.len(), seen.len());
        assert!(seen.iter().all(|s| known.has("squares", s)));
        assert!(!held_out.iter().any(|s| known.has("squares", s)));
        let json = text(&model.join("config.json"));
        for subject in seen.iter().chain(&held_out) {
            assert!(
                !json.contains(&format!("\"{subject}\"")) && !words.contains(&subject[..]),
                "{json}"
            );
        }
        let measured = data.acquaintance(&split.test, saved);
        assert_eq!(
            (measured.people, measured.trained_on),
            (held_out.len(), Some(0))
        );
        let flattered = data.acquaintance(&[&split.train[..2], &split.test].concat(), saved);
        assert!(flattered.trained_on.is_some_and(|n| n > 0) && !flattered.names.is_empty());
        for left in ["state.safetensors", "best.safetensors"] {
            let left = folder.join(format!("fold-{fold}")).join(left);
            assert!(!left.exists(), "{}", left.display());
        }
    }
    // The numbers of the report are those of the table.
    let measured = summarise(&pooled, &classes, Some(&Bootstrap::default()));
    assert_eq!(measured.expect("measured"), whole.pooled);
}

#[test]
fn from_a_cache_and_with_other_settings_or_labels() {
    let place = Place::new();
    let config = config();
    let middle = |event: &Event<'_>| matches!(event, Event::Step(line) if line.step == 1);
    assert!(run(&place, &config, "cached-pieces", middle).is_err());
    let whole = run(&place, &config, "cached-whole", |_| false).expect("a report");
    let rest = run(&place, &config, "cached-pieces", |_| false).expect("a report");
    assert_eq!(rest, whole);

    let other = TrainConfig {
        lr: 0.5,
        ..config.clone()
    };
    let said = run(&place, &other, "cached-whole", |_| false);
    let said = said.expect_err("others").to_string();
    assert!(
        said.contains("run.json") && said.contains("config.lr was 0.003, is 0.5"),
        "{said}"
    );
    // Without the cache the clips would be others.
    let folder = place.path("cached-whole");
    let renamed = place.path("whole");
    std::fs::rename(&folder, &renamed).expect("renamed");
    let said = run(&place, &config, "whole", |_| false);
    let said = said.expect_err("others").to_string();
    assert!(said.contains("features was \"cached\""), "{said}");
    std::fs::rename(&renamed, &folder).expect("renamed");
    let labels = text(&place.labels);
    let relabelled = labels.replacen("\"class\":\"angry\"", "\"class\":\"sad\"", 1);
    std::fs::write(&place.labels, relabelled).expect("written");
    let said = run(&place, &config, "cached-whole", |_| false);
    let said = said.expect_err("others").to_string();
    assert!(
        said.contains("run.json") && said.contains("clips"),
        "{said}"
    );
}

#[test]
fn an_ablation_compares_structures_on_the_same_folds() {
    let place = Place::new();
    let config = TrainConfig {
        epochs: 1,
        ..config()
    };
    let data: Arc<Dataset> = place.data(&config);
    let folder = place.path("ablation");
    let structures = [Structure::SingleTask, Structure::Cascade];
    let ablation = Ablation {
        folder: &folder,
        encoder: &Start::checkpoint(&place.checkpoint).expect("a start"),
        structures: &structures,
        seeds: &[4],
        data: &data,
        published: "ravdess",
        cache: Some(&place.path("cache")),
        config: &config,
        device: &Device::Cpu,
    };
    let mut caches = Vec::new();
    let table = ablate(&ablation, &mut |event| {
        if let Event::Cache { missing, .. } = event {
            caches.push(*missing);
        }
        ControlFlow::Continue(())
    });
    let table = table.expect("a table");
    // One encoder, one cache: the second structure finds it filled.
    assert_eq!(caches, [21, 0]);
    for words in [
        "| single-task | ",
        "| cascade | ",
        "1 seed of training (4)",
        // The labels' own name; the published figures are of another dataset, and say so.
        "# Structures of the decoder on squares",
        "The published figures are of RAVDESS (7 classes), on which nothing was measured here.",
        "| NME % |",
        "Chance: UAR 33.33 %, WAR 33.33 %",
        "3 subject-independent folds",
    ] {
        assert!(table.contains(words), "{table}");
    }
    assert_eq!(text(&folder.join("table.md")).trim_end(), table.trim_end());
    let rows: Vec<usize> = table
        .lines()
        .filter(|l| l.starts_with("| single-task |") || l.starts_with("| cascade |"))
        .map(|l| l.matches('|').count())
        .collect();
    let head = table.lines().find(|l| l.starts_with("| structure |"));
    let columns = head.expect("a head").matches('|').count();
    assert_eq!(rows, [columns; 2], "{table}");
    // Both were tested on the same clips.
    let tested = |structure: &str| {
        let path = folder
            .join(structure)
            .join("seed-4/fold-1")
            .join(PREDICTIONS);
        let (results, _) = read_table(&path).expect("a table");
        results.into_iter().map(|r| r.file).collect::<Vec<_>>()
    };
    assert_eq!(tested("single-task"), tested("cascade"));
    let again = ablate(&ablation, &mut |event| {
        assert!(!matches!(event, Event::Step(_)), "a step was taken");
        ControlFlow::Continue(())
    });
    assert_eq!(again.expect("a table"), table);
}

/// To test a model, folds are taken as they are, however few subjects there are.
#[test]
fn folds_are_those_of_the_labels_or_dealt_anew_and_said() {
    let place = Place::new();
    let with_folds = place.path("folds.jsonl");
    let labels = text(&place.labels);
    let in_fold = |line: &str| {
        // Subjects s0 to s6 in folds 0 to 3.
        let number: u32 = line.split("\"subject\":\"s").nth(1).expect("a subject")[..1]
            .parse()
            .expect("a number");
        line.replace("\"fold\":null", &format!("\"fold\":{}", number % 4)) + "\n"
    };
    let changed: String = labels.lines().map(in_fold).collect();
    std::fs::write(&with_folds, changed).expect("written");

    let data = Dataset::read_to_test(&with_folds, &Selection::default()).expect("read");
    assert_eq!((data.folds, data.items[3 * 5].fold), (4, 1));
    let four = TrainConfig {
        folds: 4,
        ..config()
    };
    let same = Dataset::read(&with_folds, &Selection::default(), &four).expect("read");
    assert_eq!(same.notices, [""; 0]);
    let folds = |d: &Dataset| d.items.iter().map(|i| i.fold).collect::<Vec<_>>();
    assert_eq!(folds(&same), folds(&data));
    // Unless another number is asked for, the labels' folds are kept.
    let unasked = TrainConfig {
        folds: TrainConfig::recipe(Recipe::Paper).folds,
        ..config()
    };
    let kept = Dataset::read(&with_folds, &Selection::default(), &unasked).expect("read");
    assert_eq!(
        (kept.folds, kept.dealt, folds(&kept)),
        (4, None, folds(&data))
    );
    assert_eq!(kept.notices, [""; 0]);
    let three = Dataset::read(&with_folds, &Selection::default(), &config()).expect("read");
    assert_eq!((three.folds, three.dealt), (3, Some(0)));
    assert_eq!(
        three.notices,
        [
            "the labels have 4 folds and 3 are asked for: people are dealt anew, by seed 0, and \
             fold 0 is no longer the labels' fold 0"
        ]
    );
    let without = Dataset::read_to_test(&place.labels, &Selection::default()).expect("read");
    assert_eq!(without.folds, 0);
    assert_eq!(
        place.data(&config()).notices,
        ["the labels have no folds: people are dealt to 3 by seed 0"]
    );

    // What is wrong with the file's folds is wrong whether they are used or not.
    let whole = text(&with_folds);
    for (from, to, words) in [
        ("\"fold\":1", "\"fold\":null", "1"),
        ("\"fold\":1", "\"fold\":2", "s1"),
    ] {
        std::fs::write(&with_folds, whole.replacen(from, to, 1)).expect("written");
        for config in [&four, &config()] {
            let said = Dataset::read(&with_folds, &Selection::default(), config).expect_err("torn");
            let said = said.to_string();
            assert!(
                said.contains("folds.jsonl") && said.contains(words),
                "{said}"
            );
        }
        assert!(Dataset::read_to_test(&with_folds, &Selection::default()).is_err());
    }

    let one: String = labels.lines().take(3).flat_map(|l| [l, "\n"]).collect();
    std::fs::write(&with_folds, one).expect("written");
    let data = Dataset::read_to_test(&with_folds, &Selection::default()).expect("read");
    assert_eq!((data.folds, data.items.len()), (0, 3));
    let said =
        Dataset::read(&with_folds, &Selection::default(), &config()).expect_err("one subject");
    let said = said.to_string();
    assert!(
        said.contains("folds.jsonl") && said.contains("1 subjects"),
        "{said}"
    );
    // Nobody asked for three.
    let data = Dataset::read(&with_folds, &Selection::default(), &unasked).expect("read");
    assert_eq!((data.folds, data.dealt), (0, None));
    let said = data.splits(&unasked).expect_err("one person").to_string();
    assert!(
        said.contains("folds.jsonl: its clips have no folds"),
        "{said}"
    );
}

#[test]
fn clips_of_other_classes_are_left_out_and_counted() {
    let place = Place::new();
    let only = ["happy".to_owned()];
    let selection = Selection {
        only: Some(&only),
        ..Selection::default()
    };
    let config = TrainConfig {
        validation: 0.0,
        ..config()
    };
    let whole = place.data(&config);
    let data = Dataset::read(&place.labels, &selection, &config).expect("read");
    assert_eq!(data.classes, only);
    let others = whole.items.len() - data.items.len();
    assert!(others > 0 && !data.items.is_empty());
    let words = format!("left out: {others} clips of other classes (");
    assert!(
        data.notices.iter().any(|n| n.starts_with(&words)),
        "{:?}",
        data.notices
    );

    // The logits of a model that knows more; its other classes need no clips.
    let classes: Vec<String> = CLASSES.map(str::to_owned).to_vec();
    let wider = Selection {
        classes: Some(&classes),
        ..selection
    };
    let data = Dataset::read(&place.labels, &wider, &config).expect("read");
    assert_eq!(data.classes, classes);
    data.split(Some(0), &config).expect("a split");

    for (classes, only, words) in [
        (None, "hapy", "no clip is of class \"hapy\"; there are "),
        (
            Some(&only[..]),
            "sad",
            "class \"sad\" is not one of the model's, which are happy",
        ),
    ] {
        let only = [only.to_owned()];
        let selection = Selection {
            classes,
            only: Some(&only),
            ..Selection::default()
        };
        let said = Dataset::read(&place.labels, &selection, &config).expect_err(words);
        assert!(said.to_string().contains(words), "{said}");
    }
}

/// A single run and a cross-validation do not take each other's folder.
#[test]
fn a_folder_is_of_one_run_or_of_a_cross_validation() {
    let place = Place::new();
    let config = TrainConfig {
        epochs: 1,
        ..config()
    };
    let data = place.data(&config);
    let start = Start::checkpoint(&place.checkpoint).expect("a start");
    let split = data.split(Some(0), &config).expect("a split");
    let single = |name: &str| {
        let one = Run {
            name: "training",
            folder: &place.path(name),
            start: &start,
            data: &data,
            split: &split,
            cache: None,
            config: &config,
            device: &Device::Cpu,
        };
        fit(&one, &mut |_| ControlFlow::Continue(())).map(drop)
    };
    single("single").expect("a run");
    let said = run(&place, &config, "single", |_| false).expect_err("a single run");
    assert!(said.to_string().contains("holds a single run"), "{said}");

    run(&place, &config, "folds", |_| false).expect("a report");
    let before = text(&place.path("folds/metrics.jsonl"));
    let said = single("folds").expect_err("a cross-validation");
    assert!(
        said.to_string().contains("holds a cross-validation"),
        "{said}"
    );
    assert_eq!(text(&place.path("folds/metrics.jsonl")), before);
}

#[test]
fn eyes_that_are_one_point_are_refused_by_name() {
    let place = Place::new();
    let labels = text(&place.labels);
    let mut clip: serde_json::Value =
        serde_json::from_str(labels.lines().nth(4).expect("a line")).expect("json");
    let points = &mut clip["tracks"][0]["faces"][2]["landmarks"];
    points[0] = points[1].clone();
    let spoilt: Vec<String> = labels
        .lines()
        .enumerate()
        .map(|(i, line)| {
            if i == 4 {
                clip.to_string()
            } else {
                line.to_owned()
            }
        })
        .collect();
    std::fs::write(&place.labels, spoilt.join("\n") + "\n").expect("written");
    let said =
        Dataset::read(&place.labels, &Selection::default(), &config()).expect_err("one point");
    let said = said.to_string();
    assert!(
        said.contains("s1-happy.mp4: both eyes of frame 2"),
        "{said}"
    );
}
