//! The cache of a frozen encoder's features: true to the videos, reused, and never
//! wrong in silence.

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use common::{Place, log, losses, plain, save_checkpoint};
use mtcae_model::decoder::Structure;
use mtcae_train::log::Line;
use mtcae_train::{Dataset, Error, Event, FeatureCache, Run, Start, TrainConfig, Tune, fit};

const CLIPS: usize = 21;

/// Opens the cache and says how many records it lacked; stops after `most` of them.
fn open_some(
    place: &Place,
    config: &TrainConfig,
    most: usize,
) -> (Result<FeatureCache, Error>, usize) {
    let data = place.data(config);
    open_of(&data, &place.checkpoint, config, &place.path("cache"), most)
}

fn open_of(
    data: &Arc<Dataset>,
    checkpoint: &Path,
    config: &TrainConfig,
    folder: &Path,
    most: usize,
) -> (Result<FeatureCache, Error>, usize) {
    let start = Start::checkpoint(checkpoint).expect("a start");
    let mut lacked = usize::MAX;
    let mut watch = |event: &Event<'_>| {
        match event {
            Event::Cache { missing, .. } => lacked = *missing,
            Event::Cached { done, .. } if *done == most => return ControlFlow::Break(()),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let cache = FeatureCache::open(folder, &start, data, config, &Device::Cpu, &mut watch);
    (cache, lacked)
}

fn open(place: &Place, config: &TrainConfig) -> (Arc<FeatureCache>, usize) {
    let (cache, lacked) = open_some(place, config, usize::MAX);
    (Arc::new(cache.expect("a cache")), lacked)
}

fn train(
    place: &Place,
    config: &TrainConfig,
    name: &str,
    cache: Option<&Arc<FeatureCache>>,
    stop: Option<u64>,
) -> Result<(), Error> {
    let data = place.data(config);
    let start = Start::checkpoint(&place.checkpoint)?;
    let split = data.split(Some(1), config)?;
    let folder = place.path(name);
    let run = Run {
        name,
        folder: &folder,
        start: &start,
        data: &data,
        split: &split,
        cache,
        config,
        device: &Device::Cpu,
    };
    fit(&run, &mut |event| match event {
        Event::Step(line) if Some(line.step) == stop => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .map(|_| ())
}

/// Half precision keeps 11 bits: each feature is off by at most 2.4e-4 of itself,
/// to either side. A loss averages over features, tokens and clips, so it is off by
/// less: 7.6e-6 was measured. A cache of other features is off by far more than ten
/// times that.
const HALF: f64 = 1e-4;

#[test]
#[allow(clippy::print_stdout)] // The measured figure, for the documents.
fn losses_are_those_of_the_videos_within_half_precision() {
    let place = Place::new();
    let config = TrainConfig {
        validation: 0.2,
        ..plain()
    };
    let (cache, lacked) = open(&place, &config);
    assert_eq!(lacked, CLIPS);
    train(&place, &config, "cached", Some(&cache), None).expect("a run");
    train(&place, &config, "videos", None, None).expect("a run");
    let numbers = |name: &str| -> Vec<f64> {
        let of_line = |line: Line| match line {
            Line::Step(s) => vec![Some(s.loss), s.boxes, s.landmarks, Some(s.expression)],
            Line::Epoch(e) => vec![Some(e.loss), e.validation.map(|v| v.loss)],
        };
        let lines = log(&place.path(name)).into_iter().flat_map(of_line);
        lines.map(|v| v.expect("measured")).collect()
    };
    let (cached, videos) = (numbers("cached"), numbers("videos"));
    assert_eq!(cached.len(), videos.len());
    let off = |(a, b): (&f64, &f64)| (a - b).abs() / b;
    let worst = cached.iter().zip(&videos).map(off).fold(0.0, f64::max);
    println!("losses of cached features and of videos differ by {worst:.1e}");
    assert!(worst <= HALF, "{worst:e}");
    assert!(
        worst > 0.0,
        "the features were not rounded: was the cache used?"
    );
}

#[test]
fn it_is_computed_once_and_what_is_torn_off_is_computed_again() {
    let place = Place::new();
    let config = plain();
    let (cache, lacked) = open(&place, &config);
    assert_eq!(lacked, CLIPS);
    let path = cache.path().to_owned();
    let whole = std::fs::read(&path).expect("the cache");
    assert_eq!(open(&place, &config).1, 0, "computed once");

    // A header of one page, then records of one length.
    let base = whole.len() - whole.len() / CLIPS * CLIPS;
    let base = base + (4096 - base % 4096) % 4096;
    let record = (whole.len() - base) / CLIPS;
    assert_eq!(base + record * CLIPS, whole.len());
    for (keep, missing) in [
        (base + 5 * record + record / 2, CLIPS - 5),
        (base + 5 * record + record - 1, CLIPS - 5),
        (base + 5 * record, CLIPS - 5),
        (base, CLIPS),
        (base - 1, CLIPS),
        (0, CLIPS),
    ] {
        std::fs::write(&path, &whole[..keep]).expect("torn");
        assert_eq!(open(&place, &config).1, missing, "{keep} bytes kept");
        assert!(std::fs::read(&path).expect("read") == whole, "{keep}");
    }

    // Stopped while it was being filled.
    std::fs::remove_file(&path).expect("removed");
    let (stopped, _) = open_some(&place, &config, 8);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert_eq!(open(&place, &config).1, CLIPS - 8);
    assert!(std::fs::read(&path).expect("read") == whole);

    // One byte of a feature, of a face, of the checksum.
    for at in [
        base + 3 * record,
        base + 4 * record - 30,
        base + 4 * record - 1,
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).expect("damaged");
        let (cache, lacked) = open(&place, &config);
        assert_eq!(lacked, 0);
        let said = cache.read(3, 0).expect_err("damaged").to_string();
        let name = path.display().to_string();
        assert!(
            said.contains(&name) && said.contains("record 3 is damaged"),
            "{said}"
        );
        cache.read(2, 0).expect("the one before");
        cache.read(4, 0).expect("the one after");
        let run = format!("damaged-{at}");
        let said = train(&place, &config, &run, Some(&cache), None);
        let said = said.expect_err("damaged").to_string();
        assert!(said.contains("record 3 is damaged"), "{said}");
    }
    // Another file under its name.
    std::fs::write(&path, vec![7; whole.len()]).expect("written");
    let (foreign, _) = open_some(&place, &config, usize::MAX);
    let said = foreign.expect_err("foreign").to_string();
    assert!(said.contains("is no feature cache of this run"), "{said}");
}

#[test]
fn other_weights_clips_or_views_have_a_file_of_their_own() {
    let place = Place::new();
    let config = plain();
    let data = place.data(&config);
    let folder = place.path("cache");
    let mut files = std::collections::BTreeSet::new();
    let mut add = |data: &Arc<Dataset>, checkpoint: &Path, config: &TrainConfig| {
        let (cache, lacked) = open_of(data, checkpoint, config, &folder, usize::MAX);
        let path = cache.expect("a cache").path().to_owned();
        (files.insert(path), lacked)
    };
    let first = add(&data, &place.checkpoint, &config);
    assert_eq!(first, (true, CLIPS));

    let other = place.path("other");
    save_checkpoint(&other, Structure::Cascade, 2);
    assert_eq!(add(&data, &other, &config), (true, CLIPS));

    let views = TrainConfig {
        views: 2,
        flip: true,
        ..plain()
    };
    assert_eq!(add(&data, &place.checkpoint, &views), (true, 3 * CLIPS));
    let seed = TrainConfig {
        seed: 7,
        ..views.clone()
    };
    assert_eq!(add(&data, &place.checkpoint, &seed), (true, 3 * CLIPS));

    let mut fewer = Dataset::clone(&data);
    fewer.items.pop();
    assert_eq!(
        add(&Arc::new(fewer), &place.checkpoint, &config),
        (true, CLIPS - 1)
    );
    let mut moved = Dataset::clone(&data);
    moved.items[4].faces[0].1.face_box.x1 += 0.01;
    assert_eq!(
        add(&Arc::new(moved), &place.checkpoint, &config),
        (true, CLIPS)
    );

    // Another decoder, learning rate or length of training is the same cache.
    let lr = TrainConfig {
        lr: 0.5,
        epochs: 9,
        seed: 3,
        ..plain()
    };
    assert_eq!(add(&data, &place.checkpoint, &lr), (false, 0));
}

/// Cached views are drawn from, a run from a cache resumes to the bit, and does not
/// go on from videos.
#[test]
fn a_run_on_cached_views_resumes() {
    let place = Place::new();
    let config = TrainConfig {
        views: 2,
        flip: true,
        crop: 0.6,
        jitter: 0.3,
        save_every: 1,
        ..plain()
    };
    let (cache, lacked) = open(&place, &config);
    assert_eq!(lacked, 3 * CLIPS);
    let (a, _) = cache.read(0, 0).expect("as it is");
    let (b, _) = cache.read(0, 1).expect("a view");
    let (c, _) = cache.read(0, 2).expect("another");
    assert!(a != b && b != c && a != c, "views differ");

    train(&place, &config, "whole", Some(&cache), None).expect("a run");
    for stop in [0, 2, 4] {
        let stopped = train(&place, &config, "pieces", Some(&cache), Some(stop));
        assert!(matches!(stopped, Err(Error::Cancelled)));
    }
    let said = train(&place, &config, "pieces", None, None);
    let said = said.expect_err("from videos").to_string();
    assert!(said.contains("other features"), "{said}");
    train(&place, &config, "pieces", Some(&cache), None).expect("the rest");
    assert_eq!(losses(&place.path("pieces")), losses(&place.path("whole")));
    assert_eq!(log(&place.path("pieces")), log(&place.path("whole")));

    let all = TrainConfig {
        tune: Tune::All,
        ..config
    };
    let said = train(&place, &all, "all", Some(&cache), None);
    let said = said.expect_err("not frozen").to_string();
    assert!(said.starts_with("tune: all needs the videos"), "{said}");
}

/// A run on cached features neither reads the encoder nor holds it; its model is saved
/// with the encoder all the same.
#[test]
fn a_run_on_cached_features_is_without_its_encoder() {
    let place = Place::new();
    let config = plain();
    let start = Start::checkpoint(&place.checkpoint).expect("a start");
    let started = start.build(&config, true, &Device::Cpu).expect("built");
    assert!(started.encoder.is_none() && started.model.encoder().is_none());
    let names: Vec<String> = started.store.vars().into_iter().map(|(n, _)| n).collect();
    assert!(names.iter().all(|n| n.starts_with("decoder.")), "{names:?}");
    let (data, folder) = (place.data(&config), place.path("model"));
    let split = data.split(Some(0), &config).expect("a split");
    started
        .save(&folder, &data, &split, Some(0))
        .expect("saved");
    Start::checkpoint(&folder).expect("a whole model");
}
