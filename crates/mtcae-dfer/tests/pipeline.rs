//! From video files and clips to predictions.

#![cfg(feature = "ffmpeg")]

mod common;

use std::ops::ControlFlow;

use common::{pipeline, pipeline_with, probabilities, video};
use mtcae_dfer::model::decoder::Structure;
use mtcae_dfer::video::{Clip, ClipOptions, Geometry};
use mtcae_dfer::{
    Device, Error, Pass, Prediction, Rect, Sampling, Seen, Tensor, Timeline, Windowing,
};
use ndarray::Array4;

fn noise(seed: usize) -> Clip {
    let frames = Array4::from_shape_fn((16, 32, 32, 3), |(t, y, x, c)| {
        (seed + 31 * t + 7 * y * x + 89 * c) as u8
    });
    Clip {
        frames,
        times: (0..16).map(|t| f64::from(t) / 8.0).collect(),
        indices: (0..16).map(|t| 3 * t).collect(),
        source: Geometry::plain(640, 480),
        squares: vec![],
        warnings: vec![],
    }
}

#[test]
fn a_pipeline_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    shared(&pipeline(Structure::Cascade));
}

#[test]
fn a_video_gives_what_its_clip_gives() {
    let pipeline = pipeline(Structure::Cascade);
    let from_file = pipeline.predict(video()).expect("predicted");
    let clip = pipeline.read(video()).expect("read").remove(0);
    let from_clip = pipeline.predict_clip(&clip).expect("predicted");
    assert_eq!(from_file.file, Some(video()));
    assert_eq!(
        Prediction {
            file: None,
            ..from_file.clone()
        },
        from_clip
    );
    assert_eq!(from_file.frames.len(), 16);
    let sum: f32 = probabilities(&from_file).iter().sum();
    assert!((sum - 1.0).abs() < 1e-6);
    let best = from_file
        .probabilities
        .iter()
        .max_by(|a, b| a.probability.total_cmp(&b.probability));
    assert_eq!(
        best.map(|c| (&c.class, c.probability)),
        Some((&from_file.expression, from_file.confidence))
    );
    assert_eq!(from_file.trained_on, None);
}

#[test]
fn a_batch_gives_what_its_clips_give_one_by_one() {
    let pipeline = pipeline(Structure::Cascade);
    let clips = [noise(1), noise(50), noise(99)];
    let together = pipeline.predict_clips(&clips).expect("predicted");
    assert_ne!(probabilities(&together[0]), probabilities(&together[1]));
    for (clip, batched) in clips.iter().zip(&together) {
        let alone = pipeline.predict_clip(clip).expect("predicted");
        for (a, b) in probabilities(&alone).iter().zip(probabilities(batched)) {
            // Matrix products of other heights may add in another order.
            assert!((a - b).abs() < 1e-5);
        }
    }
    assert!(pipeline.predict_clips(&[]).expect("nothing").is_empty());
}

#[test]
fn coordinates_are_pixels_of_the_source_crop_included() {
    let pipeline = pipeline(Structure::Cascade);
    let mut clip = noise(3);
    let plain = pipeline.predict_clip(&clip).expect("predicted");
    let tubes = pipeline.input(std::slice::from_ref(&clip)).expect("tubes");
    let raw = pipeline
        .engine()
        .run(&tubes, &mut Pass::inference())
        .expect("a forward");
    let fractions = raw.boxes.expect("a task").to_vec3::<f32>().expect("values");
    let b = plain.frames[5].face_box.expect("a task");
    for ((got, fraction), size) in [b.x1, b.y1, b.x2, b.y2]
        .iter()
        .zip(&fractions[0][5])
        .zip([640.0, 480.0, 640.0, 480.0])
    {
        assert!(
            (got - fraction * size).abs() < 1e-2,
            "{got} from {fraction}"
        );
    }
    clip.source.crop = Some(Rect {
        x: 100.0,
        y: 50.0,
        width: 320.0,
        height: 240.0,
    });
    let cropped = pipeline.predict_clip(&clip).expect("predicted").frames[5]
        .face_box
        .expect("a task");
    assert!(
        (cropped.x1 - (100.0 + b.x1 / 2.0)).abs() < 1e-2
            && (cropped.y2 - (50.0 + b.y2 / 2.0)).abs() < 1e-2
    );
}

