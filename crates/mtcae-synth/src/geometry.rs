//! From the face's own coordinates to pixels.
//!
//! The face's x points to the viewer's right, y down, z to the viewer; the unit
//! is about half of the distance from the hairline to the chin, which lies at
//! y = 1. The front of the head is an ellipsoid on which the features lie.

use crate::motion::Moment;

/// A point in the picture, in pixels.
pub(crate) type Point = [f32; 2];

/// Middle of the ellipsoid.
const MIDDLE: [f32; 3] = [0.0, -0.1, 0.0];

/// A pose: where the head's points are in the picture.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    /// Rows of the rotation.
    rows: [[f32; 3]; 3],
    /// Where the face's origin is, in pixels.
    pub centre: Point,
    /// Pixels a unit.
    pub scale: f32,
    /// Half-axes of the ellipsoid.
    radii: [f32; 3],
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

impl Projection {
    /// Of a head of this half-width.
    pub fn new(moment: &Moment, centre: Point, scale: f32, width: f32) -> Self {
        let (sy, cy) = moment.yaw.sin_cos();
        let (sp, cp) = moment.pitch.sin_cos();
        let (sr, cr) = moment.roll.sin_cos();
        // Yaw, then pitch, then roll.
        let turned = [[cy, 0.0, sy], [-sy * sp, cp, cy * sp]];
        let front = [-sy * cp, -sp, cy * cp];
        let row = |a: f32, b: f32| [0, 1, 2].map(|i| a * turned[0][i] + b * turned[1][i]);
        Self {
            rows: [row(cr, -sr), row(sr, cr), front],
            centre,
            scale,
            radii: [width * 1.07, 1.35, 0.85],
        }
    }

    /// The same place and size without a turn, but for a part of the roll.
    pub fn upright(&self, roll: f32) -> Self {
        let (s, c) = roll.sin_cos();
        Self {
            rows: [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]],
            ..self.clone()
        }
    }

    /// Depth of the ellipsoid's front at (x, y).
    pub fn depth(&self, [x, y]: Point) -> f32 {
        let [a, b, c] = self.radii;
        let (u, v) = ((x - MIDDLE[0]) / a, (y - MIDDLE[1]) / b);
        c * (1.0 - u * u - v * v).max(0.02).sqrt()
    }

    /// A point of the head.
    pub fn at(&self, point: [f32; 3]) -> Point {
        [
            self.centre[0] + self.scale * dot(self.rows[0], point),
            self.centre[1] + self.scale * dot(self.rows[1], point),
        ]
    }

    /// A point `lift` in front of the ellipsoid.
    pub fn raised(&self, [x, y]: Point, lift: f32) -> Point {
        self.at([x, y, self.depth([x, y]) + lift])
    }

    /// A point on the ellipsoid.
    pub fn on(&self, point: Point) -> Point {
        self.raised(point, 0.0)
    }

    /// Points on the ellipsoid.
    pub fn all(&self, points: &[Point]) -> Vec<Point> {
        points.iter().map(|&p| self.on(p)).collect()
    }

    /// How a small step at a point of the face shows: angle of the face's x in
    /// radians, and how much it and y are foreshortened.
    pub fn tangent(&self, point: Point) -> (f32, f32, f32) {
        let e = 0.02;
        let o = self.on(point);
        let [x, y] = [[e, 0.0], [0.0, e]].map(|s| {
            let p = self.on([point[0] + s[0], point[1] + s[1]]);
            [p[0] - o[0], p[1] - o[1]]
        });
        let unit = e * self.scale;
        (
            x[1].atan2(x[0]),
            x[0].hypot(x[1]) / unit,
            y[0].hypot(y[1]) / unit,
        )
    }

    /// The point of the ellipsoid behind a pixel and its normal there, both in the
    /// face's coordinates; beside the ellipsoid, its rim.
    pub fn behind(&self, [px, py]: Point) -> ([f32; 3], [f32; 3]) {
        let q = [
            (px - self.centre[0]) / self.scale,
            (py - self.centre[1]) / self.scale,
        ];
        let [r0, r1, r2] = self.rows;
        let u = [0, 1, 2].map(|i| (q[0] * r0[i] + q[1] * r1[i] - MIDDLE[i]) / self.radii[i]);
        let v = [0, 1, 2].map(|i| r2[i] / self.radii[i]);
        let (uv, vv, uu) = (dot(u, v), dot(v, v), dot(u, u));
        let z = (-uv + (uv * uv - vv * (uu - 1.0)).max(0.0).sqrt()) / vv;
        let n = [0, 1, 2].map(|i| (u[i] + z * v[i]) / self.radii[i]);
        let length = dot(n, n).sqrt().max(1e-6);
        (
            [0, 1, 2].map(|i| q[0] * r0[i] + q[1] * r1[i] + z * r2[i]),
            n.map(|c| c / length),
        )
    }

    /// A direction in the picture, in the face's coordinates.
    pub fn inward(&self, direction: [f32; 3]) -> [f32; 3] {
        [0, 1, 2].map(|i| {
            direction[0] * self.rows[0][i]
                + direction[1] * self.rows[1][i]
                + direction[2] * self.rows[2][i]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pose(yaw: f32, pitch: f32, roll: f32) -> Projection {
        let moment = Moment {
            yaw,
            pitch,
            roll,
            shift: [0.0; 2],
            scale: 1.0,
            blink: 0.0,
            gaze: [0.0; 2],
            course: 0.0,
        };
        Projection::new(&moment, [100.0, 80.0], 50.0, 0.75)
    }

    #[test]
    fn the_point_behind_a_pixel_is_the_one_shown_there() {
        let p = pose(0.3, -0.2, 0.15);
        for point in [[0.0, 0.2], [0.3, -0.1], [-0.25, 0.5]] {
            let (back, normal) = p.behind(p.on(point));
            assert!((back[0] - point[0]).abs() < 1e-4, "{back:?} {point:?}");
            assert!((back[1] - point[1]).abs() < 1e-4, "{back:?} {point:?}");
            assert!(normal[2] > 0.0);
        }
    }

    #[test]
    fn turns_go_where_they_should() {
        let nose = [0.0, 0.0, 1.0];
        assert!(pose(0.2, 0.0, 0.0).at(nose)[0] > 100.0);
        assert!(pose(0.0, 0.2, 0.0).at(nose)[1] > 80.0);
        assert!(pose(0.0, 0.0, 0.2).at([1.0, 0.0, 0.0])[1] > 80.0);
    }
}
