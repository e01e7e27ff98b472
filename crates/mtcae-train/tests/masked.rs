//! Pre-training without labels: it learns, is resumed to the bit, and says what it cannot read.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use common::Place;
use mtcae_model::encoder::masked::{DecoderConfig, MaskedConfig};
use mtcae_model::encoder::{Config as EncoderConfig, VideoMaeConfig};
use mtcae_ranks::Threads;
use mtcae_train::{
    Error, Event, LOG, MaskedLine, MaskedStart, Pretrained, Pretraining, Ranks, Recipe,
    TrainConfig, Videos, pretrain, pretrain_together,
};

fn start() -> MaskedStart {
    let encoder = EncoderConfig::from(VideoMaeConfig {
        image_size: 32,
        frames: 4,
        width: 24,
        depth: 2,
        heads: 3,
        hidden: 48,
        ..VideoMaeConfig::small()
    });
    let mut config = MaskedConfig::of(&encoder).expect("a family that is pre-trained");
    config.decoder = DecoderConfig {
        width: 24,
        depth: 1,
        heads: 2,
        hidden: 48,
        ..config.decoder
    };
    config.mask = config.mask.with_ratio(0.5);
    MaskedStart::random(config).expect("fits")
}

/// As VideoMAE's, short, with everything on that is drawn.
fn short() -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch: 3,
        accumulate: 2,
        lr: 4e-3,
        scale_lr: false,
        warmup: 1.0,
        min_lr: 0.0,
        flip: true,
        jitter: 0.2,
        ema: 0.5,
        validation: 0.2,
        pictures: 1,
        save_every: 1,
        workers: 2,
        sampling: "dense:2".parse().expect("a sampling"),
        ..TrainConfig::recipe(Recipe::PretrainVideomae)
    }
}

