//! Several views of a video become one answer: three crops, several clips, and both.

#![cfg(feature = "ffmpeg")]
#![allow(clippy::expect_used, reason = "helpers of tests, outside #[test]")]

mod common;

use std::ops::ControlFlow;

use common::{pipeline, probabilities, video};
use mtcae_dfer::model::decoder::Structure;
use mtcae_dfer::video::{ClipOptions, FrameResizer, FullFrame, TubeShape, Video, tubes};
use mtcae_dfer::video::{Normalization, ndarray::Array4, ndarray::Axis};
use mtcae_dfer::{Device, Pass, Pipeline, Rect, Resize, Tensor, Windowing};

fn with(structure: Structure, sampling: &str, resize: &str) -> Pipeline {
    let pipeline = pipeline(structure);
    let options = ClipOptions {
        sampling: sampling.parse().expect("a sampling"),
        resize: resize.parse().expect("a resizing"),
        ..pipeline.clip_options().clone()
    };
    pipeline.with_clip_options(options)
}

/// The video's 480x360 pixels become 42x32: 42 = int(32 * 480 / 360). Squares begin
/// int(k * (42 - 32) / 2) of these along the long side.
fn squares() -> [Rect; 3] {
    [0.0, 5.0, 10.0].map(|at| Rect {
        x: at * 480.0 / 42.0,
        y: 0.0,
        width: 32.0 * 480.0 / 42.0,
        height: 360.0,
    })
}

/// 75 frames; of every second, which are 38, the first 16 and the last.
fn clips() -> [Vec<u64>; 2] {
    [0, 22].map(|start| (start..start + 16).map(|i| 2 * i).collect())
}

/// What a model says of one view: softmax of its logits, and the boxes in pixels.
struct Said {
    probabilities: Vec<f64>,
    boxes: Vec<[f64; 4]>,
}

/// A view cut, normalised and computed by hand.
fn by_hand(pipeline: &Pipeline, frames: &[FullFrame], indices: &[u64], square: Rect) -> Said {
    let mut pixels = Array4::zeros((16, 32, 32, 3));
    for (mut to, &index) in pixels.axis_iter_mut(Axis(0)).zip(indices) {
        let part = Resize::Crop(square);
        let part = frames[index as usize].part(&part, (32, 32), &mut FrameResizer::default());
        to.assign(&part.expect("a part").0);
    }
    let shape = TubeShape::default();
    let tubes = tubes(pixels.view(), &Normalization::IMAGENET, shape).expect("tubes");
    let size = (1, tubes.nrows(), tubes.ncols());
    let tubes = Tensor::from_vec(tubes.into_raw_vec_and_offset().0, size, &Device::Cpu);
    let outputs = pipeline
        .engine()
        .run(&tubes.expect("a tensor"), &mut Pass::inference())
        .expect("a forward");
    let logits = outputs.logits.to_vec2::<f32>().expect("logits").remove(0);
    let powers: Vec<f64> = logits.iter().map(|&l| f64::from(l).exp()).collect();
    let sum: f64 = powers.iter().sum();
    let boxes = outputs.boxes.map(|t| t.to_vec3::<f32>().expect("boxes"));
    let boxes = boxes.map(|mut b| b.remove(0)).unwrap_or_default();
    let to_source = |b: Vec<f32>| {
        let (x, y) = (
            |v: f32| square.x + f64::from(v) * square.width,
            |v: f32| square.y + f64::from(v) * square.height,
        );
        [x(b[0]), y(b[1]), x(b[2]), y(b[3])]
    };
    Said {
        probabilities: powers.iter().map(|p| p / sum).collect(),
        boxes: boxes.into_iter().map(to_source).collect(),
    }
}

fn assert_mean(got: &[f32], views: &[Said]) {
    for (c, p) in got.iter().enumerate() {
        let mean = views.iter().map(|v| v.probabilities[c]).sum::<f64>() / views.len() as f64;
        assert!((f64::from(*p) - mean).abs() < 1e-6, "{p} for {mean}");
    }
}

