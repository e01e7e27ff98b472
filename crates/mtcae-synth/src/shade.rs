//! Light on the head: an ellipsoid with the bumps and hollows of a face.

use crate::action_units::ActionUnit as Au;
use crate::geometry::{Point, Projection};
use crate::identity::Identity;
use crate::paint::Layer;
use crate::seed::Draw;
use crate::shape::FaceShape;

/// Units of the face between two points where the light is reckoned; between them
/// it is interpolated.
const STEP: f32 = 0.035;

/// The light of a take.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Light {
    /// Where it comes from, in the picture's coordinates; of length 1.
    from: [f32; 3],
    ambient: [f32; 3],
    diffuse: [f32; 3],
    gloss: f32,
}

impl Light {
    pub fn new(seed: u64) -> Self {
        let mut d = Draw::new(seed, "light");
        let from = [d.within(-0.75, 0.75), d.within(-0.75, 0.1), 1.0];
        let length = from.iter().map(|c| c * c).sum::<f32>().sqrt();
        let warm = d.within(-1.0, 1.0);
        let tint = [1.0 + 0.07 * warm, 1.0, 1.0 - 0.10 * warm];
        let ambient = d.within(0.36, 0.62);
        // What is not ambient comes from the lamp, so that no face is lost in
        // the dark or burnt out.
        let diffuse = d.within(0.95, 1.12) - ambient;
        Self {
            from: from.map(|c| c / length),
            ambient: tint.map(|t| ambient * (2.0 - t)),
            diffuse: tint.map(|t| diffuse * t * 1.12),
            gloss: d.within(0.02, 0.12),
        }
    }

    /// What reaches a surface that faces the viewer.
    pub fn frontal(&self) -> [f32; 3] {
        [0, 1, 2].map(|i| self.ambient[i] + self.diffuse[i] * self.from[2].max(0.0))
    }
}

/// A bump (or hollow) of the face: middle, reach and height.
struct Bump {
    at: Point,
    reach: Point,
    height: f32,
}

fn bumps(who: &Identity, face: &FaceShape) -> Vec<Bump> {
    let mut bumps = Vec::with_capacity(24);
    let mut add = |at: Point, reach: Point, height: f32| bumps.push(Bump { at, reach, height });
    let tip = face.nose_tip[1];
    let root = who.eye_y - 0.05;
    // The nose: ridge, tip and, below, the hollow above the lip.
    add(
        [0.0, (root + tip) / 2.0 + 0.05],
        [0.17, (tip - root) * 0.75],
        0.075,
    );
    add([0.0, tip - 0.01], [0.16, 0.15], 0.085);
    add(
        [0.0, who.mouth_y - 0.5 * (who.mouth_y - tip)],
        [0.07, 0.14],
        -0.012,
    );
    for side in [0, 1] {
        let s = if side == 0 { -1.0 } else { 1.0 };
        let u = |unit| face.units[side].get(unit);
        let wing = tip + 0.02 - 0.02 * u(Au::NoseWrinkler);
        add([s * who.nose_width * 0.8, wing], [0.11, 0.11], 0.030);
        let middle = face.eyes[side].middle();
        add(
            [s * who.eye_x * 0.93, middle[1] - 0.03],
            [0.27, 0.19],
            -0.050,
        );
        // The eyeball under the lids.
        add(middle, [who.eye_width * 1.05, 0.11], 0.022);
        let brow = face.brows[side][2];
        add([brow[0] * 0.9, brow[1] + 0.02], [0.30, 0.13], 0.030);
        let smile = u(Au::LipCornerPuller);
        let lifted = u(Au::CheekRaiser).max(0.8 * smile);
        add(
            [s * 0.46, 0.20 - 0.06 * lifted],
            [0.32, 0.28],
            0.035 + 0.055 * lifted + 0.02 * u(Au::NoseWrinkler),
        );
        // Hollow beside the mouth.
        let corner = face.mouth.corners[side];
        add([corner[0] + s * 0.10, corner[1]], [0.13, 0.2], -0.018);
        add(
            [s * 0.11, who.eye_y - 0.17],
            [0.09, 0.13],
            0.022 * u(Au::BrowLowerer) + 0.015 * u(Au::NoseWrinkler),
        );
    }
    let jaw = face.jaw_drop;
    let lip = face.mouth.bottom(0.0)[1];
    add([0.0, face.mouth.top(0.0)[1] + 0.04], [0.36, 0.2], 0.022);
    add([0.0, lip + 0.055], [0.24, 0.09], -0.022);
    add(
        [0.0, 0.87 + jaw],
        [0.24, 0.19],
        0.045 + 0.025 * face.both(Au::ChinRaiser),
    );
    bumps
}

