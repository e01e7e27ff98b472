//! However many ranks train, the run is the same one: losses, validation, weights and what the
//! model says are equal to the bit, also where it is gone on with by another number.

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use common::{CLASSES, Place, busy, log, losses, plain, save, save_checkpoint};
use mtcae_model::Config;
use mtcae_model::decoder::Structure;
use mtcae_model::encoder::{ClipGroups, ResNetConfig};
use mtcae_model::init::suited_decoder;
use mtcae_ranks::{Group, Solo, Threads};
use mtcae_train::{
    CrossValidation, Error, Event, FeatureCache, Keep, Ranks, Run, Start, TrainConfig, Tune,
    cross_validate_together, fit_together, predict_together,
};

/// What is left of a rank's run.
#[derive(Debug, PartialEq)]
struct Ended {
    epoch: usize,
    weights: Vec<(String, Vec<u32>)>,
    said: Vec<Vec<f64>>,
}

/// How a rank's run differs from that of the others, if it does.
type Change = fn(usize, TrainConfig) -> TrainConfig;

/// One rank's part of a run that stops at a step, or at none.
fn part(
    place: &Place,
    config: &TrainConfig,
    folder: &Path,
    stop: Option<u64>,
    cached: bool,
    group: &dyn Group,
) -> Result<Ended, Error> {
    let ranks = Ranks::Any(group);
    let data = place.data(config);
    // Of its own, where the test has one for it.
    let own = place.path(&format!("checkpoint-{}", group.rank()));
    let given = if own.exists() {
        &own
    } else {
        &place.checkpoint
    };
    let start = Start::checkpoint(given)?;
    let split = data.split(Some(0), config)?;
    let mut watch = |event: &Event<'_>| match event {
        Event::Step(line) if Some(line.step) == stop => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let cache = match cached {
        true => {
            let below = folder.join("cache");
            let cpu = Device::Cpu;
            let cache =
                FeatureCache::open_together(&below, &start, &data, config, &cpu, ranks, &mut watch);
            Some(Arc::new(cache?))
        }
        false => None,
    };
    let run = Run {
        name: "test",
        folder,
        start: &start,
        data: &data,
        split: &split,
        cache: cache.as_ref(),
        config,
        device: &Device::Cpu,
    };
    let fitted = fit_together(&run, ranks, &mut watch)?;
    let engine = fitted.started.engine(config, &Device::Cpu)?;
    let (results, _) = predict_together(
        &engine,
        &fitted.source,
        &split.test,
        None,
        ranks,
        &mut watch,
    )?;
    let bits = |(name, var): (String, candle_core::Var)| {
        let values: Vec<f32> = var.flatten_all().and_then(|t| t.to_vec1()).expect("read");
        (name, values.into_iter().map(f32::to_bits).collect())
    };
    Ok(Ended {
        epoch: fitted.epoch,
        weights: fitted.started.store.vars().into_iter().map(bits).collect(),
        said: results.into_iter().map(|r| r.probabilities).collect(),
    })
}

/// A run by so many ranks, each in a thread of its own; one is alone as it always was.
fn run(
    place: &Place,
    config: &TrainConfig,
    folder: &Path,
    size: usize,
    stop: Option<u64>,
    cached: bool,
    change: Change,
) -> Vec<Result<Ended, Error>> {
    if size == 1 {
        return vec![part(place, config, folder, stop, cached, &Solo)];
    }
    std::thread::scope(|scope| {
        let ranks: Vec<_> = Threads::new(size)
            .into_iter()
            .map(|rank| {
                scope.spawn(move || {
                    let own = change(rank.rank(), config.clone());
                    part(place, &own, folder, stop, cached, &rank)
                })
            })
            .collect();
        let ended = ranks.into_iter().map(|r| r.join().expect("no panic"));
        ended.collect()
    })
}

fn alike(_: usize, config: TrainConfig) -> TrainConfig {
    config
}

