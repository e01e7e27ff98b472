//! Frames under an affine map, bicubically, as Pillow computes them; faces go with the pixels.

use mtcae_core::Face;

/// What is seen where the frame does not reach.
const FILL: u8 = 128;

/// Where a place (x, y) of the result lies in the frame, in pixels:
/// (a·x + b·y + c, d·x + e·y + f).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Map(pub [f64; 6]);

impl Map {
    /// By so many degrees about the middle, against the clock; `None` where nothing turns.
    pub fn turned(degrees: f64, size: [usize; 2]) -> Option<Self> {
        // From -360 to 360 degrees, as Python's `%`.
        let degrees = if degrees < 0.0 {
            degrees + 360.0
        } else {
            degrees
        };
        if degrees == 0.0 {
            return None;
        }
        let angle = -degrees.to_radians();
        // Pillow rounds them to 15 decimals, so that right angles are right.
        let rounded = |v: f64| format!("{v:.15}").parse().unwrap_or(v);
        let (cos, sin, minus): (f64, f64, f64) = (
            rounded(angle.cos()),
            rounded(angle.sin()),
            rounded(-angle.sin()),
        );
        let [x, y] = size.map(|v| v as f64 / 2.0);
        Some(Self([
            cos,
            sin,
            cos * -x + sin * -y + 0.0 + x,
            minus,
            cos,
            minus * -x + cos * -y + 0.0 + y,
        ]))
    }

    /// The frame seen under the map: packed RGB, `size` (width, height).
    pub fn apply(&self, frame: &mut [u8], size: [usize; 2]) {
        let levels = frame.to_vec();
        let source = Picture {
            levels: &levels,
            size,
        };
        let [a, b, c, d, e, f] = self.0;
        let pixels = frame.as_chunks_mut::<3>().0.iter_mut();
        for (n, pixel) in pixels.enumerate() {
            let (x, y) = ((n % size[0]) as f64 + 0.5, (n / size[0]) as f64 + 0.5);
            *pixel = source.at(a * x + b * y + c, d * x + e * y + f);
        }
    }

    /// A face, in fractions of a frame of this size, where it is seen under the map: the
    /// landmarks on their pixels, the box as large as it was about its mapped middle.
    pub fn carried(&self, face: &Face, size: [usize; 2]) -> Face {
        let [a, b, c, d, e, f] = self.0;
        let determinant = a * e - b * d;
        let [width, height] = size.map(|v| v as f64);
        let seen = |[x, y]: [f32; 2]| {
            let (x, y) = (f64::from(x) * width - c, f64::from(y) * height - f);
            let to = [
                (e * x - b * y) / determinant / width,
                (a * y - d * x) / determinant / height,
            ];
            to.map(|v| v as f32)
        };
        let [x1, y1, x2, y2] = face.face_box.corners();
        let middle = [(x1 + x2) / 2.0, (y1 + y2) / 2.0];
        let moved = seen(middle);
        let by = [moved[0] - middle[0], moved[1] - middle[1]];
        Face {
            face_box: [x1 + by[0], y1 + by[1], x2 + by[0], y2 + by[1]].into(),
            landmarks: face.landmarks.map(seen),
            score: face.score,
        }
    }
}

struct Picture<'a> {
    levels: &'a [u8],
    /// Width and height.
    size: [usize; 2],
}

/// The cubic through four values, at `d` from the second to the third.
fn cubic([v1, v2, v3, v4]: [f64; 4], d: f64) -> f64 {
    let p1 = v2;
    let p2 = -v1 + v3;
    let p3 = 2.0 * (v1 - v2) + v3 - v4;
    let p4 = -v1 + v2 - v3 + v4;
    p1 + d * (p2 + d * (p3 + d * p4))
}

impl Picture<'_> {
    /// The colour at a place, between the pixels' middles.
    fn at(&self, x: f64, y: f64) -> [u8; 3] {
        let [width, height] = self.size.map(|v| v as f64);
        if !((0.0..width).contains(&x) && (0.0..height).contains(&y)) {
            return [FILL; 3];
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (dx, dy) = (x - left, y - top);
        let near = |from: f64, most: usize| {
            [-1, 0, 1, 2].map(|k| (from as isize + k).clamp(0, most as isize - 1) as usize)
        };
        let columns = near(left, self.size[0]).map(|x| 3 * x);
        let rows = near(top, self.size[1]).map(|y| 3 * self.size[0] * y);
        std::array::from_fn(|channel| {
            let along = rows.map(|row| {
                cubic(
                    columns.map(|column| f64::from(self.levels[row + column + channel])),
                    dx,
                )
            });
            // The cast cuts off what is below 0 and above 255, and rounds down, as Pillow.
            cubic(along, dy) as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faces_stay_on_their_pixels() {
        let size = [80, 60];
        // A bright square of 3 pixels about (30.5, 22.5).
        let mut frame = vec![0; 80 * 60 * 3];
        for (x, y) in (29..32).flat_map(|x| (21..24).map(move |y| (x, y))) {
            frame[(y * 80 + x) * 3..][..3].fill(255);
        }
        let point = [30.5 / 80.0, 22.5 / 60.0];
        let face = Face {
            face_box: [0.2, 0.2, 0.5, 0.6].into(),
            landmarks: [point; 5].into(),
            score: 1.0,
        };
        let maps = [
            Map::turned(21.0, size).expect("turned"),
            Map::turned(-30.0, size).expect("turned"),
            Map([1.0, -0.2, 0.0, 0.0, 1.0, 0.0]),
            Map([1.0, 0.0, 0.0, 0.2, 1.0, 0.0]),
            Map([1.0, 0.0, 12.25, 0.0, 1.0, 0.0]),
            Map([1.0, 0.0, 0.0, 0.0, 1.0, -9.5]),
        ];
        for map in maps {
            let mut seen = frame.clone();
            map.apply(&mut seen, size);
            let (mut sum, mut all) = ([0.0, 0.0], 0.0);
            for (n, pixel) in seen.as_chunks::<3>().0.iter().enumerate() {
                // The fill is no light.
                let light = if pixel[0] == FILL {
                    0.0
                } else {
                    f64::from(pixel[0])
                };
                sum[0] += light * ((n % 80) as f64 + 0.5);
                sum[1] += light * ((n / 80) as f64 + 0.5);
                all += light;
            }
            let got = map.carried(&face, size);
            let [x, y] = got.landmarks.points()[0].map(f64::from);
            let off = (x * 80.0 - sum[0] / all).hypot(y * 60.0 - sum[1] / all);
            // A pixel of exactly the fill's level does not count, nor what rounding cuts off.
            assert!(off < 0.3, "{map:?}: {off} pixels off");
            let (before, after) = (face.face_box.corners(), got.face_box.corners());
            for k in [0, 1] {
                let side = |c: [f32; 4]| c[k + 2] - c[k];
                assert!((side(before) - side(after)).abs() < 1e-6);
            }
        }
        assert_eq!(Map::turned(0.0, size), None);
    }
}
