//! The face spread out flat: for each point of its texture where on the neutral face it lies
//! and what is there. Positions are those of the model's neutral face, so that whatever is
//! painted by them fits every identity.

use glam::{Vec2, Vec3};

use super::raster::{NONE, Raster};
use crate::motion::smooth;

/// Width and height of the texture.
pub(super) const SIDE: usize = 256;

/// Folds that movements deepen, in the order of [`Atlas::folds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    /// Upright, between the brows.
    Frown,
    /// Across the forehead.
    Forehead,
    /// Across its middle only.
    InnerForehead,
    /// From the nose to the corners of the mouth.
    Nasolabial,
    /// At the outer corners of the eyes.
    CrowsFeet,
    /// Across the root of the nose.
    NoseRoot,
    /// Under the eyes.
    UnderEye,
    /// Dimples of a raised chin.
    Chin,
}

/// How many folds there are.
pub(super) const FOLDS: usize = 8;

#[derive(Debug)]
pub(super) struct Atlas {
    /// (SIDE²) positions.
    pub position: Vec<Vec3>,
    /// Distance from the lips' outline, positive within.
    pub lips: Vec<f32>,
    /// Distance from the eyes' openings, positive within; the viewer's left first.
    pub eyes: [Vec<f32>; 2],
    /// Along each brow (0 inner end, 1 outer end) and how far above it.
    pub brows: [Vec<Vec2>; 2],
    /// Darkness of each fold, 0 to 1.
    pub folds: Vec<[f32; FOLDS]>,
}

/// A bell about 0.
pub(super) fn bell(x: f32) -> f32 {
    (-x * x).exp()
}

/// How much a point is of the face's front.
pub(super) fn front(p: Vec3) -> f32 {
    smooth(p.z, 5.0, 8.0)
}

impl Atlas {
    /// Of a neutral face whose first triangles have texture coordinates.
    pub fn new(
        neutral: &[Vec3],
        triangles: &[[u32; 3]],
        uv: &[[Vec2; 3]],
        landmarks: &[u32],
    ) -> Self {
        let position = positions(neutral, &triangles[..uv.len()], uv);
        let at = |i: usize| neutral[landmarks[i] as usize];
        let flat = |range: std::ops::Range<usize>| range.map(|i| at(i).truncate()).collect();
        let (lips, right, left): (Vec<Vec2>, Vec<Vec2>, Vec<Vec2>) =
            (flat(48..60), flat(36..42), flat(42..48));
        let from = |outline: &[Vec2]| {
            let distance = |p: &Vec3| inside(outline, p.truncate());
            position.iter().map(distance).collect::<Vec<f32>>()
        };
        // From the inner end to the outer.
        let brow_points: [Vec<Vec2>; 2] = [
            (17..22).rev().map(|i| at(i).truncate()).collect(),
            flat(22..27),
        ];
        let brows = [(-1.0, &brow_points[0]), (1.0, &brow_points[1])].map(|(side, points)| {
            position
                .iter()
                .map(|p| along(points, side, p.truncate()))
                .collect()
        });
        Self {
            lips: from(&lips),
            eyes: [from(&right), from(&left)],
            brows,
            folds: position.iter().map(|p| folds(*p)).collect(),
            position,
        }
    }
}

/// Positions by texture coordinates; points that no triangle covers take the nearest one's.
fn positions(neutral: &[Vec3], triangles: &[[u32; 3]], uv: &[[Vec2; 3]]) -> Vec<Vec3> {
    let points: Vec<Vec3> = uv
        .iter()
        .flatten()
        .map(|t| (*t * SIDE as f32).extend(1.0))
        .collect();
    let own: Vec<[u32; 3]> = (0..uv.len() as u32)
        .map(|i| [3 * i, 3 * i + 1, 3 * i + 2])
        .collect();
    let mut raster = Raster::new(SIDE, SIDE);
    raster.draw(&points, &own, 0, 0.0);
    let seen = |i: usize| {
        (raster.triangle[i] != NONE).then(|| {
            let [a, b, c] = triangles[raster.triangle[i] as usize].map(|v| neutral[v as usize]);
            let w = raster.weights[i];
            a * w.x + b * w.y + c * (1.0 - w.x - w.y)
        })
    };
    let mut found: Vec<Option<Vec3>> = (0..SIDE * SIDE).map(seen).collect();
    // Grow from the edges, a ring at a time.
    while found.iter().any(Option::is_none) && found.iter().any(Option::is_some) {
        let before = found.clone();
        for (i, here) in found.iter_mut().enumerate().filter(|(_, h)| h.is_none()) {
            let (x, y) = (i % SIDE, i / SIDE);
            let near = [
                (x > 0).then(|| i - 1),
                (x + 1 < SIDE).then_some(i + 1),
                (y > 0).then(|| i.wrapping_sub(SIDE)),
                (y + 1 < SIDE).then_some(i + SIDE),
            ];
            *here = near.into_iter().flatten().find_map(|n| before[n]);
        }
    }
    found.into_iter().map(Option::unwrap_or_default).collect()
}