#[test]
fn a_single_task_model_gives_expressions_and_no_faces() {
    let prediction = pipeline(Structure::SingleTask)
        .predict_clip(&noise(0))
        .expect("predicted");
    assert!(
        prediction
            .frames
            .iter()
            .all(|f| f.face_box.is_none() && f.landmarks.is_none())
    );
    let mut table = Vec::new();
    mtcae_dfer::write_csv(&mut table, [&prediction]).expect("written");
    let table = String::from_utf8(table).expect("text");
    let columns: Vec<usize> = table.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [42; 17], "a header and 16 rows of equal length");
}

#[test]
fn several_views_are_averaged() {
    let pipeline = pipeline(Structure::Cascade);
    let sampling = Sampling::MultiClip {
        clips: 3,
        stride: 2,
    };
    let pipeline = pipeline.clone().with_clip_options(ClipOptions {
        sampling,
        ..pipeline.clip_options().clone()
    });
    let merged = pipeline.predict(video()).expect("predicted");
    let views = pipeline.read(video()).expect("read");
    assert_eq!((views.len(), merged.frames.len()), (3, 48));
    let each: Vec<Vec<f32>> = views
        .iter()
        .map(|v| probabilities(&pipeline.predict_clip(v).expect("predicted")))
        .collect();
    for (c, p) in probabilities(&merged).iter().enumerate() {
        let mean = each.iter().map(|view| view[c]).sum::<f32>() / 3.0;
        assert!((p - mean).abs() < 1e-6);
    }
}

#[test]
fn several_views_of_each_window_are_averaged() {
    let pipeline = pipeline(Structure::Cascade);
    let options = ClipOptions {
        sampling: Sampling::MultiClip {
            clips: 3,
            stride: 1,
        },
        ..pipeline.clip_options().clone()
    };
    let pipeline = pipeline.with_clip_options(options.clone());
    let windowing = Windowing {
        length: 1.0,
        stride: 1.0,
        batch: 2,
    };
    let timeline = pipeline
        .predict_windows(video(), &windowing, |_| ControlFlow::Continue(()))
        .expect("predicted");
    assert_eq!(timeline.windows.len(), 3);
    let alone = pipeline.clone().with_clip_options(ClipOptions {
        start: Some(1.0),
        end: Some(2.0),
        ..options
    });
    let alone = alone.predict(video()).expect("predicted");
    assert_eq!(timeline.windows[1].frames.len(), 48);
    for (a, b) in probabilities(&alone)
        .iter()
        .zip(probabilities(&timeline.windows[1]))
    {
        assert!((a - b).abs() < 1e-5);
    }
}