/// Runs as a whole by each number of ranks, and in pieces by several of them.
fn same(place: &Place, config: &TrainConfig, name: &str, sizes: &[usize], pieces: &[(usize, u64)]) {
    let alone = place.path(&format!("{name}-alone"));
    let want = run(place, config, &alone, 1, None, false, alike);
    let want = want.into_iter().next().expect("one").expect("a run");
    for &size in sizes {
        let folder = place.path(&format!("{name}-{size}"));
        for (rank, ended) in run(place, config, &folder, size, None, false, alike)
            .into_iter()
            .enumerate()
        {
            let ended = ended.expect("a run");
            assert!(ended == want, "{name}: rank {rank} of {size}");
        }
        assert_eq!(losses(&folder), losses(&alone), "{name}: {size} ranks");
        assert_eq!(log(&folder), log(&alone), "{name}: {size} ranks");
    }
    if pieces.is_empty() {
        return;
    }
    let folder = place.path(&format!("{name}-pieces"));
    for &(size, stop) in pieces {
        for ended in run(place, config, &folder, size, Some(stop), false, alike) {
            assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
        }
    }
    let ended = run(place, config, &folder, 2, None, false, alike);
    for ended in ended {
        assert!(ended.expect("the rest") == want, "{name}: in pieces");
    }
    assert_eq!(log(&folder), log(&alone), "{name}: in pieces");
}

/// Everything that draws random numbers is on; a step has twelve batches of one or two clips, the
/// last of an epoch fewer than there are ranks.
#[test]
fn one_two_three_and_four_ranks_are_one_run_to_the_bit() {
    let place = Place::new();
    let config = TrainConfig {
        epochs: 3,
        batch: 1,
        accumulate: 12,
        mixup: 0.0,
        keep: Keep::Best,
        ..busy()
    };
    same(
        &place,
        &config,
        "twelve",
        &[2, 3, 4],
        &[(3, 0), (1, 1), (4, 2)],
    );
    let config = TrainConfig {
        epochs: 2,
        batch: 2,
        accumulate: 4,
        ..busy()
    };
    same(&place, &config, "four", &[4], &[]);
}

/// BatchNorm's running statistics follow the batches of all ranks, in their order.
#[test]
fn running_statistics_are_those_of_one_rank() {
    let place = Place::new();
    let encoder = ResNetConfig {
        batch_norm: Some(ClipGroups {
            clips: 2,
            momentum: 0.1,
        }),
        ..ResNetConfig::tiny()
    };
    let classes = CLASSES.map(str::to_owned).to_vec();
    let mut config = Config::new(encoder, Structure::SingleTask, classes);
    config.decoder = suited_decoder(config.decoder);
    save(&place.checkpoint, &config, 5);
    let config = TrainConfig {
        epochs: 1,
        batch: 2,
        accumulate: 2,
        tune: Tune::All,
        ..plain()
    };
    same(&place, &config, "resnet", &[2], &[]);
}

/// Each rank computes some of the features, one writes them.
#[test]
fn the_feature_cache_is_filled_by_all() {
    let place = Place::new();
    let config = TrainConfig {
        views: 1,
        flip: true,
        accumulate: 3,
        ..plain()
    };
    let files = |folder: &Path| {
        let files = std::fs::read_dir(folder.join("cache")).expect("a folder");
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            std::fs::read(file.expect("a file").path()).expect("read")
        };
        files.map(read).collect::<Vec<_>>()
    };
    let alone = place.path("alone");
    let mut want = run(&place, &config, &alone, 1, None, true, alike);
    let want = want.pop().expect("one").expect("a run");
    let folder = place.path("three");
    for ended in run(&place, &config, &folder, 3, None, true, alike) {
        assert!(ended.expect("a run") == want);
    }
    assert!(files(&folder) == files(&alone), "the caches differ");
    assert_eq!(log(&folder), log(&alone));
}

fn said(ended: Vec<Result<Ended, Error>>) -> Vec<String> {
    let error = |ended: Result<Ended, Error>| ended.expect_err("refused").to_string();
    ended.into_iter().map(error).collect()
}

#[test]
fn ranks_that_differ_stop_before_anything_is_written() {
    let place = Place::new();
    let config = TrainConfig {
        accumulate: 2,
        ..plain()
    };
    let folder = place.path("differ");
    let change: Change = |rank, config| TrainConfig {
        lr: if rank == 1 { 0.5 } else { config.lr },
        ..config
    };
    let both = said(run(&place, &config, &folder, 2, None, false, change));
    let want = "rank 1: not the same config.lr as rank 0 (0.5, not 0.001)";
    assert_eq!(both, [want, want]);
    assert!(!folder.join(mtcae_train::STATE).exists());
    assert!(!folder.join(mtcae_train::LOG).exists());
    // How clips are fetched is each rank's own affair.
    let change: Change = |rank, config| TrainConfig {
        workers: 1 + rank,
        ..config
    };
    for ended in run(&place, &config, &folder, 2, None, false, change) {
        ended.expect("a run");
    }
}