/// Distance from a closed outline, positive within.
fn inside(outline: &[Vec2], p: Vec2) -> f32 {
    let (mut nearest, mut within) = (f32::MAX, false);
    for (i, &a) in outline.iter().enumerate() {
        let b = outline[(i + 1) % outline.len()];
        let t = ((p - a).dot(b - a) / (b - a).length_squared()).clamp(0.0, 1.0);
        nearest = nearest.min(p.distance(a + (b - a) * t));
        if (a.y > p.y) != (b.y > p.y) && p.x < a.x + (p.y - a.y) / (b.y - a.y) * (b.x - a.x) {
            within = !within;
        }
    }
    if within { nearest } else { -nearest }
}

/// How far along a brow a point is and how far above.
fn along(points: &[Vec2], side: f32, p: Vec2) -> Vec2 {
    let x = side * p.x;
    let outward: Vec<Vec2> = points.iter().map(|q| Vec2::new(side * q.x, q.y)).collect();
    let (first, last) = (outward[0], outward[4]);
    if x < first.x {
        return Vec2::new((x - first.x) / 4.0, p.y - first.y);
    }
    if x > last.x {
        return Vec2::new(1.0 + (x - last.x) / 4.0, p.y - last.y);
    }
    let next = outward.iter().position(|q| q.x >= x).unwrap_or(4).max(1);
    let (a, b) = (outward[next - 1], outward[next]);
    let t = (x - a.x) / (b.x - a.x).max(1e-6);
    let share = (next as f32 - 1.0 + t) / 4.0;
    Vec2::new(share, p.y - (a.y + (b.y - a.y) * t))
}

/// Where skin folds, by ICT-FaceKit's proportions.
fn folds(p: Vec3) -> [f32; FOLDS] {
    let (x, y) = (p.x.abs(), p.y);
    let lines = |at: &[f32], width: f32, of: f32| -> f32 {
        at.iter().map(|a| bell((of - a) / width)).sum()
    };
    let forehead = lines(&[7.5, 8.4, 9.3], 0.14, y + 0.006 * x * x);
    let side = 1.85 + (-0.5 - y) * 0.46;
    let feet = [-0.5, 0.0, 0.5].map(|slope| bell((y - 3.3 - (x - 4.8) * slope) / 0.11));
    let mut folds = [0.0; FOLDS];
    folds[Fold::Frown as usize] = (bell((x - 0.75) / 0.16) + 0.5 * bell((x - 0.25) / 0.12))
        * smooth(y, 4.2, 4.9)
        * (1.0 - smooth(y, 6.3, 7.2));
    folds[Fold::Forehead as usize] = forehead * (1.0 - smooth(x, 4.0, 5.8));
    folds[Fold::InnerForehead as usize] = forehead * (1.0 - smooth(x, 1.6, 2.8));
    folds[Fold::Nasolabial as usize] =
        bell((x - side) / 0.2) * smooth(y, -4.3, -3.2) * (1.0 - smooth(y, -0.6, 0.4));
    folds[Fold::CrowsFeet as usize] =
        feet.iter().sum::<f32>() * smooth(x, 4.9, 5.3) * (1.0 - smooth(x, 6.0, 7.0));
    folds[Fold::NoseRoot as usize] = lines(&[2.7, 3.3, 3.9], 0.12, y) * (1.0 - smooth(x, 0.9, 1.5));
    folds[Fold::UnderEye as usize] = bell((y - 2.25 - 0.08 * (x - 3.1) * (x - 3.1)) / 0.16)
        * smooth(x, 1.7, 2.2)
        * (1.0 - smooth(x, 4.2, 5.0));
    let bumps = smooth(super::noise::noise(p * 2.6, 5), 0.1, 0.5);
    folds[Fold::Chin as usize] = 1.5 * bumps * bell(x / 1.8) * bell((y + 6.6) / 1.0);
    folds.map(|f| f * front(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_from_an_outline_have_the_sign_of_its_inside() {
        let square = [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]].map(Vec2::from_array);
        assert!((inside(&square, Vec2::new(1.0, 0.25)) - 0.25).abs() < 1e-6);
        assert!((inside(&square, Vec2::new(3.0, 1.0)) + 1.0).abs() < 1e-6);
    }

    #[test]
    fn brows_are_measured_from_their_inner_end_outwards() {
        let points = [1.0, 2.0, 3.0, 4.0, 5.0].map(|x| Vec2::new(-x, 6.0));
        let at = along(&points, -1.0, Vec2::new(-3.0, 6.5));
        assert!((at - Vec2::new(0.5, 0.5)).length() < 1e-6);
        assert!(along(&points, -1.0, Vec2::new(-6.0, 6.0)).x > 1.0);
    }
}
