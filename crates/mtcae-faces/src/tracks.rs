//! Faces linked over time into identities.
//!
//! A face continues the track whose last face overlaps it most or whose
//! landmarks lie nearest; short gaps are filled in and flagged. Nothing here
//! looks at what a face looks like: two people who change places while neither
//! is detected become each other's track.

use std::cmp::Reverse;

use mtcae_core::{Face, Track, gaps};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How faces are linked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackConfig {
    /// Overlap (intersection over union) from which two boxes are one face.
    pub min_overlap: f32,
    /// Mean distance of the landmarks, in sides of the box (√area), up to which
    /// two faces are one although their boxes overlap less.
    pub max_distance: f32,
    /// Frames without a detection after which a track ends.
    pub max_gap: usize,
    /// Smoothing of positions; `None` keeps the detector's.
    pub smoothing: Option<OneEuro>,
}

impl Default for TrackConfig {
    fn default() -> Self {
        Self {
            min_overlap: 0.3,
            max_distance: 0.5,
            max_gap: 5,
            smoothing: None,
        }
    }
}

impl TrackConfig {
    /// # Errors
    /// [`Error::Config`] names the field that cannot be used.
    pub fn check(&self) -> Result<(), Error> {
        let fault = |field, reason: &str| {
            let reason = reason.to_owned();
            Err(Error::Config { field, reason })
        };
        if !(self.min_overlap > 0.0 && self.min_overlap <= 1.0) {
            return fault("min_overlap", "must be in (0, 1]");
        }
        if !(self.max_distance >= 0.0 && self.max_distance.is_finite()) {
            return fault("max_distance", "must be a number of at least 0");
        }
        if let Some(s) = self.smoothing {
            let positive = |v: f64| v > 0.0 && v.is_finite();
            let usable = positive(s.min_cutoff) && positive(s.speed_cutoff) && s.beta >= 0.0;
            if !usable {
                return fault("smoothing", "cut-offs must be above 0, beta at least 0");
            }
        }
        Ok(())
    }
}

/// The one-euro filter (Casiez, Roussel and Vogel, 2012, CHI): a low-pass whose
/// cut-off rises with speed, so that a still face does not jitter and a moving
/// one does not lag. Positions are taken in sides of the box, so that the values
/// suit any size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneEuro {
    /// Cut-off at rest, in Hz.
    pub min_cutoff: f64,
    /// How much the cut-off rises with speed (sides of the box a second).
    pub beta: f64,
    /// Cut-off of the speed's own low-pass, in Hz.
    pub speed_cutoff: f64,
}

impl Default for OneEuro {
    fn default() -> Self {
        Self {
            min_cutoff: 1.0,
            beta: 4.0,
            speed_cutoff: 1.0,
        }
    }
}

/// Links the faces of frames at `times` (seconds, growing) into tracks, numbered in the
/// order in which they begin (in one frame: the larger face first).
///
/// # Errors
/// [`Error::Config`] when a setting cannot be used, there are not as many times as
/// frames, or a face has a score of 0, which says that nobody found it.
pub fn link(
    frames: &[Vec<Face>],
    times: &[f64],
    config: &TrackConfig,
) -> Result<Vec<Track>, Error> {
    config.check()?;
    if frames.len() != times.len() {
        return Err(Error::Config {
            field: "times",
            reason: format!("{} times for {} frames", times.len(), frames.len()),
        });
    }
    if !frames.iter().flatten().all(Face::is_detected) {
        return Err(Error::Config {
            field: "score",
            reason: "must be above 0 for every face that was found".to_owned(),
        });
    }
    let mut tracks: Vec<Track> = Vec::new();
    let mut alive: Vec<usize> = Vec::new();
    for (frame, faces) in frames.iter().enumerate() {
        alive.retain(|&t| frame - tracks[t].end() <= config.max_gap);
        let mut pairs = Vec::new();
        for &t in &alive {
            let Some(last) = tracks[t].faces.last() else {
                continue;
            };
            for (i, face) in faces.iter().enumerate() {
                let (overlap, distance) = (last.face_box.iou(&face.face_box), distance(last, face));
                if overlap >= config.min_overlap || distance <= config.max_distance {
                    pairs.push((overlap - distance, t, i));
                }
            }
        }
        // The best pair first; of equals, the older track and the larger face.
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut taken = vec![false; faces.len()];
        let mut continued = Vec::new();
        for (_, t, i) in pairs {
            if !taken[i] && !continued.contains(&t) {
                taken[i] = true;
                continued.push(t);
                extend(&mut tracks[t], frame, faces[i], times);
            }
        }
        for (i, &face) in faces.iter().enumerate() {
            if !taken[i] {
                alive.push(tracks.len());
                tracks.push(Track {
                    id: tracks.len() as u32,
                    first: frame,
                    faces: vec![face],
                });
            }
        }
    }
    if let Some(filter) = &config.smoothing {
        for track in &mut tracks {
            smooth(track, times, filter);
        }
    }
    Ok(tracks)
}

