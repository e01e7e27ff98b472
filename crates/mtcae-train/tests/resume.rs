//! A run that is stopped and resumed is the run that was not: losses, validation
//! and final weights are equal to the bit. A state that cannot be gone on from is
//! refused by name.

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;
use common::{Place, busy, log, losses, plain};
use mtcae_train::{
    EraseFill, Error, Event, Fitted, Keep, LOG, Method, Run, STATE, Schedule, Start, TrainConfig,
    Tune, fit, predict,
};

/// Runs until `stop` says so of a step; `None` when it did.
fn run(
    place: &Place,
    config: &TrainConfig,
    folder: &Path,
    stop: impl Fn(u64) -> bool,
) -> Result<Option<Fitted>, Error> {
    let data = place.data(config);
    let start = Start::checkpoint(&place.checkpoint)?;
    let split = data.split(Some(0), config)?;
    let run = Run {
        name: "test",
        folder,
        start: &start,
        data: &data,
        split: &split,
        cache: None,
        config,
        device: &Device::Cpu,
    };
    let fitted = fit(&run, &mut |event| match event {
        Event::Step(line) if stop(line.step) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    match fitted {
        Ok(fitted) => Ok(Some(fitted)),
        Err(Error::Cancelled) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All weights, bit by bit.
fn weights(fitted: &Fitted) -> Vec<(String, Vec<u32>)> {
    let bits = |(name, var): (String, candle_core::Var)| {
        let values: Vec<f32> = var.flatten_all().and_then(|t| t.to_vec1()).expect("read");
        (name, values.into_iter().map(f32::to_bits).collect())
    };
    fitted.started.store.vars().into_iter().map(bits).collect()
}

/// Stops after each of `stops` in turn, then goes on to the end.
fn in_pieces(place: &Place, config: &TrainConfig, folder: &Path, stops: &[u64]) -> Fitted {
    for &at in stops {
        let stopped = run(place, config, folder, |step| step == at).expect("a piece");
        assert!(stopped.is_none(), "step {at} was never reached");
    }
    let last = run(place, config, folder, |_| false).expect("the rest");
    last.expect("not stopped")
}

fn same(place: &Place, config: &TrainConfig, name: &str, pieces: &[&[u64]]) {
    let whole = place.path(&format!("{name}-whole"));
    let reference = run(place, config, &whole, |_| false)
        .expect("a run")
        .expect("whole");
    let (want, lines) = (weights(&reference), log(&whole));
    for stops in pieces {
        let folder = place.path(&format!("{name}-{stops:?}"));
        let fitted = in_pieces(place, config, &folder, stops);
        assert_eq!(log(&folder), lines, "{name}, stopped after {stops:?}");
        assert_eq!(losses(&folder), losses(&whole));
        assert_eq!(fitted.epoch, reference.epoch);
        assert!(weights(&fitted) == want, "{name}: weights after {stops:?}");
        let probabilities = |fitted: &Fitted| said(place, config, fitted);
        assert_eq!(probabilities(&fitted), probabilities(&reference));
    }
}

/// The probabilities of the held-out clips.
fn said(place: &Place, config: &TrainConfig, fitted: &Fitted) -> Vec<Vec<f64>> {
    let data = place.data(config);
    let test = data.split(Some(0), config).expect("a split").test;
    let engine = fitted.started.engine(config, &Device::Cpu);
    let results = predict(
        &engine.expect("an engine"),
        &fitted.source,
        &test,
        None,
        &mut |_| ControlFlow::Continue(()),
    );
    let (results, _) = results.expect("predicted");
    results.into_iter().map(|r| r.probabilities).collect()
}

/// Two batches a step, moving average, mixup, drop path and flips.
#[test]
fn stopped_anywhere_with_everything_on() {
    let place = Place::new();
    let config = busy();
    // 21 clips, a third held out, a quarter of the rest for validation: at least
    // two steps an epoch.
    same(
        &place,
        &config,
        "busy",
        &[&[0], &[1], &[2], &[3], &[0, 1, 3, 4], &[4], &[5]],
    );
}

/// State saved at the ends of epochs alone: lost steps are taken again, and their
/// lines in the log are not there twice.
#[test]
fn steps_since_the_last_save_are_taken_again() {
    let place = Place::new();
    let config = TrainConfig {
        save_every: 0,
        mixup: 0.0,
        cutmix: 1.0,
        trim: 0.1,
        ..busy()
    };
    same(&place, &config, "epochs", &[&[0, 1], &[1, 3, 3], &[2, 4]]);
    let config = TrainConfig {
        save_every: 2,
        accumulate: 1,
        tune: Tune::Last(1),
        ema: 0.0,
        keep: Keep::Best,
        ..busy()
    };
    same(&place, &config, "best", &[&[0, 2, 4], &[3, 6], &[5]]);
}

/// Each optimiser, and all that varies clips after their frames were decoded.
#[test]
fn other_optimisers_and_augmentations_go_on_to_the_bit() {
    let place = Place::new();
    for (optimiser, name) in [(Method::Adam, "adam"), (Method::Sgd, "sgd")] {
        let config = TrainConfig {
            optimiser,
            encoder_lr: 0.1,
            schedule: Schedule::Poly,
            rand_augment: "rand-m7-n4-mstd0.5-p1-inc1".parse().expect("known"),
            crop: 0.3,
            free_crop: true,
            erase: 0.5,
            erase_fill: EraseFill::Pixel,
            ..busy()
        };
        same(&place, &config, name, &[&[0, 3], &[2]]);
    }
}

/// A state that was saved when there were fewer settings is taken up by those who ask for
/// nothing else, and refused by name to others.
#[test]
fn a_state_from_before_a_setting_is_gone_on_from() {
    let place = Place::new();
    let (config, folder) = (busy(), place.path("earlier"));
    let stopped = run(&place, &config, &folder, |step| step == 2).expect("a piece");
    assert!(stopped.is_none());
    let state = folder.join(STATE);
    let bytes = std::fs::read(&state).expect("read");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
    let (header, values) = bytes[8..].split_at(length as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).expect("a header");
    let about = &mut header["__metadata__"]["mtcae-train"];
    let mut inner: serde_json::Value =
        serde_json::from_str(about.as_str().expect("a text")).expect("json");
    let config_of = &mut inner["run"]["config"];
    let mut settings: serde_json::Value =
        serde_json::from_str(config_of.as_str().expect("a text")).expect("json");
    for name in [
        "optimiser",
        "encoder_lr",
        "momentum",
        "drops",
        "rand_augment",
        "free_crop",
    ] {
        let removed = settings.as_object_mut().expect("fields").remove(name);
        removed.expect(name);
    }
    *config_of = settings.to_string().into();
    *about = inner.to_string().into();
    let mut header = header.to_string();
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    let mut old = (header.len() as u64).to_le_bytes().to_vec();
    old.extend(header.bytes());
    old.extend(values);
    std::fs::write(&state, old).expect("written");

    let other = TrainConfig {
        optimiser: Method::Sgd,
        ..config.clone()
    };
    let said = refusal(&place, &other, &folder);
    assert!(
        said.contains(r#"config.optimiser was "adamw", is "sgd""#),
        "{said}"
    );
    let whole = place.path("whole");
    let reference = run(&place, &config, &whole, |_| false).expect("a run");
    let fitted = run(&place, &config, &folder, |_| false).expect("the rest");
    assert!(weights(&fitted.expect("over")) == weights(&reference.expect("over")));
}

/// A run that is over says so again, and is not trained any further.
#[test]
fn a_finished_run_is_only_read() {
    let place = Place::new();
    let (config, folder) = (plain(), place.path("run"));
    let first = in_pieces(&place, &config, &folder, &[]);
    let files = |name: &str| std::fs::read(folder.join(name)).expect("read");
    let before = (files(STATE), files(LOG));
    let again = run(&place, &config, &folder, |_| panic!("a step was taken"))
        .expect("read")
        .expect("whole");
    assert!(weights(&first) == weights(&again));
    assert!(before == (files(STATE), files(LOG)));
}

fn refusal(place: &Place, config: &TrainConfig, folder: &Path) -> String {
    match run(place, config, folder, |_| panic!("a step was taken")) {
        Ok(_) => panic!("taken up"),
        Err(error) => error.to_string(),
    }
}

/// Nothing is trained from a state that is not this run's, and neither it nor the
/// log is touched.
#[test]
fn torn_damaged_and_foreign_states_are_refused_by_name() {
    let place = Place::new();
    let config = busy();
    let folder = place.path("run");
    let stopped = run(&place, &config, &folder, |step| step == 2).expect("a piece");
    assert!(stopped.is_none());
    let (state, log) = (folder.join(STATE), folder.join(LOG));
    let (whole, lines) = (
        std::fs::read(&state).expect("a state"),
        std::fs::read(&log).expect("a log"),
    );
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("8 bytes")) as usize;
    let damaged = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let foreign = std::fs::read(place.checkpoint.join("model.safetensors")).expect("weights");
    let cases = [
        ("torn in the tensors", whole[..whole.len() / 2].to_vec(), ""),
        ("torn in the header", whole[..header / 2].to_vec(), ""),
        ("empty", Vec::new(), ""),
        (
            "first tensor byte",
            damaged(header),
            "is damaged: its digest is wrong",
        ),
        (
            "last tensor byte",
            damaged(whole.len() - 1),
            "is damaged: its digest is wrong",
        ),
        (
            "weights of a model",
            foreign,
            "is not a saved state of a training run",
        ),
    ];
    for (what, bytes, words) in cases {
        std::fs::write(&state, &bytes).expect("written");
        let said = refusal(&place, &config, &folder);
        assert!(
            said.contains(STATE) && said.contains(words) && !said.contains('\n'),
            "{what}: {said}"
        );
        assert!(
            std::fs::read(&state).expect("read") == bytes,
            "{what}: kept"
        );
        assert!(std::fs::read(&log).expect("read") == lines, "{what}: kept");
    }
    std::fs::write(&state, &whole).expect("written");

    let others: [(TrainConfig, &str); 3] = [
        (
            TrainConfig { lr: 0.5, ..busy() },
            "config.lr was 0.003, is 0.5",
        ),
        (
            TrainConfig {
                epochs: 4,
                flip: false,
                ..busy()
            },
            "config.epochs was 3, is 4, config.flip was true, is false",
        ),
        (
            TrainConfig {
                drop_path: 0.1,
                ..busy()
            },
            "config.drop_path was 0.2, is 0.1",
        ),
    ];
    for (other, words) in others {
        let said = refusal(&place, &other, &folder);
        assert!(
            said.contains(STATE) && said.contains("another run") && said.contains(words),
            "{said}"
        );
    }
    // Another label: the same file, another class.
    let labels = std::fs::read_to_string(&place.labels).expect("labels");
    let relabelled = labels.replacen("\"class\":\"angry\"", "\"class\":\"sad\"", 1);
    assert_ne!(labels, relabelled);
    std::fs::write(&place.labels, relabelled).expect("written");
    let said = refusal(&place, &config, &folder);
    assert!(said.contains(STATE) && said.contains("clips"), "{said}");
    std::fs::write(&place.labels, labels).expect("written");
    // The log is shorter than the state says.
    std::fs::write(&log, &lines[..lines.len() / 2]).expect("written");
    let said = refusal(&place, &config, &folder);
    assert!(said.contains(LOG) && said.contains("bytes"), "{said}");
    // Nothing was lost: with the log back, the run goes on.
    std::fs::write(&log, &lines).expect("written");
    run(&place, &config, &folder, |_| false)
        .expect("the rest")
        .expect("whole");
}

/// Frozen weights are not in the state; others than those it began with are seen.
#[test]
fn another_frozen_encoder_is_refused() {
    let place = Place::new();
    let config = TrainConfig {
        tune: Tune::Decoder,
        ..busy()
    };
    let folder = place.path("run");
    run(&place, &config, &folder, |step| step == 1).expect("a piece");
    let structure = mtcae_model::decoder::Structure::Cascade;
    common::save_checkpoint(&place.checkpoint, structure, 2);
    let said = refusal(&place, &config, &folder);
    assert!(
        said.contains(STATE) && said.contains("frozen weights"),
        "{said}"
    );
}

/// How work is divided among threads changes no bit.
#[test]
fn one_thread_and_two_give_the_same_losses() {
    let place = Place::new();
    for config in [
        busy(),
        TrainConfig {
            workers: 1,
            queue: 1,
            ..plain()
        },
    ] {
        let on = |threads: usize, workers: usize| {
            let name = format!("threads-{threads}-{workers}-{}", config.tune);
            let folder = place.path(&name);
            let config = TrainConfig {
                workers,
                ..config.clone()
            };
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            let fitted = pool
                .install(|| run(&place, &config, &folder, |_| false))
                .expect("a run")
                .expect("whole");
            (log(&folder), weights(&fitted))
        };
        let want = on(1, 1);
        for (threads, workers) in [(2, 1), (2, 3), (5, 2)] {
            assert!(
                on(threads, workers) == want,
                "{threads} threads, {workers} workers"
            );
        }
    }
}

/// A step of two small batches is one of a large one, the last and smaller one too.
#[test]
fn accumulated_batches_count_by_their_clips() {
    let place = Place::new();
    let losses = |batch: usize, accumulate: usize| {
        let config = TrainConfig {
            batch,
            accumulate,
            epochs: 3,
            ..plain()
        };
        let folder = place.path(&format!("batches-of-{batch}"));
        run(&place, &config, &folder, |_| false)
            .expect("a run")
            .expect("whole");
        let lines = mtcae_train::log::read(folder.join(LOG)).expect("a log");
        let steps = lines.into_iter().filter_map(|line| match line {
            mtcae_train::log::Line::Step(step) => Some((step.loss, step.gradient_norm)),
            mtcae_train::log::Line::Epoch(_) => None,
        });
        steps.collect::<Vec<_>>()
    };
    let (whole, parts) = (losses(6, 1), losses(3, 2));
    assert_eq!(whole.len(), parts.len());
    for (a, b) in whole.iter().zip(&parts) {
        // Sums of another order, through as many steps.
        assert!((a.0 - b.0).abs() < 1e-5 * a.0, "{a:?} {b:?}");
        assert!((a.1 - b.1).abs() < 1e-3 * a.1, "{a:?} {b:?}");
    }
}
