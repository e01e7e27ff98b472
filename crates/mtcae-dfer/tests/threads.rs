//! Which threads a pipeline keeps busy, as Linux counts their processor time. A
//! program of its own with one test, so that no other test's threads run.

#![cfg(all(feature = "ffmpeg", target_os = "linux"))]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use mtcae_dfer::model::decoder::Structure;
use mtcae_dfer::model::encoder::VideoMaeConfig;
use mtcae_dfer::model::{Config, Mtcae, checkpoint};
use mtcae_dfer::{Device, Pipeline, Timeline, Windowing};
use mtcae_nn::ParamStore;

/// Large enough for Candle to call its own threads, were it asked to compute: it
/// does from 65,536 elements on, and an activation (392, 192) has more.
fn plan() -> Pipeline {
    let encoder = VideoMaeConfig {
        image_size: 112,
        width: 192,
        depth: 3,
        heads: 3,
        hidden: 768,
        ..VideoMaeConfig::small()
    };
    let classes = ["calm", "glad"].map(String::from).to_vec();
    let config = Config::new(encoder, Structure::Cascade, classes);
    let store = ParamStore::new(3);
    Mtcae::new(&config, store.builder(&Device::Cpu)).expect("built");
    let vars = store.vars();
    let tensors = vars.iter().map(|(name, var)| (&name[..], var.as_tensor()));
    let folder = tempfile::tempdir().expect("a folder");
    checkpoint::save(folder.path(), &config, tensors).expect("saved");
    Pipeline::load(folder.path(), &Device::Cpu).expect("loaded")
}

fn portrait() -> PathBuf {
    mtcae_testing::fixtures().join("demo/portrait.mp4")
}

fn windows(pipeline: &Pipeline) -> Timeline {
    let windowing = Windowing {
        length: 0.4,
        stride: 0.4,
        batch: 2,
    };
    pipeline
        .predict_windows(portrait(), &windowing, |_| ControlFlow::Continue(()))
        .expect("predicted")
}

/// Processor time of every living thread in nanoseconds, by its number.
fn times() -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks");
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let time = text.split(' ').next()?.parse().ok()?;
        Some((task.file_name().into_string().ok()?, time))
    };
    tasks.flatten().filter_map(of).collect()
}

/// How many threads had more than a twentieth of the time that all had in `f`.
fn busy(f: impl FnOnce()) -> usize {
    let before = times();
    f();
    let spent: Vec<u64> = times()
        .iter()
        .map(|(id, time)| time - before.get(id).unwrap_or(&0))
        .collect();
    let total: u64 = spent.iter().sum();
    spent.iter().filter(|&&time| time > total / 20).count()
}

#[test]
fn threads_are_those_that_were_asked_for() {
    let base = plan();
    let own = || base.clone().with_threads(1).expect("a pool");
    let (alone, want) = (own(), windows(&own()));

    // One thread reads, decodes, resizes and computes.
    assert_eq!(busy(|| assert_eq!(windows(&alone), want)), 1);

    // Two pipelines in one process: one thread each, and the same bits.
    let other = own();
    let both = || {
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(windows(&alone), want));
            scope.spawn(|| assert_eq!(windows(&other), want));
        });
    };
    assert_eq!(busy(both), 2);

    let two = base.with_threads(2).expect("a pool");
    assert!(windows(&two) == want, "the number of threads shows");

    let names = std::fs::read_dir("/proc/self/task")
        .expect("tasks")
        .flatten();
    let candle = names
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("candle"))
        .count();
    assert_eq!(candle, 0, "Candle has threads of its own");
}