/// The track of the clip's subject: the one found in most frames; of equals the
/// one with the larger boxes.
pub fn subject(tracks: &[Track]) -> Option<usize> {
    (0..tracks.len()).max_by(|&a, &b| {
        let (x, y) = (&tracks[a], &tracks[b]);
        (x.detected().cmp(&y.detected()))
            .then(x.mean_area().total_cmp(&y.mean_area()))
            .then(Reverse(a).cmp(&Reverse(b)))
    })
}

/// Mean distance of two faces' landmarks in sides of their boxes.
fn distance(a: &Face, b: &Face) -> f32 {
    let side = |f: &Face| f.face_box.area().max(0.0).sqrt();
    let side = (side(a) + side(b)) / 2.0;
    let pairs = a.landmarks.points().into_iter().zip(b.landmarks.points());
    let sum: f32 = pairs.map(|(p, q)| (p[0] - q[0]).hypot(p[1] - q[1])).sum();
    sum / 5.0 / side.max(1.0)
}

/// Adds a detection to a track and fills the gap before it, linearly in time.
fn extend(track: &mut Track, frame: usize, face: Face, times: &[f64]) {
    let gap = track.end()..frame;
    if let (Some(&last), Some(from)) = (track.faces.last(), gap.start.checked_sub(1)) {
        for between in gap {
            let share = match times[frame] > times[from] {
                true => gaps::share(times[from], times[frame], times[between]),
                false => gaps::share(from as f64, frame as f64, between as f64),
            };
            track.faces.push(last.towards(&face, share));
        }
    }
    track.faces.push(face);
}

