//! Numbers as columns of bytes, as the page's script reads them (`assets/store.js`).
//!
//! Little-endian, each column padded to 8 bytes, in the order of [`Pack::add`]. Probabilities
//! and scores are 16-bit parts of 65,534, coordinates 16-bit parts of twice the picture from
//! −½ of it on (a hundredth of a pixel of 320, a sixteenth of one of 1920), strengths of action
//! units 8-bit parts of 254. The greatest number says that there is nothing.

use std::collections::{BTreeMap, btree_map::Entry};

use mtcae_dfer::{FaceBox, FramePrediction, Landmarks, Prediction, Timeline};
use serde::Serialize;

use crate::clip::{Classes, Remark, probability, remarks_of};

/// Where a person's columns are, and how long they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    /// The first column's first byte.
    pub at: usize,
    /// Windows; 1 of a clip as a whole.
    pub windows: usize,
    /// Smoothed points; 0 of a clip as a whole.
    pub points: usize,
    /// Frames, each once.
    pub frames: usize,
    /// Bytes of the list of remarks.
    pub texts: usize,
}

/// Columns of several people.
#[derive(Default)]
pub(crate) struct Pack {
    pub bytes: Vec<u8>,
}

const NOTHING: u16 = u16::MAX;

/// A number in [0, 1].
fn part(value: f32) -> u16 {
    (value.clamp(0.0, 1.0) * 65_534.0).round() as u16
}

/// A coordinate as a fraction of the picture.
fn coordinate(pixels: f32, side: u32) -> u16 {
    let fraction = f64::from(pixels) / f64::from(side.max(1));
    ((fraction.clamp(-0.5, 1.5) + 0.5) * 32_767.0).round() as u16
}

impl Pack {
    /// Adds a person's columns.
    pub fn add(
        &mut self,
        windows: &[&Prediction],
        timeline: Option<&Timeline>,
        classes: &Classes<'_>,
    ) -> Shape {
        let at = self.bytes.len();
        let points = timeline.map_or(&[][..], |t| &t.points);
        let frames = frames(windows);
        let units = windows.iter().map(|w| w.action_units.len()).max();
        let units = units.unwrap_or(0);
        let probabilities = |all: &[mtcae_dfer::ClassProbability]| -> Vec<u16> {
            let each = classes.local.iter().enumerate();
            each.map(|(i, name)| probability(all, name, i).map_or(NOTHING, part))
                .collect()
        };
        let class = |name: &str| classes.place(name).map_or(u8::MAX, |c| c.min(254) as u8);

        self.column(
            windows.iter().flat_map(|w| [w.start, w.end]),
            f64::to_le_bytes,
        );
        self.column(
            windows.iter().flat_map(|w| probabilities(&w.probabilities)),
            u16::to_le_bytes,
        );
        self.column(windows.iter().map(|w| class(&w.expression)), |c| [c]);
        let (texts, places) = texts(windows);
        self.column(places.into_iter(), u16::to_le_bytes);
        let seen = windows.iter().flat_map(|w| {
            let seen = w.seen.as_ref().map(|s| [s.frames, s.of]);
            seen.map_or([NOTHING; 2], |s| s.map(|n| n.min(65_534) as u16))
        });
        self.column(seen, u16::to_le_bytes);
        self.column(
            points.iter().flat_map(|p| probabilities(&p.probabilities)),
            u16::to_le_bytes,
        );
        self.column(points.iter().map(|p| class(&p.expression)), |c| [c]);
        self.column(frames.iter().map(|f| f.0.time), f64::to_le_bytes);
        let index = frames
            .iter()
            .map(|f| u32::try_from(f.0.index).unwrap_or(u32::MAX));
        self.column(index, u32::to_le_bytes);
        let model = |(f, size): &(&FramePrediction, [u32; 2])| {
            face(f.face_box.as_ref(), f.landmarks.as_ref(), *size)
        };
        self.column(frames.iter().flat_map(model), u16::to_le_bytes);
        let detected = |(f, size): &(&FramePrediction, [u32; 2])| {
            let found = f.detected.as_ref();
            face(
                found.map(|d| &d.face_box),
                found.map(|d| &d.landmarks),
                *size,
            )
        };
        self.column(frames.iter().flat_map(detected), u16::to_le_bytes);
        let score = |f: &FramePrediction| f.detected.as_ref().map_or(NOTHING, |d| part(d.score));
        self.column(frames.iter().map(|f| score(f.0)), u16::to_le_bytes);
        let strengths = frames.iter().flat_map(|f| {
            (0..units).map(|unit| {
                let strength = f.0.action_units.get(unit);
                strength.map_or(u8::MAX, |s| (s.clamp(0.0, 1.0) * 254.0).round() as u8)
            })
        });
        self.column(strengths, |s| [s]);
        self.column(texts.bytes(), |byte| [byte]);
        Shape {
            at,
            windows: windows.len(),
            points: points.len(),
            frames: frames.len(),
            texts: texts.len(),
        }
    }