impl Bump {
    /// Slope at a point: a smooth bell that ends at its reach.
    fn slope(&self, x: f32, y: f32) -> (f32, f32) {
        let (u, v) = (
            (x - self.at[0]) / self.reach[0],
            (y - self.at[1]) / self.reach[1],
        );
        let inside = 1.0 - u * u - v * v;
        if inside <= 0.0 {
            return (0.0, 0.0);
        }
        let k = -4.0 * self.height * inside;
        (k * u / self.reach[0], k * v / self.reach[1])
    }
}

/// Multiplies what is painted by the light that falls on it.
pub(crate) fn shade(
    layer: &mut Layer,
    who: &Identity,
    face: &FaceShape,
    pose: &Projection,
    light: &Light,
) {
    let (w, h) = (
        layer.pixels.width() as usize,
        layer.pixels.height() as usize,
    );
    let step = ((pose.scale * STEP).round() as usize).max(2);
    let (columns, rows) = (w / step + 2, h / step + 2);
    let span = |centre: f32, below: f32, above: f32, limit: usize| {
        let from = (centre - below * pose.scale) / step as f32;
        let to = (centre + above * pose.scale) / step as f32;
        let limit = limit as f32;
        (
            from.floor().clamp(0.0, limit) as usize,
            to.ceil().clamp(0.0, limit) as usize,
        )
    };
    // What lies further away is lit like the rim.
    let (x0, x1) = span(pose.centre[0], 1.15, 1.15, columns);
    let (y0, y1) = span(pose.centre[1], 1.55, 1.40, rows);
    if x1 < x0 + 2 || y1 < y0 + 2 {
        return;
    }
    let bumps = bumps(who, face);
    let from = pose.inward(light.from);
    let view = pose.inward([0.0, 0.0, 1.0]);
    let half = [0, 1, 2].map(|i| from[i] + view[i]);
    let length = half.iter().map(|c| c * c).sum::<f32>().sqrt().max(1e-6);
    let half = half.map(|c| c / length);
    let across = x1 - x0;
    let mut grid = vec![[0f32; 4]; across * (y1 - y0)];
    for (row, line) in grid.chunks_exact_mut(across).enumerate() {
        let y = ((row + y0) * step) as f32 + 0.5;
        for (column, value) in line.iter_mut().enumerate() {
            let x = ((column + x0) * step) as f32 + 0.5;
            let (point, mut normal) = pose.behind([x, y]);
            if point[2] > 0.15 {
                for bump in &bumps {
                    let (dx, dy) = bump.slope(point[0], point[1]);
                    normal[0] -= dx;
                    normal[1] -= dy;
                }
            }
            let dot = |d: [f32; 3]| normal[0] * d[0] + normal[1] * d[1] + normal[2] * d[2];
            let length = dot(normal).sqrt().max(1e-6);
            // Skin lets light through: it wraps a little around edges.
            let lit = ((dot(from) / length + 0.15) / 1.15).max(0.0);
            let glint = (dot(half) / length).max(0.0);
            let glint = light.gloss * glint.powi(2).powi(2).powi(2).powi(2);
            *value = [
                light.ambient[0] + light.diffuse[0] * lit,
                light.ambient[1] + light.diffuse[1] * lit,
                light.ambient[2] + light.diffuse[2] * lit,
                glint,
            ];
        }
    }
    let data = layer.pixels.data_mut();
    let last = ((across - 2) as f32, (y1 - y0 - 2) as f32);
    let mut line = vec![[0f32; 4]; across];
    for y in 0..h {
        let gy = (y as f32 / step as f32 - y0 as f32).clamp(0.0, last.1);
        let (r, fy) = (gy as usize, gy.fract());
        let (above, below) = (&grid[r * across..], &grid[(r + 1) * across..]);
        for (out, (top, bottom)) in line.iter_mut().zip(above.iter().zip(below)) {
            for i in 0..4 {
                out[i] = top[i] + (bottom[i] - top[i]) * fy;
            }
        }
        let row = &mut data[4 * y * w..4 * (y + 1) * w];
        for (x, pixel) in row.chunks_exact_mut(4).enumerate() {
            if pixel[3] == 0 {
                continue;
            }
            let gx = (x as f32 / step as f32 - x0 as f32).clamp(0.0, last.0);
            let (c, fx) = (gx as usize, gx.fract());
            let opacity = f32::from(pixel[3]);
            let (left, right) = (&line[c], &line[c + 1]);
            let value = |i: usize| left[i] + (right[i] - left[i]) * fx;
            let glint = value(3) * opacity;
            for (i, channel) in pixel[..3].iter_mut().enumerate() {
                let lit = f32::from(*channel) * value(i) + glint;
                *channel = lit.min(opacity) as u8;
            }
        }
    }
}