/// Runs the one-euro filter over each coordinate of a track.
fn smooth(track: &mut Track, times: &[f64], filter: &OneEuro) {
    let alpha = |cutoff: f64, dt: f64| {
        let r = std::f64::consts::TAU * cutoff * dt;
        r / (r + 1.0)
    };
    let mut speeds = [0.0f64; 14];
    for i in 1..track.faces.len() {
        let (before, now) = (track.faces[i - 1], track.faces[i]);
        let frame = track.first + i;
        let dt = times[frame] - times[frame - 1];
        if dt <= 0.0 {
            continue; // the same moment again: nothing to filter
        }
        let side = f64::from(now.face_box.area().max(1.0).sqrt());
        let mut smoothed = |c: usize, a: f32, b: f32| {
            let (a, b) = (f64::from(a), f64::from(b));
            let speed = (b - a) / side / dt;
            speeds[c] += alpha(filter.speed_cutoff, dt) * (speed - speeds[c]);
            let cutoff = filter.min_cutoff + filter.beta * speeds[c].abs();
            (a + alpha(cutoff, dt) * (b - a)) as f32
        };
        let (a, b) = (before.face_box.corners(), now.face_box.corners());
        let face_box = std::array::from_fn(|k| smoothed(k, a[k], b[k]));
        let (a, b) = (before.landmarks.points(), now.landmarks.points());
        let point = |k: usize| std::array::from_fn(|c| smoothed(4 + 2 * k + c, a[k][c], b[k][c]));
        track.faces[i] = Face {
            face_box: face_box.into(),
            landmarks: std::array::from_fn(point).into(),
            score: now.score,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32, y: f32, size: f32) -> Face {
        Face {
            face_box: [x, y, x + size, y + size].into(),
            landmarks: [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]
                .map(|[u, v]| [x + u * size, y + v * size])
                .into(),
            score: 0.9,
        }
    }

    fn times(n: usize) -> Vec<f64> {
        (0..n).map(|i| i as f64 / 25.0).collect()
    }

    #[test]
    fn two_people_stay_apart_and_a_gap_is_filled() {
        let mut frames: Vec<Vec<Face>> = (0..10)
            .map(|i| {
                let d = i as f32;
                vec![
                    face(100.0 - 3.0 * d, 10.0, 40.0),
                    face(10.0 + 3.0 * d, 60.0, 30.0),
                ]
            })
            .collect();
        frames[4].remove(0);
        frames[5].remove(0);
        let tracks = link(&frames, &times(10), &TrackConfig::default()).unwrap();
        assert_eq!(tracks.len(), 2);
        assert_eq!((tracks[0].faces.len(), tracks[0].detected()), (10, 8));
        let filled = tracks[0].at(4).unwrap();
        assert!(!filled.is_detected());
        assert!((filled.face_box.x1 - 88.0).abs() < 1e-4);
        assert_eq!(tracks[1].detected(), 10);
        assert_eq!(
            subject(&tracks),
            Some(1),
            "the longer track, though smaller"
        );
        assert_eq!(subject(&[]), None);
    }

    #[test]
    fn a_long_gap_ends_a_track_and_equals_go_by_size() {
        let mut frames = vec![Vec::new(); 20];
        frames[0] = vec![face(0.0, 0.0, 20.0), face(50.0, 0.0, 30.0)];
        frames[19] = vec![face(0.0, 0.0, 20.0)];
        let tracks = link(&frames, &times(20), &TrackConfig::default()).unwrap();
        assert_eq!(tracks.len(), 3);
        assert_eq!(subject(&tracks), Some(1));
        assert!(tracks[0].at(1).is_none() && tracks[2].at(0).is_none());
    }

    #[test]
    fn repeated_frames_and_times_do_no_harm() {
        let frames = vec![
            vec![face(5.0, 5.0, 20.0)],
            vec![],
            vec![face(6.0, 5.0, 20.0)],
        ];
        let config = TrackConfig {
            smoothing: Some(OneEuro::default()),
            ..TrackConfig::default()
        };
        let tracks = link(&frames, &[0.0; 3], &config).unwrap();
        assert!((tracks[0].at(1).unwrap().face_box.x1 - 5.5).abs() < 1e-6);
        assert!(link(&frames, &[0.0; 2], &config).is_err());
        let nobody = [vec![frames[0][0].towards(&frames[2][0], 0.5)]];
        let error = link(&nobody, &[0.0], &config).unwrap_err();
        assert!(error.to_string().starts_with("score: "), "{error}");
    }

    #[test]
    fn smoothing_calms_a_still_face_and_follows_a_moving_one() {
        let config = TrackConfig {
            smoothing: Some(OneEuro::default()),
            ..TrackConfig::default()
        };
        let n = 100;
        let still: Vec<Vec<Face>> = (0..n)
            .map(|i| vec![face(50.0 + if i % 2 == 0 { 0.5 } else { -0.5 }, 50.0, 40.0)])
            .collect();
        let jitter = |tracks: &[Track]| {
            let x: Vec<f32> = tracks[0].faces[20..]
                .iter()
                .map(|f| f.face_box.x1)
                .collect();
            x.windows(2).map(|w| (w[1] - w[0]).abs()).sum::<f32>() / x.len() as f32
        };
        let plain = link(&still, &times(n), &TrackConfig::default()).unwrap();
        let calm = link(&still, &times(n), &config).unwrap();
        assert!(jitter(&calm) < jitter(&plain) / 3.0, "{}", jitter(&calm));
        let moving: Vec<Vec<Face>> = (0..n)
            .map(|i| vec![face(50.0 + 4.0 * i as f32, 50.0, 40.0)])
            .collect();
        let tracks = link(&moving, &times(n), &config).unwrap();
        let lag = moving[n - 1][0].face_box.x1 - tracks[0].faces[n - 1].face_box.x1;
        assert!((0.0..8.0).contains(&lag), "lag {lag}");
    }
}
