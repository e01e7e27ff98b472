//! What part of a frame is shown to a model that looks at a face, by name, and where it lies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Face, FaceBox, Landmarks, ParseError, Rect, gaps};

/// What part of each frame a model sees; by name `none`, `face:MARGIN` or `aligned:SCALE`.
/// `face` and `aligned` alone have the usual number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Crop {
    /// The whole frame, as [`Resize`](crate::Resize) brings it to the model's size. The
    /// paper's, the default.
    #[default]
    None,
    /// An upright square around all of the face's boxes, the same in each frame.
    Face {
        /// The square's side in longer sides of the rectangle around the boxes.
        margin: f64,
    },
    /// A square that follows the face by its landmarks, turned so that the face is upright.
    Aligned {
        /// The square's side in units of the face's size: see [`Square::aligned`].
        scale: f64,
    },
}

impl Crop {
    /// The margin of `face`.
    pub const MARGIN: f64 = 1.3;
    /// The scale of `aligned`.
    pub const SCALE: f64 = 3.6;

    /// The names, as a help text would list them.
    pub const NAMES: [&'static str; 3] = [
        "none",
        "face[:MARGIN] (1 to 10; 1.3)",
        "aligned[:SCALE] (1 to 20; 3.6)",
    ];

    /// The square around the face, the usual margin larger.
    pub const fn face() -> Self {
        Self::Face {
            margin: Self::MARGIN,
        }
    }

    /// Aligned by eyes and mouth, at the usual scale.
    pub const fn aligned() -> Self {
        Self::Aligned { scale: Self::SCALE }
    }

    /// The rectangle of [`Crop::Face`] in a picture of a width and height: a square around
    /// boxes in its pixels, moved into the picture where it fits, and no larger than that.
    pub fn surround(boxes: &[FaceBox], margin: f64, (width, height): (f64, f64)) -> Rect {
        let edge = |i: usize, pick: fn(f32, f32) -> f32| {
            let edges = boxes.iter().map(|b| b.corners()[i]);
            f64::from(edges.reduce(pick).unwrap_or(0.0))
        };
        let (x1, y1, x2, y2) = (
            edge(0, f32::min),
            edge(1, f32::min),
            edge(2, f32::max),
            edge(3, f32::max),
        );
        let most = width.min(height);
        let side = (margin * (x2 - x1).max(y2 - y1)).max(1.0).min(most);
        let start =
            |low: f64, high: f64, size: f64| ((low + high - side) / 2.0).max(0.0).min(size - side);
        Rect {
            x: start(x1, x2, width),
            y: start(y1, y2, height),
            width: side,
            height: side,
        }
    }

    /// Whether the whole frame is seen.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Face { margin } => write!(f, "face:{margin}"),
            Self::Aligned { scale } => write!(f, "aligned:{scale}"),
        }
    }
}

impl FromStr for Crop {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || ParseError::new("crop", s, &Self::NAMES.join(", "));
        let number = |text: &str, most: f64| {
            let number = text.parse::<f64>().ok();
            number.filter(|n| (1.0..=most).contains(n)).ok_or_else(bad)
        };
        match s.split_once(':') {
            None if s == "none" => Ok(Self::None),
            None if s == "face" => Ok(Self::face()),
            None if s == "aligned" => Ok(Self::aligned()),
            Some(("face", margin)) => Ok(Self::Face {
                margin: number(margin, 10.0)?,
            }),
            Some(("aligned", scale)) => Ok(Self::Aligned {
                scale: number(scale, 20.0)?,
            }),
            _ => Err(bad()),
        }
    }
}

crate::by_name!(Crop);

/// A square in a picture of square pixels, which may reach over its border.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Square {
    /// Its centre: x to the right, y downwards.
    pub centre: [f64; 2],
    /// Its side.
    pub side: f64,
    /// How far it is turned about its centre, in degrees, clockwise as it is seen.
    pub roll: f64,
}