#[test]
fn windows_cover_the_video_and_can_be_cancelled() {
    let pipeline = pipeline(Structure::Cascade);
    let windowing = Windowing {
        length: 1.0,
        stride: 0.5,
        batch: 2,
    };
    let mut seen = Vec::new();
    let timeline = pipeline
        .predict_windows(video(), &windowing, |progress| {
            seen.push(progress.windows);
            ControlFlow::Continue(())
        })
        .expect("predicted");
    let starts: Vec<f64> = timeline.windows.iter().map(|w| w.start).collect();
    // The last one reaches the video's end.
    assert_eq!(starts, [0.0, 0.5, 1.0, 1.5, 2.0]);
    assert_eq!(timeline.points.len(), 5);
    assert_eq!(seen, [2, 4, 5]);
    let ahead = pipeline.clone().with_decoding_ahead(true);
    let same = ahead.predict_windows(video(), &windowing, |_| ControlFlow::Continue(()));
    assert_eq!(same.expect("predicted"), timeline);
    // A window is what a clip of that stretch of time gives.
    let options = ClipOptions {
        start: Some(1.0),
        end: Some(2.0),
        ..pipeline.clip_options().clone()
    };
    let alone = pipeline
        .clone()
        .with_clip_options(options)
        .predict(video())
        .expect("predicted");
    for (a, b) in probabilities(&alone)
        .iter()
        .zip(probabilities(&timeline.windows[2]))
    {
        assert!((a - b).abs() < 1e-5);
    }
    let json = serde_json::to_string(&timeline).expect("json");
    assert_eq!(
        serde_json::from_str::<Timeline>(&json)
            .expect("parsed")
            .windows
            .len(),
        5
    );

    for pipeline in [pipeline, ahead] {
        let error = pipeline
            .predict_windows(video(), &windowing, |_| ControlFlow::Break(()))
            .expect_err("cancelled");
        assert!(matches!(error, Error::Cancelled { done: 2 }), "{error}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let base = pipeline(Structure::Cascade);
    let one = base
        .clone()
        .with_threads(1)
        .expect("a pool")
        .predict(video())
        .expect("predicted");
    let three = base
        .with_threads(3)
        .expect("a pool")
        .predict(video())
        .expect("predicted");
    assert_eq!(one, three);
}

#[test]
fn a_tensor_of_clips_gives_head_outputs() {
    let clips = Tensor::randn(0f32, 1.0, (2, 16, 3, 32, 32), &Device::Cpu).expect("noise");
    let outputs = pipeline(Structure::Cascade)
        .predict_tensor(&clips)
        .expect("predicted");
    assert_eq!(outputs.logits.dims(), [2, 3]);
    let small = Tensor::randn(0f32, 1.0, (2, 16, 3, 16, 32), &Device::Cpu).expect("noise");
    assert!(pipeline(Structure::Cascade).predict_tensor(&small).is_err());
}

#[test]
fn what_is_no_number_is_refused_by_head_and_file() {
    for head in ["face_box", "landmarks", "expression"] {
        let pipeline = pipeline_with(
            Structure::Cascade,
            &[&format!("decoder.heads.{head}.fc.bias")],
        );
        let error = pipeline.predict_clip(&noise(0)).expect_err("refused");
        assert!(
            matches!(error, Error::NotFinite { head: h } if h == head),
            "{error}"
        );
        let error = pipeline.predict(video()).expect_err("refused").to_string();
        let file = video().display().to_string();
        assert!(error.starts_with(&file) && error.contains(head), "{error}");
        let windowing = Windowing {
            length: 1.0,
            stride: 1.0,
            batch: 1,
        };
        let error = pipeline
            .predict_windows(video(), &windowing, |_| ControlFlow::Continue(()))
            .expect_err("refused")
            .to_string();
        assert!(error.starts_with(&file) && error.contains(head), "{error}");
    }
}

#[test]
fn a_clip_without_all_its_times_is_refused() {
    let pipeline = pipeline(Structure::Cascade);
    for cut in [0, 15] {
        let mut clip = noise(1);
        clip.times.truncate(cut);
        let error = pipeline
            .predict_clip(&clip)
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains(&format!("16 frames, {cut} times")),
            "{error}"
        );
    }
    let mut clip = noise(1);
    clip.indices.push(16);
    assert!(matches!(
        pipeline.predict_clip(&clip),
        Err(Error::Uneven { indices: 17, .. })
    ));
}

#[test]
fn predictions_written_before_faces_were_counted_are_read() {
    let mut prediction = pipeline(Structure::Cascade)
        .predict_clip(&noise(1))
        .expect("predicted");
    let mut json = serde_json::to_value(&prediction).expect("JSON");
    json.as_object_mut().expect("fields").remove("seen");
    let read: Prediction = serde_json::from_value(json).expect("read");
    assert_eq!(read, prediction);
    // And warnings of both kinds come back as they were.
    prediction.note_seen(Seen {
        frames: 3,
        of: 16,
        at: "source".to_owned(),
        min_face: 20.0,
    });
    let json = serde_json::to_string(&prediction).expect("JSON");
    assert!(json.contains("\"kind\":\"face-in-few\""), "{json}");
    let read: Prediction = serde_json::from_str(&json).expect("read");
    assert_eq!(read, prediction);
}

#[test]
fn faults_are_said_by_name() {
    let pipeline = pipeline(Structure::Cascade);
    let error = pipeline
        .predict("no/such/file.mp4")
        .expect_err("missing")
        .to_string();
    assert!(error.contains("no/such/file.mp4"), "{error}");
    let clip = Clip {
        frames: Array4::zeros((16, 48, 32, 3)),
        ..noise(0)
    };
    let error = pipeline
        .predict_clip(&clip)
        .expect_err("another size")
        .to_string();
    assert!(
        error.contains("16×32×32") && error.contains("16×48×32"),
        "{error}"
    );
    let every = pipeline.clone().with_clip_options(ClipOptions {
        sampling: Sampling::All,
        ..pipeline.clip_options().clone()
    });
    let error = every
        .predict(video())
        .expect_err("another length")
        .to_string();
    assert!(
        error.starts_with(&video().display().to_string()) && error.contains("75×32×32"),
        "{error}"
    );
    assert!(pipeline.with_threads(0).is_err());
}
