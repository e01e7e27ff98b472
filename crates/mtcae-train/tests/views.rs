//! Models that take several views of a clip: tested on all of them, and not trained.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use common::{Place, plain};
use mtcae_model::{Checkpoint, Engine};
use mtcae_nn::{Pass, Precision};
use mtcae_train::objective::box_iou;
use mtcae_train::{
    ClipResult, CrossValidation, Error, FeatureCache, Item, Loading, Run, Source, Start,
    TrainConfig, Tune, cross_validate, fit, predict,
};
use mtcae_video::{Normalization, TubeShape, Video, tubes};
use ndarray::{Array3, Array4, Axis, s};

/// The checkpoint of a place, with other preprocessing.
fn with(place: &Place, sampling: &str, resize: &str) {
    let path = place.checkpoint.join("config.json");
    let text = std::fs::read_to_string(&path).expect("read");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["preprocessing"]["sampling"] = sampling.into();
    config["preprocessing"]["resize"] = resize.into();
    std::fs::write(&path, config.to_string()).expect("written");
}

fn results(place: &Place, engine: &Engine, batch: usize) -> Vec<ClipResult> {
    let data = place.data(&plain());
    let loading = Loading {
        batch,
        ..Loading::default()
    };
    let source = Arc::new(Source::to_test(&data, engine, loading));
    let places = [0, 5, 6, 20, 13];
    let mut done = Vec::new();
    let (results, _) = predict(engine, &source, &places, None, &mut |event| {
        if let mtcae_train::Event::Predicted { done: n, total } = event {
            assert_eq!(*total, 5);
            done.push(*n);
        }
        ControlFlow::Continue(())
    })
    .expect("predicted");
    assert_eq!(done.last(), Some(&5));
    let files: Vec<&String> = places.iter().map(|&i| &data.items[i].file).collect();
    assert_eq!(results.iter().map(|r| &r.file).collect::<Vec<_>>(), files);
    results
}

/// Probabilities and mean overlap of a clip over views that are cut by hand: the frames of
/// each clip, and the 32 columns from each place on.
fn by_hand(
    engine: &Engine,
    item: &Item,
    clips: &[[usize; 4]],
    columns: &[usize],
) -> (Vec<f64>, Option<f64>, usize) {
    let frames = Video::open(&item.path)
        .expect("opened")
        .frames()
        .expect("frames");
    let frames: Vec<Array3<u8>> = frames.map(|f| f.expect("a frame").pixels).collect();
    let (mut sums, mut overlaps) = (vec![0.0; 3], Vec::new());
    for clip in clips {
        for &left in columns {
            let mut pixels = Array4::zeros((4, 32, 32, 3));
            for (mut to, &frame) in pixels.axis_iter_mut(Axis(0)).zip(clip) {
                to.assign(&frames[frame].slice(s![.., left..left + 32, ..]));
            }
            let tubes = tubes(
                pixels.view(),
                &Normalization::IMAGENET,
                TubeShape::default(),
            );
            let tubes = tubes.expect("tubes");
            let size = (1, tubes.nrows(), tubes.ncols());
            let values = tubes.into_raw_vec_and_offset().0;
            let tubes = Tensor::from_vec(values, size, &Device::Cpu).expect("a tensor");
            let outputs = engine
                .run(&tubes, &mut Pass::inference())
                .expect("a forward");
            let logits = outputs.logits.to_vec2::<f32>().expect("logits").remove(0);
            let powers: Vec<f64> = logits.iter().map(|&l| f64::from(l).exp()).collect();
            for (sum, power) in sums.iter_mut().zip(&powers) {
                *sum += power / powers.iter().sum::<f64>();
            }
            let boxes = outputs
                .boxes
                .expect("a task")
                .to_vec3::<f32>()
                .expect("boxes");
            for (&frame, said) in clip.iter().zip(&boxes[0]) {
                let face = item.faces.iter().find(|(f, _)| *f == frame as u64);
                let Some((_, face)) = face else { continue };
                let [x1, y1, x2, y2] = face.face_box.corners().map(f64::from);
                let (x1, x2) = (x1 * 40.0 - left as f64, x2 * 40.0 - left as f64);
                if columns.len() > 1 && (x1 < -1e-3 || x2 > 32.0 + 1e-3) {
                    continue;
                }
                let [a, b, c, d] = [0, 1, 2, 3].map(|k| f64::from(said[k]));
                let said = [a.min(c), b.min(d), a.max(c), b.max(d)];
                let truth = [x1 / 32.0, y1, x2 / 32.0, y2];
                overlaps.push(box_iou(said, truth).expect("an overlap"));
            }
        }
    }
    let views = (clips.len() * columns.len()) as f64;
    let mean = overlaps.iter().sum::<f64>() / overlaps.len() as f64;
    let seen = overlaps.len();
    let p = sums.iter().map(|s| s / views).collect();
    (p, (seen > 0).then_some(mean), seen)
}

