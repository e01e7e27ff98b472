//! Rendered faces under the eyes of MTCNN.

use std::path::Path;

use crate::{Bars, say};
use mtcae_dfer::video::{ClipOptions, Video};
use mtcae_dfer::{Face, Resize, Sampling};
use mtcae_faces::{Detector, DetectorConfig};
use mtcae_synth::{Expression, Planned, Renderer};

use crate::Fault;

/// What was found.
#[derive(Clone, Copy, Default)]
struct Tally {
    frames: usize,
    found: usize,
    /// Frames in which something else was found as well.
    others: usize,
    overlap: f64,
    /// Differences of the box's edges, in its sides.
    edges: [f64; 4],
    /// Landmark errors in distances of the eyes.
    landmarks: [f64; 5],
    shifts: [[f64; 2]; 5],
}

/// Detects in `count` frames of each clip, evenly spaced, and prints how often and
/// how exactly the face was found.
pub fn run(
    root: &Path,
    plan: &[Planned],
    renderer: &Renderer,
    count: usize,
    quiet: bool,
) -> Result<(), Fault> {
    let detector = Detector::new(DetectorConfig {
        min_face: 20.0,
        ..DetectorConfig::default()
    })?;
    let bar = Bars::new(quiet).items("checked", plan.len() as u64);
    let mut tallies = [Tally::default(); 8];
    for clip in plan {
        let take = &clip.take;
        let options = ClipOptions {
            frames: count,
            size: (take.width, take.height),
            sampling: Sampling::Uniform,
            resize: Resize::Squash,
            ..ClipOptions::default()
        };
        let decoded = Video::open(root.join(&clip.file))?.clip(&options)?;
        let exact = renderer.truth(take)?;
        let faces = detector.detect_batch(decoded.frames.view())?;
        for (faces, index) in faces.iter().zip(&decoded.indices) {
            let tally = &mut tallies[usize::from(take.expression.code()) - 1];
            if let Some(exact) = exact.get(*index as usize) {
                tally.add(faces, exact, [take.width as f32, take.height as f32]);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    say!("expression   frames  found   others  IoU    landmark error / eye distance");
    let mut all = Tally::default();
    for (expression, tally) in Expression::ALL.iter().zip(&tallies) {
        say!("{expression:11} {tally}");
        all.merge(tally);
    }
    say!("{:11} {all}", "all");
    let n = all.found.max(1) as f64;
    say!(
        "box, MTCNN minus truth, of its sides: {:.3?}",
        all.edges.map(|e| e / n)
    );
    say!(
        "landmarks, MTCNN minus truth: {:.3?}",
        all.shifts.map(|s| s.map(|v| v / n))
    );
    Ok(())
}

impl Tally {
    fn add(&mut self, faces: &[Face], truth: &Face, [w, h]: [f32; 2]) {
        self.frames += 1;
        let exact = truth.map(|[x, y]| [x * w, y * h]);
        let overlap = |f: &Face| f.face_box.iou(&exact.face_box);
        let best = faces
            .iter()
            .max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
        let Some(best) = best.filter(|f| overlap(f) >= 0.5) else {
            self.others += usize::from(!faces.is_empty());
            return;
        };
        self.found += 1;
        self.others += usize::from(faces.len() > 1);
        self.overlap += f64::from(overlap(best));
        let (edges, found) = (exact.face_box.corners(), best.face_box.corners());
        for i in 0..4 {
            let side = edges[i % 2 + 2] - edges[i % 2];
            self.edges[i] += f64::from((found[i] - edges[i]) / side);
        }
        let (points, found) = (exact.landmarks.points(), best.landmarks.points());
        let eyes = (points[1][0] - points[0][0]).hypot(points[1][1] - points[0][1]);
        for (i, (found, exact)) in found.iter().zip(points).enumerate() {
            let (dx, dy) = (found[0] - exact[0], found[1] - exact[1]);
            self.landmarks[i] += f64::from(dx.hypot(dy) / eyes);
            self.shifts[i][0] += f64::from(dx / eyes);
            self.shifts[i][1] += f64::from(dy / eyes);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.found += other.found;
        self.others += other.others;
        self.overlap += other.overlap;
        for i in 0..4 {
            self.edges[i] += other.edges[i];
        }
        for i in 0..5 {
            self.landmarks[i] += other.landmarks[i];
            self.shifts[i][0] += other.shifts[i][0];
            self.shifts[i][1] += other.shifts[i][1];
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.found.max(1) as f64;
        let errors = self.landmarks.map(|e| e / n);
        let mean = errors.iter().sum::<f64>() / 5.0;
        write!(
            f,
            "{:7} {:6.2}% {:6.2}% {:.3}  {mean:.3} (eyes {:.3} {:.3}, nose {:.3}, mouth {:.3} {:.3})",
            self.frames,
            100.0 * self.found as f64 / self.frames.max(1) as f64,
            100.0 * self.others as f64 / self.frames.max(1) as f64,
            self.overlap / n,
            errors[0],
            errors[1],
            errors[2],
            errors[3],
            errors[4],
        )
    }
}