/// Of the distance from the eyes to the mouth, how much counts as a face's size. By MTCNN's
/// landmarks the mouth of a face that looks ahead is 1.02 to 1.22 times as far below the eyes
/// as these are apart, mostly up to 1.16: its size is then the distance of the eyes, which no
/// opening mouth changes. Turned away by more than about 30°, it is the way to the mouth.
const MOUTH: f64 = 0.85;
/// How far below the middle of the eyes an aligned crop has its centre, in sizes of the face.
const BELOW: f64 = 0.45;
/// Seconds to each side over which place and roll are steadied.
const NARROW: f64 = 0.15;
/// The same for the size: a mouth that opens must not zoom.
const WIDE: f64 = 0.5;

/// Where a face is, and how large, from its landmarks.
#[derive(Clone, Copy)]
struct Pose {
    eyes: [f64; 2],
    roll: f64,
    size: f64,
}

impl Pose {
    fn of(landmarks: &Landmarks) -> Self {
        let [left, right, _, mouth_left, mouth_right] =
            landmarks.points().map(|p| p.map(f64::from));
        let middle = |a: [f64; 2], b: [f64; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
        let eyes = middle(left, right);
        let mouth = middle(mouth_left, mouth_right);
        let across = [right[0] - left[0], right[1] - left[1]];
        let down = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
        // The line to the mouth, turned by a quarter, counts as much as it is long: of a
        // face in profile it is what is left.
        let axis = [across[0] + down[1], across[1] - down[0]];
        let (across, down) = (across[0].hypot(across[1]), down[0].hypot(down[1]));
        let size = across.max(MOUTH * down);
        Self {
            eyes,
            roll: axis[1].atan2(axis[0]).to_degrees(),
            // Of landmarks that are one point, a pixel.
            size: size.max(1.0),
        }
    }
}

impl Square {
    /// The square of [`Crop::Aligned`] at a time, of a face at these times (seconds,
    /// growing), in a picture of square pixels; `None` of no face.
    ///
    /// A face's size is the greater of the distance between the eyes and 0.85 of that from
    /// their middle to the mouth's. The square is turned by the eyes' line and the line to
    /// the mouth together, its centre is 0.45 sizes below the middle of the eyes, and its
    /// side is `scale` sizes. Place and roll are steadied by a line through what is within
    /// 0.15 s, the size by the mean of what is within 0.5 s, both weighted by 1 − (distance/reach)².
    /// Between two times the face is on the straight line, before the first and after the last
    /// it stays.
    pub fn aligned(track: &[(f64, Face)], at: f64, scale: f64) -> Option<Self> {
        let (first, last) = (track.first()?.0, track.last()?.0);
        let at = at.max(first).min(last);
        let from = track.partition_point(|(time, _)| *time <= at - WIDE);
        let to = track.partition_point(|(time, _)| *time < at + WIDE);
        let mut near: Vec<(f64, Pose)> = track[from..to.max(from)]
            .iter()
            .map(|(time, face)| (*time, Pose::of(&face.landmarks)))
            .collect();
        if near.iter().all(|(time, _)| *time != at) {
            let here = match gaps::around(track, at, |(time, _)| *time) {
                (Some((t, a)), Some((u, b))) => {
                    a.landmarks.towards(&b.landmarks, gaps::share(*t, *u, at))
                }
                // Only where times are no numbers.
                _ => return None,
            };
            let place = near.partition_point(|(time, _)| *time < at);
            near.insert(place, (at, Pose::of(&here)));
        }
        // Angles that go on from each other.
        for i in 1..near.len() {
            let turns = (near[i].1.roll - near[i - 1].1.roll) / 360.0;
            near[i].1.roll -= 360.0 * turns.round();
        }
        let steady = |of: fn(&Pose) -> f64| steadied(&near, at, NARROW, true, of);
        let eyes = [steady(|p| p.eyes[0]), steady(|p| p.eyes[1])];
        let roll = steady(|p| p.roll);
        let size = steadied(&near, at, WIDE, false, |p| p.size);
        let (sin, cos) = roll.to_radians().sin_cos();
        let below = BELOW * size;
        Some(Self {
            centre: [eyes[0] - below * sin, eyes[1] + below * cos],
            side: scale * size,
            roll: roll - 360.0 * (roll / 360.0).round(),
        })
    }

    /// A place in fractions of the square (0,0 its upper left corner) in the picture.
    pub fn at(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (sin, cos) = self.roll.to_radians().sin_cos();
        let (x, y) = (self.side * (x - 0.5), self.side * (y - 0.5));
        [
            self.centre[0] + x * cos - y * sin,
            self.centre[1] + x * sin + y * cos,
        ]
    }