#[test]
fn all_views_of_a_clip_are_tested() {
    let place = Place::new();
    // 6 frames of 40x32 for a model of 4 of 32x32.
    let (two, one) = ([[0, 1, 2, 3], [2, 3, 4, 5]], [[0, 2, 4, 4]]);
    let (squares, centre) = (&[0, 4, 8][..], &[4][..]);
    let cases = [
        ("multi-clip:2x1", "three-crop", &two[..], squares),
        ("multi-clip:1x2", "three-crop", &one[..], squares),
        ("multi-clip:2x1", "shortest-edge", &two[..], centre),
    ];
    for (sampling, resize, clips, columns) in cases {
        with(&place, sampling, resize);
        let checkpoint = Checkpoint::open(&place.checkpoint).expect("opened");
        let engine = checkpoint
            .engine(&Device::Cpu, Precision::F32)
            .expect("an engine");
        let data = place.data(&plain());
        let all = results(&place, &engine, 8);
        let mut measured = 0;
        for result in &all {
            let item = data
                .items
                .iter()
                .find(|i| i.file == result.file)
                .expect("a clip");
            let (p, iou, frames) = by_hand(&engine, item, clips, columns);
            for (got, want) in result.probabilities.iter().zip(&p) {
                assert!((got - want).abs() < 1e-5, "{got} for {want}");
            }
            assert_eq!(result.frames, frames, "{} {resize}", result.file);
            let (Some(got), Some(want)) = (result.iou, iou) else {
                panic!("{}: {:?} for {iou:?}", result.file, result.iou);
            };
            assert!((got - want).abs() < 1e-4, "{got} for {want}");
            measured += frames;
        }
        // Labels reach frame 4; the squares cut some faces off.
        let whole = 5 * clips.as_flattened().iter().filter(|f| **f < 5).count() * columns.len();
        assert_eq!(measured < whole, columns.len() > 1, "{measured} of {whole}");
        // Batches smaller than the views of one clip, and one larger than all.
        for batch in [1, 4, 64] {
            for (a, b) in all.iter().zip(results(&place, &engine, batch)) {
                assert_eq!((&a.file, a.frames), (&b.file, b.frames));
                for (p, q) in a.probabilities.iter().zip(&b.probabilities) {
                    assert!((p - q).abs() < 1e-5, "{p} and {q}");
                }
                let difference = a.nme.expect("a task") - b.nme.expect("a task");
                assert!(difference.abs() < 1e-4, "{difference}");
            }
        }
    }
}

#[test]
fn training_takes_one_view_and_says_which_field_asks_for_more() {
    let place = Place::new();
    let config = TrainConfig {
        tune: Tune::Decoder,
        ..plain()
    };
    let data = place.data(&config);
    let split = data.split(Some(0), &config).expect("a split");
    let (folder, cached) = (place.path("run"), place.path("cache"));
    for (sampling, resize, begins, ends) in [
        (
            "multi-clip:2x4",
            "squash",
            "model config: preprocessing.sampling: multi-clip:2x4 gives several views",
            "put multi-clip:1x4",
        ),
        (
            "uniform",
            "three-crop",
            "model config: preprocessing.resize: three-crop gives several views",
            "put shortest-edge",
        ),
    ] {
        with(&place, sampling, resize);
        let start = Start::checkpoint(&place.checkpoint).expect("a start");
        let refuse = |error: Option<Error>| {
            let said = error.expect("refused").to_string();
            assert!(said.starts_with(begins) && said.contains(ends), "{said}");
            assert!(!folder.exists() && !cached.exists(), "nothing was begun");
        };
        let run = Run {
            name: "run",
            folder: &folder,
            start: &start,
            data: &data,
            split: &split,
            cache: None,
            config: &config,
            device: &Device::Cpu,
        };
        refuse(fit(&run, &mut |_| ControlFlow::Continue(())).err());
        let cv = CrossValidation {
            folder: &folder,
            start: &start,
            data: &data,
            cache: Some(&cached),
            save_models: false,
            test: None,
            config: &config,
            device: &Device::Cpu,
        };
        refuse(cross_validate(&cv, &mut |_| ControlFlow::Continue(())).err());
        let mut watch = |_: &mtcae_train::Event<'_>| ControlFlow::Continue(());
        let cache = FeatureCache::open(&cached, &start, &data, &config, &Device::Cpu, &mut watch);
        refuse(cache.err());
        let source = Source::videos(&data, start.config(), &config, &Device::Cpu);
        refuse(source.err());
    }
    // One clip of a list, and a smaller crop, are one view.
    with(&place, "multi-clip:1x2", "shortest-edge:36/32");
    let start = Start::checkpoint(&place.checkpoint).expect("a start");
    let config = TrainConfig {
        epochs: 1,
        ..config
    };
    let run = Run {
        name: "run",
        folder: &folder,
        start: &start,
        data: &data,
        split: &split,
        cache: None,
        config: &config,
        device: &Device::Cpu,
    };
    fit(&run, &mut |_| ControlFlow::Continue(()))
        .map(drop)
        .expect("trained");
}