/// One process, and two ranks that are stopped in the second fold and go on as three.
#[test]
fn a_cross_validation_by_ranks_is_that_of_one_process() {
    let place = Place::new();
    let config = TrainConfig {
        epochs: 1,
        accumulate: 6,
        tune: Tune::All,
        ..plain()
    };
    let part = |folder: &Path, group: &dyn Group, stop: Option<usize>| {
        let data = place.data(&config);
        let start = Start::checkpoint(&place.checkpoint)?;
        let cv = CrossValidation {
            folder,
            start: &start,
            data: &data,
            cache: None,
            save_models: true,
            test: None,
            config: &config,
            device: &Device::Cpu,
        };
        let mut folds = 0;
        cross_validate_together(&cv, Ranks::Any(group), &mut |event| match event {
            Event::Next { .. } if Some(folds) == stop => ControlFlow::Break(()),
            Event::Next { .. } => {
                folds += 1;
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        })
    };
    let by = |folder: &Path, size: usize, stop: Option<usize>| -> Vec<_> {
        std::thread::scope(|scope| {
            let ranks = Threads::new(size).into_iter();
            let ranks = ranks.map(|rank| scope.spawn(move || part(folder, &rank, stop)));
            let ranks: Vec<_> = ranks.collect();
            ranks
                .into_iter()
                .map(|r| r.join().expect("no panic"))
                .collect()
        })
    };
    let [alone, together] = ["alone", "together"].map(|name| place.path(name));
    let want = part(&alone, &Solo, None).expect("a report");
    // One is cancelled, and the other perhaps told so before it is.
    let stopped = by(&together, 2, Some(1));
    assert!(stopped.iter().all(Result::is_err), "{stopped:?}");
    let models = ["fold-0/model", "fold-1/model"].map(|model| together.join(model).exists());
    assert_eq!(models, [true, false], "{stopped:?}");
    for got in by(&together, 3, None) {
        assert_eq!(got.expect("a report"), want);
    }
    let fold = format!("fold-1/model/{}", mtcae_model::checkpoint::WEIGHTS);
    for file in ["report.md", "predictions.csv", &fold] {
        let [alone, together] = [&alone, &together].map(|f| std::fs::read(f.join(file)));
        assert!(alone.expect("read") == together.expect("read"), "{file}");
    }
}

#[test]
fn ranks_with_other_weights_to_begin_with_stop() {
    let place = Place::new();
    let config = TrainConfig {
        accumulate: 2,
        tune: Tune::All,
        ..plain()
    };
    save_checkpoint(&place.path("checkpoint-1"), Structure::Cascade, 2);
    let folder = place.path("weights");
    let both = said(run(&place, &config, &folder, 2, None, false, alike));
    let want = "rank 1: not the same weights to begin with as rank 0";
    assert_eq!(both, [want, want]);
    assert!(!folder.join(mtcae_train::LOG).exists());
}

#[test]
fn a_clip_that_one_rank_cannot_read_is_named_on_all() {
    let place = Place::new();
    let config = TrainConfig {
        batch: 1,
        accumulate: 2,
        ..plain()
    };
    let data = place.data(&config);
    let train = data.split(Some(0), &config).expect("a split").train;
    let file = data.items[train[0]].file.clone();
    std::fs::write(place.path(&file), b"no video").expect("written");
    let both = said(run(
        &place,
        &config,
        &place.path("broken"),
        2,
        None,
        false,
        alike,
    ));
    assert!(both.iter().all(|s| s.contains(&file)), "{both:?}");
    let named = both.iter().filter(|s| s.starts_with("rank "));
    assert_eq!(named.count(), 1, "{both:?}");
}

#[test]
fn batches_that_cannot_be_dealt_are_refused_with_what_could() {
    let place = Place::new();
    let config = plain();
    let both = said(run(
        &place,
        &config,
        &place.path("odd"),
        2,
        None,
        false,
        alike,
    ));
    let want = "accumulate: 1 cannot be dealt to 2 ranks: `batch` 2 `accumulate` 2 has the same \
                clips a step";
    assert_eq!(both, [want, want]);
    let config = TrainConfig {
        batch: 5,
        ..plain()
    };
    let both = said(run(
        &place,
        &config,
        &place.path("odd"),
        2,
        None,
        false,
        alike,
    ));
    let want =
        "accumulate: 1 cannot be dealt to 2 ranks: the 5 clips of a step are no multiple of 2";
    assert_eq!(both, [want, want]);
    assert!(!place.path("odd").exists());
}
