//! Detects faces in raw frames and says how long it took: what
//! `fixtures/mtcnn/photos.py` and `speed.py` drive.
//!
//! Each line of the input is `FILE WIDTH HEIGHT FRAMES REPEATS`, the file holding
//! 8-bit RGB; each line of the output is JSON: the faces of every frame and the
//! seconds of every repeat.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a driver of tests

use std::io::BufRead;
use std::time::Instant;

use mtcae_faces::{Detector, DetectorConfig};
use ndarray::Array4;

fn main() {
    let detector = Detector::new(DetectorConfig::default()).unwrap();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let [file, numbers @ ..] = &line.split_whitespace().collect::<Vec<_>>()[..] else {
            continue;
        };
        let n: Vec<usize> = numbers.iter().map(|v| v.parse().unwrap()).collect();
        let data = std::fs::read(file).unwrap();
        let frames = Array4::from_shape_vec((n[2], n[1], n[0], 3), data).unwrap();
        let (mut faces, mut seconds) = (Vec::new(), Vec::new());
        for _ in 0..n[3] {
            let start = Instant::now();
            faces = detector.detect_batch(frames.view()).unwrap();
            seconds.push(start.elapsed().as_secs_f64());
        }
        let faces: Vec<Vec<serde_json::Value>> = faces
            .iter()
            .map(|frame| {
                let face = |f: &mtcae_core::Face| {
                    serde_json::json!({"box": f.face_box.corners(), "score": f.score, "landmarks": f.landmarks.points()})
                };
                frame.iter().map(face).collect()
            })
            .collect();
        println!(
            "{}",
            serde_json::json!({"faces": faces, "seconds": seconds})
        );
    }
}