/// Runs until `stop` says so of a step; `None` when it did. And what was told.
fn run(
    videos: &Arc<Videos>,
    config: &TrainConfig,
    folder: &Path,
    stop: impl Fn(u64) -> bool,
) -> (Result<Option<Pretrained>, Error>, Vec<String>) {
    let (start, mut notices) = (start(), Vec::new());
    let run = Pretraining {
        name: "test",
        folder,
        start: &start,
        videos,
        config,
        device: &Device::Cpu,
    };
    let done = pretrain(&run, &mut |event| match event {
        Event::MaskedStep(line) if stop(line.step) => ControlFlow::Break(()),
        Event::Notice(text) => {
            notices.push((*text).to_owned());
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    });
    let done = match done {
        Ok(done) => Ok(Some(done)),
        Err(Error::Cancelled) => Ok(None),
        Err(error) => Err(error),
    };
    (done, notices)
}

fn to_the_end(videos: &Arc<Videos>, config: &TrainConfig, folder: &Path) -> Pretrained {
    let (done, _) = run(videos, config, folder, |_| false);
    done.expect("a run").expect("not stopped")
}

fn find(names: &[PathBuf], config: &TrainConfig) -> Result<Arc<Videos>, Error> {
    Videos::find(names, config.allow_missing).map(Arc::new)
}

/// The lines of a log without what a clock says.
fn log(folder: &Path) -> Vec<MaskedLine> {
    let text = std::fs::read_to_string(folder.join(LOG)).expect("a log");
    let lines = text
        .lines()
        .map(|l| serde_json::from_str(l).expect("a line"));
    let mut lines: Vec<MaskedLine> = lines.collect();
    for line in &mut lines {
        if let MaskedLine::Epoch(line) = line {
            (line.seconds, line.waiting, line.clips_per_second) = (0.0, 0.0, 0.0);
            line.parts = Default::default();
        }
    }
    lines
}

fn losses(folder: &Path) -> Vec<f64> {
    let step = |line: &MaskedLine| match line {
        MaskedLine::Step(step) => Some(step.loss),
        MaskedLine::Epoch(_) => None,
    };
    log(folder).iter().filter_map(step).collect()
}

/// All weights, bit by bit.
fn weights(done: &Pretrained) -> Vec<(String, Vec<u32>)> {
    let tensors = done.tensors().into_iter();
    tensors
        .map(|(name, tensor)| {
            let values: Vec<f32> = tensor
                .flatten_all()
                .and_then(|t| t.to_vec1())
                .expect("read");
            (name, values.into_iter().map(f32::to_bits).collect())
        })
        .collect()
}

/// Two ranks write what one does: the log, the weights, and the pictures of rank 0.
#[test]
fn two_ranks_pre_train_as_one_does() {
    let (place, config) = (Place::new(), short());
    let videos = find(&[place.folder.path().to_owned()], &config).expect("videos");
    let alone = place.path("alone");
    let want = weights(&to_the_end(&videos, &config, &alone));
    let (folder, start) = (place.path("two"), start());
    let both = std::thread::scope(|scope| {
        let ranks = Threads::new(2).into_iter().map(|rank| {
            scope.spawn(|| {
                let run = Pretraining {
                    name: "test",
                    folder: &folder,
                    start: &start,
                    videos: &videos,
                    config: &config,
                    device: &Device::Cpu,
                };
                let rank = rank;
                let ranks = Ranks::Any(&rank);
                let done = pretrain_together(&run, ranks, &mut |_| ControlFlow::Continue(()))
                    .expect("a run");
                weights(&done)
            })
        });
        let ranks: Vec<_> = ranks.collect();
        let ended = ranks.into_iter().map(|r| r.join().expect("no panic"));
        ended.collect::<Vec<_>>()
    });
    assert!(both.iter().all(|weights| *weights == want));
    assert_eq!(log(&folder), log(&alone));
    let picture = |folder: &Path| std::fs::read(folder.join("reconstructions/epoch-003.png"));
    assert!(picture(&folder).expect("a picture") == picture(&alone).expect("a picture"));
}

#[test]
fn stopped_and_resumed_it_is_the_run_that_was_not() {
    let (place, config) = (Place::new(), short());
    let videos = find(&[place.folder.path().to_owned()], &config).expect("videos");
    assert_eq!(videos.files.len(), 21);
    let whole = place.path("whole");
    let want = to_the_end(&videos, &config, &whole);
    for stops in [&[0u64, 1][..], &[4], &[2, 5, 7]] {
        let pieces = place.path(&format!("{stops:?}"));
        for &at in stops {
            let (stopped, _) = run(&videos, &config, &pieces, |step| step == at);
            assert!(stopped.expect("a piece").is_none(), "step {at} never came");
        }
        let done = to_the_end(&videos, &config, &pieces);
        assert_eq!(log(&pieces), log(&whole), "stopped after {stops:?}");
        assert!(weights(&done) == weights(&want), "stopped after {stops:?}");
        let picture = |folder: &Path| {
            let path = folder.join("reconstructions/epoch-003.png");
            std::fs::read(path).expect("a picture")
        };
        assert!(picture(&pieces) == picture(&whole));
    }
    // Other settings are another run.
    let other = TrainConfig {
        lr: 1e-4,
        ..config.clone()
    };
    let error = run(&videos, &other, &whole, |_| false)
        .0
        .err()
        .expect("another");
    assert!(error.to_string().contains("config.lr was 0.004"), "{error}");
}

#[test]
fn it_learns_and_its_encoder_begins_another_model() {
    let place = Place::new();
    let config = TrainConfig {
        epochs: 40,
        scales: "".parse().expect("none"),
        flip: false,
        jitter: 0.0,
        ema: 0.0,
        pictures: 0,
        ..short()
    };
    let videos = find(&[place.folder.path().to_owned()], &config).expect("videos");
    let folder = place.path("long");
    let done = to_the_end(&videos, &config, &folder);
    let losses = losses(&folder);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..3]), mean(&losses[losses.len() - 6..]));
    assert!(last < 0.75 * first, "from {first} to {last}");
    let model = place.path("model");
    done.save(&model).expect("written");
    let found = mtcae_model::encoder::open(&model).expect("an encoder");
    found.check().expect("whole");
    let again = mtcae_model::encoder::masked::open(
        &model,
        &Default::default(),
        &mtcae_model::encoder::Families::default(),
    );
    let again = MaskedStart::of(again.expect("a whole model")).expect("whole");
    assert_eq!(again.config(), start().config());
}