    /// Undoes [`Self::at`].
    pub fn fraction(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (sin, cos) = self.roll.to_radians().sin_cos();
        let (x, y) = (x - self.centre[0], y - self.centre[1]);
        [
            (x * cos + y * sin) / self.side + 0.5,
            (y * cos - x * sin) / self.side + 0.5,
        ]
    }

    /// A box of the picture in fractions of the square: about the same centre, as wide and as
    /// high, its edges along those of the square.
    pub fn box_within(&self, face_box: &FaceBox) -> FaceBox {
        carried(face_box, 1.0 / self.side, |p| self.fraction(p))
    }

    /// Undoes [`Self::box_within`].
    pub fn box_outside(&self, face_box: &FaceBox) -> FaceBox {
        carried(face_box, self.side, |p| self.at(p))
    }

    /// Landmarks of the picture in fractions of the square.
    #[must_use]
    pub fn landmarks_within(&self, landmarks: &Landmarks) -> Landmarks {
        landmarks.map(|p| self.fraction(p.map(f64::from)).map(|v| v as f32))
    }

    /// Undoes [`Self::landmarks_within`].
    #[must_use]
    pub fn landmarks_outside(&self, landmarks: &Landmarks) -> Landmarks {
        landmarks.map(|p| self.at(p.map(f64::from)).map(|v| v as f32))
    }

    /// A face of the picture in fractions of the square.
    pub fn face_within(&self, face: &Face) -> Face {
        Face {
            face_box: self.box_within(&face.face_box),
            landmarks: self.landmarks_within(&face.landmarks),
            score: face.score,
        }
    }

    /// The rectangle around it: x1, y1, x2, y2.
    pub fn bounds(&self) -> [f64; 4] {
        let (sin, cos) = self.roll.to_radians().sin_cos();
        let half = self.side * (sin.abs() + cos.abs()) / 2.0;
        let [x, y] = self.centre;
        [x - half, y - half, x + half, y + half]
    }
}

/// A box about its mapped centre, with its sides scaled.
fn carried(face_box: &FaceBox, scale: f64, map: impl Fn([f64; 2]) -> [f64; 2]) -> FaceBox {
    let [x1, y1, x2, y2] = face_box.corners().map(f64::from);
    let [x, y] = map([(x1 + x2) / 2.0, (y1 + y2) / 2.0]);
    let (w, h) = (scale * (x2 - x1) / 2.0, scale * (y2 - y1) / 2.0);
    [x - w, y - h, x + w, y + h].map(|v| v as f32).into()
}

/// What a value is at a time by those within `reach`, weighted by how near they are: on the
/// line that fits them best, so that nothing lags that moves, or, without `slope`, their
/// mean.
fn steadied(near: &[(f64, Pose)], at: f64, reach: f64, slope: bool, of: fn(&Pose) -> f64) -> f64 {
    // Weights and their moments over distance, and the same of the values.
    let (mut w0, mut w1, mut w2, mut v0, mut v1) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (time, pose) in near {
        let d = (time - at) / reach;
        let weight = 1.0 - d * d;
        if weight > 0.0 {
            let value = of(pose);
            w0 += weight;
            w1 += weight * d;
            w2 += weight * d * d;
            v0 += weight * value;
            v1 += weight * d * value;
        }
    }
    let spread = w0 * w2 - w1 * w1;
    match slope && spread > 1e-9 * w0 * w0 {
        true => (w2 * v0 - w1 * v1) / spread,
        false => v0 / w0,
    }
}

/// How large a face is: about as far as its eyes would be apart if it looked ahead. The
/// greater of their distance and 0.85 of that from their middle to the mouth's; at least 1.
pub fn face_size(landmarks: &Landmarks) -> f64 {
    Pose::of(landmarks).size
}

/// How far a face is turned to the side: where the tip of the nose is between the eyes, from
/// 0 in their middle over 1 at one of them to at most 10. About the tangent of the angle: 0.6
/// at 30°, 1 at 45°, 1.7 at 60°.
pub fn turn(landmarks: &Landmarks) -> f64 {
    let [left, right, nose, ..] = landmarks.points().map(|p| p.map(f64::from));
    let across = [right[0] - left[0], right[1] - left[1]];
    let from = [
        nose[0] - (left[0] + right[0]) / 2.0,
        nose[1] - (left[1] + right[1]) / 2.0,
    ];
    let along = (from[0] * across[0] + from[1] * across[1]).abs();
    let half = (across[0] * across[0] + across[1] * across[1]) / 2.0;
    match along < 10.0 * half {
        true => along / half,
        false => 10.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, crop) in [
            ("none", Crop::None),
            ("face", Crop::Face { margin: 1.3 }),
            ("face:2", Crop::Face { margin: 2.0 }),
            ("aligned", Crop::Aligned { scale: 3.6 }),
            ("aligned:4.5", Crop::Aligned { scale: 4.5 }),
        ] {
            assert_eq!(name.parse::<Crop>().unwrap(), crop);
            assert_eq!(crop.to_string().parse::<Crop>().unwrap(), crop);
        }
        for name in [
            "",
            "Face",
            "face:",
            "face:0.9",
            "aligned:nan",
            "aligned:21",
            "none:1",
        ] {
            let error = name.parse::<Crop>().unwrap_err().to_string();
            assert!(error.contains("aligned[:SCALE]"), "{error}");
        }
    }