#[test]
fn two_clips_of_three_crops_are_the_mean_of_six_softmaxes() {
    let pipeline = with(Structure::Cascade, "multi-clip:2x2", "three-crop");
    let merged = pipeline.predict(video()).expect("predicted");
    let frames = Video::open(video())
        .expect("opened")
        .frames()
        .expect("frames");
    let frames: Vec<FullFrame> = frames.map(|f| f.expect("a frame")).collect();
    let said: Vec<Vec<Said>> = clips()
        .iter()
        .map(|clip| {
            squares()
                .map(|square| by_hand(&pipeline, &frames, clip, square))
                .into()
        })
        .collect();
    // They do not all say the same.
    let first = |view: &Said| view.probabilities[0];
    assert!((first(&said[0][0]) - first(&said[0][2])).abs() > 1e-3);
    let all: Vec<Said> = said.into_iter().flatten().collect();
    assert_mean(&probabilities(&merged), &all);

    // Each frame of each clip once, with the median of the boxes of its three squares.
    let mut want: Vec<(u64, usize, usize)> = Vec::new();
    for (c, clip) in clips().iter().enumerate() {
        want.extend(clip.iter().enumerate().map(|(i, &index)| (index, c, i)));
    }
    want.sort_unstable();
    assert_eq!(merged.frames.len(), want.len());
    for (frame, (index, clip, i)) in merged.frames.iter().zip(want) {
        assert_eq!(frame.index, index);
        let b = frame.face_box.expect("a task");
        for (k, got) in [b.x1, b.y1, b.x2, b.y2].into_iter().enumerate() {
            let mut three: Vec<f64> = (0..3).map(|s| all[3 * clip + s].boxes[i][k]).collect();
            three.sort_by(f64::total_cmp);
            assert!(
                (f64::from(got) - three[1]).abs() < 1e-2,
                "{got} of {three:?}"
            );
        }
    }
    // The squares together show all of the picture.
    assert_eq!(merged.source.crop, None);
    assert_eq!((merged.start, merged.end), (0.0, frames[74].time));

    // A view by itself lies in its own square.
    let views = pipeline.read(video()).expect("read");
    assert_eq!(views.len(), 6);
    for (view, said) in views.iter().zip(&all) {
        let alone = pipeline.predict_clip(view).expect("predicted");
        assert_mean(&probabilities(&alone), std::slice::from_ref(said));
        let b = alone.frames[3].face_box.expect("a task");
        for (got, want) in [b.x1, b.y1, b.x2, b.y2].iter().zip(said.boxes[3]) {
            assert!((f64::from(*got) - want).abs() < 1e-2, "{got} for {want}");
        }
    }
}

#[test]
fn one_clip_of_three_crops_and_a_classifier_without_boxes() {
    let pipeline = with(Structure::SingleTask, "multi-clip:1x4", "three-crop");
    let merged = pipeline.predict(video()).expect("predicted");
    let frames = Video::open(video())
        .expect("opened")
        .frames()
        .expect("frames");
    let frames: Vec<FullFrame> = frames.map(|f| f.expect("a frame")).collect();
    // 19 in the list; 1 before and 2 after.
    let clip: Vec<u64> = (1..17).map(|i| 4 * i).collect();
    let said = squares().map(|square| by_hand(&pipeline, &frames, &clip, square));
    assert_mean(&probabilities(&merged), &said);
    let indices: Vec<u64> = merged.frames.iter().map(|f| f.index).collect();
    assert_eq!(indices, clip);
    assert!(
        merged
            .frames
            .iter()
            .all(|f| f.face_box.is_none() && f.landmarks.is_none())
    );
}

#[test]
fn the_views_of_each_window_are_merged() {
    let pipeline = with(Structure::Cascade, "multi-clip:2x1", "three-crop");
    // Views of a window go through the model in two batches.
    let windowing = Windowing {
        length: 1.0,
        stride: 1.0,
        batch: 4,
    };
    let timeline = pipeline
        .predict_windows(video(), &windowing, |_| ControlFlow::Continue(()))
        .expect("predicted");
    assert_eq!(timeline.windows.len(), 3);
    for window in &timeline.windows {
        let options = ClipOptions {
            start: Some(window.start),
            end: Some(window.end),
            ..pipeline.clip_options().clone()
        };
        let alone = pipeline.clone().with_clip_options(options);
        let alone = alone.predict(video()).expect("predicted");
        assert_eq!(window.frames.len(), 32);
        assert_eq!(window.source, alone.source);
        for (a, b) in probabilities(&alone).iter().zip(probabilities(window)) {
            assert!((a - b).abs() < 1e-5);
        }
        for (a, b) in alone.frames.iter().zip(&window.frames) {
            let (a, b) = (a.face_box.expect("a task"), b.face_box.expect("a task"));
            assert!((a.x1 - b.x1).abs() < 1e-2 && (a.y2 - b.y2).abs() < 1e-2);
        }
    }
}

/// What views show together is what the model saw.
#[test]
fn what_several_views_show_is_the_rectangle_around_them() {
    let pipeline = pipeline(Structure::Cascade);
    let mut views = with(Structure::Cascade, "uniform", "three-crop")
        .read(video())
        .expect("read");
    views.pop();
    let merged = pipeline.predict_views("a.mp4", &views).expect("predicted");
    let shown = merged.source.crop.expect("a part");
    assert_eq!((shown.x, shown.y, shown.height), (0.0, 0.0, 360.0));
    assert!((shown.width - 37.0 * 480.0 / 42.0).abs() < 1e-9);
    // Of two, the mean is the median.
    let each: Vec<f32> = views
        .iter()
        .map(|v| pipeline.predict_clip(v).expect("predicted"))
        .map(|p| p.frames[0].landmarks.expect("a task").nose[0])
        .collect();
    let nose = merged.frames[0].landmarks.expect("a task").nose[0];
    assert!((nose - (each[0] + each[1]) / 2.0).abs() < 1e-3);
    assert_eq!(merged.frames.len(), 16);
    // Clips of the same part and frames are not crops: both are listed.
    let twice = [views[0].clone(), views[0].clone()];
    let merged = pipeline.predict_views("a.mp4", &twice).expect("predicted");
    assert_eq!(merged.frames.len(), 32);
    assert_eq!(merged.source.crop, views[0].source.crop);
}