    fn column<T, const N: usize>(
        &mut self,
        values: impl Iterator<Item = T>,
        bytes: impl Fn(T) -> [u8; N],
    ) {
        for value in values {
            self.bytes.extend_from_slice(&bytes(value));
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }
}

/// The distinct lists of remarks as JSON, and for each window the place of its own from 1, or
/// 0 for none.
fn texts(windows: &[&Prediction]) -> (String, Vec<u16>) {
    let mut lists: Vec<Vec<Remark>> = Vec::new();
    let mut known: BTreeMap<Vec<Remark>, u16> = BTreeMap::new();
    let places = windows.iter().map(|window| {
        let remarks = remarks_of(window);
        if remarks.is_empty() {
            return 0;
        }
        let next = u16::try_from(lists.len() + 1).unwrap_or(0);
        match known.entry(remarks) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                if next > 0 {
                    lists.push(place.key().clone());
                }
                *place.insert(next)
            }
        }
    });
    let places = places.collect();
    // Strings alone, which JSON can always say.
    (serde_json::to_string(&lists).unwrap_or_default(), places)
}

/// Each frame once, in the order of time, with the size of its picture: of windows that
/// overlap, as the one says whose middle is nearest.
fn frames<'a>(windows: &[&'a Prediction]) -> Vec<(&'a FramePrediction, [u32; 2])> {
    let mut nearest: BTreeMap<u64, (f64, &FramePrediction, [u32; 2])> = BTreeMap::new();
    for window in windows {
        let middle = (window.start + window.end) / 2.0;
        let size = [window.source.width, window.source.height];
        for frame in &window.frames {
            let distance = (frame.time - middle).abs();
            let kept = nearest
                .entry(frame.index)
                .or_insert((distance, frame, size));
            if distance < kept.0 {
                *kept = (distance, frame, size);
            }
        }
    }
    nearest.into_values().map(|kept| (kept.1, kept.2)).collect()
}

fn face(face_box: Option<&FaceBox>, landmarks: Option<&Landmarks>, size: [u32; 2]) -> [u16; 14] {
    let mut numbers = [NOTHING; 14];
    if let Some(face_box) = face_box {
        for (i, value) in face_box.corners().into_iter().enumerate() {
            numbers[i] = coordinate(value, size[i % 2]);
        }
    }
    if let Some(landmarks) = landmarks {
        for (i, value) in landmarks.points().as_flattened().iter().enumerate() {
            numbers[4 + i] = coordinate(*value, size[i % 2]);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_their_range_are_its_ends_and_never_nothing() {
        assert_eq!([part(-1.0), part(f32::INFINITY)], [0, 65_534]);
        assert_eq!(coordinate(f32::INFINITY, 100), 65_534);
        assert_eq!(coordinate(-1e9, 100), 0);
        assert_eq!(coordinate(7.0, 0), 65_534);
    }

    /// Half a step of twice the side in 65,534.
    #[test]
    fn a_coordinate_is_off_by_half_a_step_at_most() {
        for pixels in [-31.7f32, 0.0, 0.4, 1919.2, 2000.0] {
            let said = f64::from(coordinate(pixels, 1920)) / 32_767.0 - 0.5;
            assert!((said * 1920.0 - f64::from(pixels)).abs() <= 1920.0 / 65_534.0 + 1e-9);
        }
    }
}