    /// A face that moves, turns past the half circle and speaks, with noise.
    #[allow(clippy::unreadable_literal)]
    const TRACK: [(f64, [[f32; 2]; 5]); 12] = [
        (
            0.102,
            [
                [118.55, 72.01],
                [89.38, 82.85],
                [95.48, 59.98],
                [101.87, 38.05],
                [77.63, 46.35],
            ],
        ),
        (
            0.205,
            [
                [124.44, 70.76],
                [92.06, 79.06],
                [101.36, 55.68],
                [111.52, 32.83],
                [85.01, 37.56],
            ],
        ),
        (
            0.282,
            [
                [128.37, 70.63],
                [93.86, 75.06],
                [106.56, 52.25],
                [119.96, 32.01],
                [92.66, 34.42],
            ],
        ),
        (
            0.337,
            [
                [130.4, 70.73],
                [95.63, 72.52],
                [110.62, 50.05],
                [125.44, 33.4],
                [97.68, 32.86],
            ],
        ),
        (
            0.372,
            [
                [132.8, 70.3],
                [97.09, 70.52],
                [113.46, 49.64],
                [129.61, 34.76],
                [100.82, 33.17],
            ],
        ),
        (
            0.437,
            [
                [135.13, 70.6],
                [100.05, 67.41],
                [117.61, 47.52],
                [134.85, 36.56],
                [106.24, 32.48],
            ],
        ),
        (
            0.503,
            [
                [137.86, 70.36],
                [102.68, 63.84],
                [121.83, 45.47],
                [140.35, 37.91],
                [111.76, 30.79],
            ],
        ),
        (
            0.537,
            [
                [139.15, 70.29],
                [103.56, 62.72],
                [124.21, 45.03],
                [142.78, 38.06],
                [115.11, 30.39],
            ],
        ),
        (
            0.572,
            [
                [140.02, 70.2],
                [105.04, 60.76],
                [126.9, 44.54],
                [145.5, 37.85],
                [118.24, 28.3],
            ],
        ),
        (
            0.692,
            [
                [143.65, 70.13],
                [111.78, 55.72],
                [135.29, 42.36],
                [156.67, 35.66],
                [131.14, 22.16],
            ],
        ),
        (
            0.78,
            [
                [145.69, 69.51],
                [116.53, 51.01],
                [140.8, 42.52],
                [163.85, 34.64],
                [142.25, 18.0],
            ],
        ),
        (
            0.832,
            [
                [146.86, 69.12],
                [119.46, 48.88],
                [143.94, 42.13],
                [167.74, 35.1],
                [147.52, 17.8],
            ],
        ),
    ];

    fn track() -> Vec<(f64, Face)> {
        let face = |points: [[f32; 2]; 5]| Face {
            face_box: [0.0, 0.0, 1.0, 1.0].into(),
            landmarks: points.into(),
            score: 1.0,
        };
        TRACK.map(|(time, points)| (time, face(points))).to_vec()
    }

