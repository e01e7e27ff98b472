//! Faces: where they are, their landmarks, and how two of them compare.

use std::ops::{Add, Div, Mul, Sub};

use serde::{Deserialize, Serialize};

/// A face's box; x grows to the right, y downwards. In pixels or in fractions of a
/// picture: whoever hands one out says which.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaceBox {
    /// Left edge.
    pub x1: f32,
    /// Upper edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Lower edge.
    pub y2: f32,
}

/// Five points (x, y) of a face in the unit of its box; left is the viewer's left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Landmarks {
    /// Centre of the left eye.
    pub left_eye: [f32; 2],
    /// Centre of the right eye.
    pub right_eye: [f32; 2],
    /// Tip of the nose.
    pub nose: [f32; 2],
    /// Left corner of the mouth.
    pub mouth_left: [f32; 2],
    /// Right corner of the mouth.
    pub mouth_right: [f32; 2],
}

/// A face in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// Its box, which may reach over the picture's border.
    pub face_box: FaceBox,
    /// Its landmarks, in the box's unit.
    pub landmarks: Landmarks,
    /// Probability of being a face; 0 where it lies between two frames in which it
    /// was found, and 1 where somebody drew it.
    pub score: f32,
}

/// One face over time: found or interpolated in each frame from its first to its last.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Number of the track.
    pub id: u32,
    /// Its first frame.
    pub first: usize,
    /// The face in that frame and in those after it.
    pub faces: Vec<Face>,
}

impl FaceBox {
    /// x1, y1, x2, y2.
    pub fn corners(&self) -> [f32; 4] {
        [self.x1, self.y1, self.x2, self.y2]
    }

    /// Width times height.
    pub fn area(&self) -> f32 {
        (self.x2 - self.x1) * (self.y2 - self.y1)
    }

    /// [`iou`] with another box of the same picture; 0 where there is none.
    pub fn iou(&self, other: &Self) -> f32 {
        iou(self.corners(), other.corners()).unwrap_or(0.0)
    }

    /// The box of the mapped corners; `map` keeps axes parallel.
    #[must_use]
    pub fn map(&self, map: impl Fn([f32; 2]) -> [f32; 2]) -> Self {
        let ([x1, y1], [x2, y2]) = (map([self.x1, self.y1]), map([self.x2, self.y2]));
        Self { x1, y1, x2, y2 }
    }

    /// The box at `share` (0 to 1) of the way to another.
    #[must_use]
    pub fn towards(&self, other: &Self, share: f32) -> Self {
        let (a, b) = (self.corners(), other.corners());
        std::array::from_fn(|i| mix(a[i], b[i], share)).into()
    }
}

impl From<[f32; 4]> for FaceBox {
    /// From x1, y1, x2, y2.
    fn from([x1, y1, x2, y2]: [f32; 4]) -> Self {
        Self { x1, y1, x2, y2 }
    }
}

impl Landmarks {
    /// Left eye, right eye, nose, left and right corner of the mouth: MTCNN's order and
    /// the model's.
    pub fn points(&self) -> [[f32; 2]; 5] {
        [
            self.left_eye,
            self.right_eye,
            self.nose,
            self.mouth_left,
            self.mouth_right,
        ]
    }

    /// Each point mapped.
    #[must_use]
    pub fn map(&self, map: impl Fn([f32; 2]) -> [f32; 2]) -> Self {
        self.points().map(map).into()
    }

    /// The points at `share` (0 to 1) of the way to others.
    #[must_use]
    pub fn towards(&self, other: &Self, share: f32) -> Self {
        let (a, b) = (self.points(), other.points());
        let point = |i: usize| std::array::from_fn(|c| mix(a[i][c], b[i][c], share));
        std::array::from_fn(point).into()
    }
}

impl From<[[f32; 2]; 5]> for Landmarks {
    /// From the order of [`Landmarks::points`].
    fn from([left_eye, right_eye, nose, mouth_left, mouth_right]: [[f32; 2]; 5]) -> Self {
        Self {
            left_eye,
            right_eye,
            nose,
            mouth_left,
            mouth_right,
        }
    }
}

impl Face {
    /// Whether it was found, and does not only lie between frames in which it was.
    pub fn is_detected(&self) -> bool {
        self.score > 0.0
    }

    /// The face with every point mapped; `map` keeps axes parallel.
    #[must_use]
    pub fn map(&self, map: impl Fn([f32; 2]) -> [f32; 2]) -> Self {
        Self {
            face_box: self.face_box.map(&map),
            landmarks: self.landmarks.map(map),
            score: self.score,
        }
    }