/// What is drawn for a clip depends on the seed, the epoch and the clip: a step of the same
/// clips has the same loss however they are batched.
#[test]
fn masks_and_clips_do_not_depend_on_the_batch() {
    let place = Place::new();
    let one = TrainConfig {
        epochs: 2,
        batch: 2,
        accumulate: 4,
        ..short()
    };
    let other = TrainConfig {
        batch: 4,
        accumulate: 2,
        ..one.clone()
    };
    let videos = find(&[place.folder.path().to_owned()], &one).expect("videos");
    let of = |config: &TrainConfig, name: &str| {
        to_the_end(&videos, config, &place.path(name));
        losses(&place.path(name))
    };
    let (one, other) = (of(&one, "by two"), of(&other, "by four"));
    assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().zip(&other) {
        // Means in f32 over other parts, and what that does to a few small steps.
        assert!((a - b).abs() < 1e-3 * a, "{a} {b}");
    }
}

#[test]
fn what_cannot_be_read_is_named_or_left_out() {
    let (place, config) = (Place::new(), short());
    // Some of them are kept for validation, others are not.
    let broken = ["s2-happy.mp4", "s3-sad.mp4", "s5-angry.mp4"];
    for name in broken {
        std::fs::write(place.path(name), b"no video").expect("written");
    }
    let names = [place.folder.path().to_owned()];
    let videos = find(&names, &config).expect("videos");
    let error = run(&videos, &config, &place.path("strict"), |_| false).0;
    let said = error.err().expect("unreadable").to_string();
    assert!(
        said.starts_with("videos: ")
            && broken.iter().any(|name| said.contains(name))
            && said.contains("allow_missing"),
        "{said}"
    );
    let lenient = TrainConfig {
        allow_missing: true,
        ..config.clone()
    };
    let folder = place.path("lenient");
    let (done, notices) = run(&videos, &lenient, &folder, |_| false);
    done.expect("a run").expect("whole");
    for name in broken {
        assert!(notices.iter().any(|n| n.contains(name)), "{notices:?}");
    }
    let replaced = log(&folder).into_iter().filter_map(|line| match line {
        MaskedLine::Epoch(epoch) => Some(epoch.replaced),
        MaskedLine::Step(_) => None,
    });
    let replaced: Vec<u64> = replaced.collect();
    assert!(replaced.iter().all(|n| *n >= 1), "{replaced:?}");

    let gone = [place.path("s0-sad.mp4"), place.path("none.mp4")];
    let said = find(&gone, &config).expect_err("missing").to_string();
    assert!(
        said.contains("1 videos are missing") && said.contains("none.mp4"),
        "{said}"
    );
    let videos = find(&gone, &lenient).expect("one");
    assert!(videos.files.len() == 1 && videos.notices[0].contains("none.mp4"));
    let all = TrainConfig {
        validation: 0.9,
        ..config
    };
    let said = run(&videos, &all, &place.path("none"), |_| false).0;
    let said = said.err().expect("nothing to learn").to_string();
    assert!(
        said.contains("validation: 0.9 of 1 videos leaves none"),
        "{said}"
    );
}

#[test]
fn a_label_file_only_names_videos() {
    let place = Place::new();
    let videos = Videos::of_labels(&place.labels, None, false).expect("videos");
    assert_eq!(videos.files.len(), 21);
    assert_eq!(videos.files[0].name, "s0-angry.mp4");
    let empty = place.path("empty.jsonl");
    std::fs::write(&empty, "").expect("written");
    let error = Videos::of_labels(&empty, None, false).expect_err("empty");
    assert!(error.to_string().contains("empty.jsonl"), "{error}");
}