    /// Centre, side and roll by numpy from the definition: complex numbers, `unwrap`, and
    /// `polyfit` with weights.
    #[test]
    fn squares_are_those_of_another_program() {
        for (at, [x, y, side, roll]) in [
            (0.102, [98.307865, 62.88921, 124.819936, 158.741338]),
            (0.372, [114.799479, 54.767109, 126.47515, -179.954583]),
            (0.52, [123.904541, 51.2352, 127.177624, -168.540784]),
            (0.832, [142.664458, 46.235388, 127.041109, -143.206575]),
            (2.832, [142.664458, 46.235388, 127.041109, -143.206575]),
        ] {
            let square = Square::aligned(&track(), at, 3.6).unwrap();
            let got = [square.centre[0], square.centre[1], square.side, square.roll];
            for (got, want) in got.iter().zip([x, y, side, roll]) {
                assert!((got - want).abs() < 1e-3, "{at}: {got} for {want}");
            }
        }
        assert_eq!(Square::aligned(&[], 0.0, 3.6), None);
        let still = Square::aligned(&track()[..1], 7.0, 3.6).unwrap();
        assert!(
            (still.roll - 158.74).abs() < 3.0,
            "one picture needs no others"
        );
    }

    #[test]
    fn there_and_back_again() {
        let square = Square::aligned(&track(), 0.5, 3.6).unwrap();
        for p in [[0.0, 0.0], [0.5, 0.5], [1.25, -0.5]] {
            let back = square.fraction(square.at(p));
            assert!((back[0] - p[0]).abs() < 1e-12 && (back[1] - p[1]).abs() < 1e-12);
        }
        let face = track()[6].1;
        let inside = square.landmarks_within(&face.landmarks);
        let back = square.landmarks_outside(&inside).points();
        for (got, want) in back
            .as_flattened()
            .iter()
            .zip(face.landmarks.points().as_flattened())
        {
            assert!((got - want).abs() < 1e-3);
        }
        // Turned by nearly half a circle, the eyes are above the mouth.
        let [left, right, _, mouth, _] = inside.points();
        assert!(left[0] < right[0] && left[1] < mouth[1]);
        let face_box = FaceBox::from([100.0, 20.0, 160.0, 100.0]);
        let inside = square.box_within(&face_box);
        let back = square.box_outside(&inside);
        for (got, want) in back.corners().iter().zip(face_box.corners()) {
            assert!((got - want).abs() < 1e-3);
        }
        let [x1, y1, x2, y2] = inside.corners().map(f64::from);
        assert!(((x2 - x1) * square.side - 60.0).abs() < 1e-3);
        assert!(((y2 - y1) * square.side - 80.0).abs() < 1e-3);
    }

    #[test]
    fn a_mouth_that_opens_does_not_zoom_and_a_turned_head_hardly() {
        let side = |eyes: f32, mouth: f32| {
            let half = eyes / 2.0;
            let landmarks = [
                [-half, 0.0],
                [half, 0.0],
                [0.0, mouth / 2.0],
                [-half, mouth],
                [half, mouth],
            ];
            let face = Face {
                landmarks: landmarks
                    .map(|[x, y]| [100.0 + 40.0 * x, 80.0 + 40.0 * y])
                    .into(),
                ..track()[0].1
            };
            Square::aligned(&[(0.0, face)], 0.0, 3.6).unwrap().side
        };
        assert_eq!(side(1.0, 1.03), side(1.0, 1.17));
        // By 45°, the eyes are 0.71 apart.
        assert!((0.9..1.0).contains(&(side(0.71, 1.08) / side(1.0, 1.08))));
    }

    #[test]
    fn what_is_turned_away() {
        let turned = |nose: f32, eyes: f32| {
            let middle = [50.0 + nose, 50.0];
            let points = [
                [50.0 - eyes, 40.0],
                [50.0 + eyes, 40.0],
                middle,
                [40.0, 60.0],
                [60.0, 60.0],
            ];
            turn(&points.into())
        };
        assert_eq!(turned(0.0, 10.0), 0.0);
        assert_eq!(turned(10.0, 10.0), 1.0);
        assert_eq!(turned(-5.0, 10.0), 0.5);
        assert_eq!(turned(5.0, 0.0), 10.0);
        assert_eq!(turned(f32::NAN, 10.0), 10.0);
    }
}
