//! Results that are made by hand.

#![allow(dead_code)]

use mtcae_dfer::video::Geometry;
use mtcae_dfer::{
    Answer, ClassProbability, Face, FaceBox, FramePrediction, Landmarks, Prediction, Refusal,
    Results, Timeline,
};

pub const CLASSES: [&str; 2] = ["happy", "sad"];

/// A frame whose box begins where its number says.
pub fn frame(index: u64, time: f64) -> FramePrediction {
    let x = index as f32 + 0.1;
    let landmarks: Landmarks = [
        [x, 2.5],
        [x + 8.0, 2.5],
        [x + 4.0, 6.0],
        [x + 1.0, 9.0],
        [x + 7.0, 9.0],
    ]
    .into();
    FramePrediction {
        index,
        time,
        face_box: Some(FaceBox {
            x1: x,
            y1: 1.0,
            x2: x + 10.0,
            y2: 13.0,
        }),
        landmarks: Some(landmarks),
        action_units: vec![0.25, 0.5],
        detected: Some(Face {
            face_box: [x, 1.5, x + 9.0, 12.0].into(),
            landmarks,
            score: 0.75,
        }),
        square: None,
    }
}

/// An answer about the frames with these numbers, of a video with so many a second; `happy`
/// where the first class is at least as probable as the other.
pub fn prediction(
    bounds: [f64; 2],
    frames: impl Iterator<Item = u64>,
    rate: f64,
    p: f32,
) -> Prediction {
    let class = |class: &str, probability| ClassProbability {
        class: class.to_owned(),
        probability,
    };
    Prediction {
        file: Some("some folder/a \"b\" & <c>.mp4".into()),
        person: None,
        start: bounds[0],
        end: bounds[1],
        expression: CLASSES[usize::from(p < 0.5)].to_owned(),
        confidence: p.max(1.0 - p),
        refusal: None,
        probabilities: vec![class("happy", p), class("sad", 1.0 - p)],
        action_units: vec!["AU1".to_owned(), "AU12".to_owned()],
        frames: frames.map(|i| frame(i, i as f64 / rate)).collect(),
        source: Geometry::plain(640, 480),
        trained_on: None,
        seen: None,
        warnings: Vec::new(),
    }
}

/// A window of a video with 25 frames a second, of which every fifth is sampled.
pub fn window(start: f64, length: f64, p: f32) -> Prediction {
    let (first, end) = (
        (start * 25.0).ceil() as u64,
        ((start + length) * 25.0).ceil() as u64,
    );
    prediction([start, start + length], (first..end).step_by(5), 25.0, p)
}

pub fn refused(mut prediction: Prediction, refusal: Refusal) -> Prediction {
    prediction.refuse(refusal);
    prediction
}

pub fn timeline(length: f64, stride: f64, windows: Vec<Prediction>) -> Results {
    let timeline = Timeline::new(length, stride, windows).expect("a timeline");
    of(Answer::Windows(vec![timeline]))
}

pub fn of(answer: Answer) -> Results {
    Results {
        provenance: None,
        answer,
    }
}