    /// The face at `share` (0 to 1) of the way to another, which was not found there.
    #[must_use]
    pub fn towards(&self, other: &Self, share: f32) -> Self {
        Self {
            face_box: self.face_box.towards(&other.face_box, share),
            landmarks: self.landmarks.towards(&other.landmarks, share),
            score: 0.0,
        }
    }
}

impl Track {
    /// The face at a frame.
    pub fn at(&self, frame: usize) -> Option<&Face> {
        self.faces.get(frame.checked_sub(self.first)?)
    }

    /// The frame after its last.
    pub fn end(&self) -> usize {
        self.first + self.faces.len()
    }

    /// Frames in which the face was found.
    pub fn detected(&self) -> usize {
        self.faces.iter().filter(|face| face.is_detected()).count()
    }

    /// Mean area of the boxes found, in square pixels where the boxes are in pixels.
    pub fn mean_area(&self) -> f64 {
        let found = self.faces.iter().filter(|face| face.is_detected());
        let sum: f64 = found.map(|face| f64::from(face.face_box.area())).sum();
        sum / self.detected().max(1) as f64
    }
}

fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + share * (b - a)
}

/// What coordinates are: `f32` as detectors and models give them, `f64` where measures
/// are summed.
pub trait Coordinate:
    Copy
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// Neither infinite nor no number.
    fn is_finite(self) -> bool;
}

impl Coordinate for f32 {
    fn is_finite(self) -> bool {
        Self::is_finite(self)
    }
}

impl Coordinate for f64 {
    fn is_finite(self) -> bool {
        Self::is_finite(self)
    }
}

/// Intersection over union of two boxes x1, y1, x2, y2, in [0, 1].
///
/// It depends neither on the unit nor on the frame's aspect: fractions and pixels give
/// the same. A box whose corners are in the wrong order is empty, and an empty box
/// overlaps nothing. `None` where the areas are not finite.
pub fn iou<T: Coordinate>(a: [T; 4], b: [T; 4]) -> Option<T> {
    let zero = T::default();
    let greater = |x: T, y: T| if x > y { x } else { y };
    let smaller = |x: T, y: T| if x < y { x } else { y };
    let area = |[x1, y1, x2, y2]: [T; 4]| greater(x2 - x1, zero) * greater(y2 - y1, zero);
    let common = area([
        greater(a[0], b[0]),
        greater(a[1], b[1]),
        smaller(a[2], b[2]),
        smaller(a[3], b[3]),
    ]);
    let union = area(a) + area(b) - common;
    union.is_finite().then(|| match common > zero {
        true => common / union,
        false => zero,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32) -> Face {
        Face {
            face_box: [x, 1.0, x + 4.0, 5.0].into(),
            landmarks: [[x, 2.0]; 5].into(),
            score: 0.9,
        }
    }

    #[test]
    fn overlaps() {
        assert_eq!(
            iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]),
            Some(1.0 / 3.0)
        );
        assert_eq!(face(1.0).face_box.iou(&face(3.0).face_box), 1.0 / 3.0);
        assert_eq!(face(1.0).face_box.iou(&face(5.0).face_box), 0.0);
        let (inverted, empty) = ([2.0, 2.0, 0.0, 0.0], [0.0f64; 4]);
        assert_eq!(iou(inverted, inverted), Some(0.0));
        assert_eq!(iou(empty, empty), Some(0.0));
        assert_eq!(
            iou([-1e308, -1e308, 1e308, 1e308], [0.0, 0.0, 1.0, 1.0]),
            None
        );
        assert_eq!(
            iou([f32::NAN, 0.0, 1.0, f32::INFINITY], [0.0, 0.0, 1.0, 1.0]),
            None
        );
    }

    #[test]
    fn on_the_way() {
        let between = face(1.0).towards(&face(3.0), 0.25);
        assert_eq!(between.face_box, [1.5, 1.0, 5.5, 5.0].into());
        assert_eq!(between.landmarks.nose, [1.5, 2.0]);
        assert!(!between.is_detected());
        let track = Track {
            id: 0,
            first: 7,
            faces: vec![face(1.0), between, face(3.0)],
        };
        assert_eq!(
            (track.detected(), track.mean_area(), track.end()),
            (2, 16.0, 10)
        );
        assert_eq!(track.at(8), Some(&between));
        assert_eq!((track.at(6), track.at(10)), (None, None));
    }

    /// As results have them.
    #[test]
    fn names_in_json() {
        let json = serde_json::to_value(face(1.0)).unwrap();
        let names = |v: &serde_json::Value| -> Vec<String> {
            v.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&json), ["face_box", "landmarks", "score"]);
        assert_eq!(names(&json["face_box"]), ["x1", "x2", "y1", "y2"]);
        assert_eq!(serde_json::from_value::<Face>(json).unwrap(), face(1.0));
    }
}
