//! What is worn and held: clothes, coverings of the head, glasses, and what comes before a
//! face.

use std::f32::consts::{PI, TAU};

use glam::{Vec2, Vec3};

use super::hair::Skull;
use super::looks::{Cover, Glasses, Light, Looks, colour};
use super::model::{FaceModel, Part};
use super::noise::noise;
use crate::motion::smooth;
use crate::seed::Draw;

/// A mesh beside the head's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    pub points: Vec<Vec3>,
    pub triangles: Vec<[u32; 3]>,
    pub colours: Vec<Light>,
    pub part: Option<Part>,
    /// Moves with the body and not with the head.
    pub body: bool,
}

impl Piece {
    fn of(part: Part) -> Self {
        Self {
            part: Some(part),
            ..Self::default()
        }
    }

    /// Adds a grid of points, `at(u, v)` and its colour, u and v from 0 to 1.
    fn grid(&mut self, columns: usize, rows: usize, at: impl Fn(f32, f32) -> (Vec3, Light)) {
        let first = self.points.len() as u32;
        for j in 0..rows {
            for i in 0..columns {
                let (u, v) = (
                    i as f32 / (columns - 1) as f32,
                    j as f32 / (rows - 1) as f32,
                );
                let (point, colour) = at(u, v);
                self.points.push(point);
                self.colours.push(colour);
            }
        }
        let columns = columns as u32;
        for j in 0..rows as u32 - 1 {
            for i in 0..columns - 1 {
                let a = first + j * columns + i;
                self.triangles.push([a, a + columns, a + 1]);
                self.triangles.push([a + 1, a + columns, a + columns + 1]);
            }
        }
    }

    /// Adds a tube along points.
    fn tube(&mut self, path: &[Vec3], closed: bool, radius: f32, colour: Light) {
        const SIDES: usize = 6;
        let n = path.len();
        let first = self.points.len() as u32;
        for (i, p) in path.iter().enumerate() {
            let (before, after) = if closed {
                (path[(i + n - 1) % n], path[(i + 1) % n])
            } else {
                (path[i.saturating_sub(1)], path[(i + 1).min(n - 1)])
            };
            let (a, b) = (after - before)
                .try_normalize()
                .unwrap_or(Vec3::Z)
                .any_orthonormal_pair();
            for side in 0..SIDES {
                let angle = TAU * side as f32 / SIDES as f32;
                self.points
                    .push(*p + (a * angle.cos() + b * angle.sin()) * radius);
                self.colours.push(colour);
            }
        }
        let sides = SIDES as u32;
        let rings = if closed { n } else { n - 1 };
        for ring in 0..rings as u32 {
            let next = (ring + 1) % n as u32;
            for side in 0..sides {
                let other = (side + 1) % sides;
                let [a, b, c, e] = [(ring, side), (ring, other), (next, side), (next, other)]
                    .map(|(r, s)| first + r * sides + s);
                self.triangles.push([a, c, b]);
                self.triangles.push([b, c, e]);
            }
        }
    }

    /// Adds a ball.
    fn ball(&mut self, middle: Vec3, radii: Vec3, colour: Light) {
        self.grid(13, 8, |u, v| {
            let (around, up) = (TAU * u, PI * v);
            let way = Vec3::new(up.sin() * around.sin(), up.cos(), up.sin() * around.cos());
            (middle + way * radii, colour)
        });
    }
}

/// Clothes, and what covers the head.
pub(super) fn clothes(looks: &Looks, skull: &Skull) -> Vec<Piece> {
    let mut d = Draw::new(looks.seed, "scan.clothes");
    let mut pieces = vec![torso(looks, &mut d)];
    match looks.cover {
        Cover::None => {}
        Cover::Beanie => pieces.push(beanie(looks, skull, &mut d)),
        Cover::Scarf => pieces.extend(scarf(looks, skull, &mut d)),
    }
    pieces
}

fn torso(looks: &Looks, d: &mut Draw) -> Piece {
    let mut piece = Piece {
        body: true,
        ..Piece::of(Part::Cloth)
    };
    let (neck, wide) = (d.within(6.2, 8.2), d.within(15.0, 21.0));
    let high = -10.9 - d.within(0.2, 2.2);
    let opening = if d.chance(0.4) {
        d.within(2.0, 8.0)
    } else {
        0.0
    };
    let collar = d.chance(0.35);
    let (pattern, rate, cut) = (d.pick(5), d.within(0.6, 3.0), d.within(-0.3, 0.8));
    let [first, second] = looks.cloth;
    let seed = d.bits() as u32;
    piece.grid(49, 18, |u, v| {
        let around = TAU * u;
        let ahead = (around.cos() * 1.4).max(0.0);
        let k = (6.0 * v).clamp(0.0, 1.0).sqrt();
        let y = high
            - opening
                * (1.0 - smooth(v, 0.0, 0.3))
                * (-(around.sin() / 0.35).powi(2)).exp()
                * ahead.min(1.0)
            - v * 30.0;
        let x = (neck + (wide - neck) * k) * around.sin();
        let z = (6.3 + 3.6 * k) * around.cos() - 2.5;
        let p = Vec3::new(x, y - 3.0 * around.sin().abs() * k, z);
        let wrinkles = noise(p * Vec3::new(0.35, 0.2, 0.35), seed);
        let p = p + Vec3::new(around.sin(), 0.0, around.cos()) * 0.5 * wrinkles * k;
        let line = match pattern {
            0 => (p.y * rate).sin() > cut,
            1 => (p.x * rate).sin() > cut,
            2 => (p.x * rate).sin() * (p.y * rate).sin() > 0.3 * cut,
            _ => false,
        };
        let edge = collar && v < 0.08;
        (p, if line || edge { second } else { first })
    });
    if collar {
        let ring: Vec<Vec3> = (0..24)
            .map(|i| {
                let around = TAU * i as f32 / 24.0;
                Vec3::new(neck * around.sin(), high + 0.4, 6.3 * around.cos() - 2.5)
            })
            .collect();
        piece.tube(&ring, true, 0.7, second);
    }
    piece
}

/// A point on a shell about the skull: `around` from the front, `height` its y, `out` from it.
fn shell(skull: &Skull, around: f32, height: f32, out: f32) -> Vec3 {
    let (middle, radii) = (skull.middle, skull.radii + Vec3::splat(out));
    let up = ((height - middle.y) / radii.y).clamp(-1.0, 1.0);
    let round = if up > 0.0 {
        (1.0 - up.powi(4)).max(0.0).sqrt()
    } else {
        1.0
    };
    Vec3::new(
        middle.x + radii.x * round * around.sin(),
        height,
        middle.z + radii.z * round * around.cos(),
    )
}

/// The height of a shell's top.
fn summit(skull: &Skull, out: f32) -> f32 {
    skull.middle.y + skull.radii.y + out - 0.01
}

fn beanie(looks: &Looks, skull: &Skull, d: &mut Draw) -> Piece {
    let mut piece = Piece::of(Part::Cloth);
    let (low, out, rate) = (d.within(6.6, 8.0), d.within(0.5, 1.1), d.within(18.0, 40.0));
    let tall = d.within(0.0, 2.0);
    let [first, second] = looks.cloth;
    let band = d.chance(0.5);
    piece.grid(61, 16, |u, v| {
        let around = TAU * u;
        let front = 0.9 * around.cos();
        let high = summit(skull, out);
        let y = low + front - 0.9 + (high - low + 1.8) * v.powf(0.8);
        let thick = out + if v < 0.16 { 0.35 } else { 0.0 };
        let mut p = shell(skull, around, y.min(high), thick);
        p.y += tall * v * v;
        let knit = 1.0 + 0.18 * (around * rate).sin();
        (p, if band && v < 0.2 { second } else { first } * knit)
    });
    piece
}

fn scarf(looks: &Looks, skull: &Skull, d: &mut Draw) -> Vec<Piece> {
    let open = d.within(0.62, 0.85);
    let low = d.within(8.2, 9.6);
    let seed = d.bits() as u32;
    let cloth = looks.cloth[0];
    let fold = move |p: Vec3| 0.35 * noise(p * Vec3::new(0.5, 0.25, 0.5), seed);
    let mut top = Piece::of(Part::Cloth);
    top.grid(49, 12, |u, v| {
        let around = TAU * u;
        let high = summit(skull, 0.8);
        let y = low + 0.8 * around.cos() - 0.8 + (high - low + 1.6) * v;
        let p = shell(skull, around, y.min(high), 0.8);
        (p + (p - Vec3::Y * 4.0).normalize() * fold(p), cloth)
    });
    // The sides, from the forehead to the chest.
    top.grid(41, 26, |u, v| {
        let around = open + (TAU - 2.0 * open) * u;
        let y = low + 0.6 - v * (low + 19.0);
        let narrow = 1.0 - 0.22 * smooth(-y, 2.0, 9.0);
        let mut p = shell(skull, around, y, 1.0);
        p.x *= narrow;
        p.z = (p.z + 0.3) * narrow - 0.3;
        // Closes under the chin.
        let shut = smooth(-y, 3.5, 8.2);
        let way = Vec3::new(around.sin(), 0.0, around.cos());
        (
            p + way * (fold(p) + 1.6 * smooth(-y, 11.0, 18.0))
                - Vec3::X * p.x * 0.12 * shut * way.z.max(0.0),
            cloth,
        )
    });
    let mut chest = Piece {
        body: true,
        ..Piece::of(Part::Cloth)
    };
    chest.grid(49, 14, |u, v| {
        let around = TAU * u;
        let y = -8.6 - 0.5 * around.cos() - v * 14.0;
        let k = smooth(v, 0.0, 0.8);
        let p = Vec3::new(
            (6.6 + 11.0 * k) * around.sin(),
            y,
            (7.4 + 4.5 * k) * around.cos() + 0.6 * (1.0 - k) - 1.0,
        );
        (
            p + Vec3::new(around.sin(), 0.0, around.cos()) * fold(p),
            cloth * 0.97,
        )
    });
    vec![top, chest]
}

/// The frame of a pair of glasses on a face, and its lenses' outlines, the viewer's left first.
pub(super) fn glasses(
    worn: &Glasses,
    model: &FaceModel,
    vertices: &[Vec3],
) -> (Piece, [Vec<Vec3>; 2]) {
    let mean = |range: std::ops::Range<usize>| {
        let n = range.len() as f32;
        range
            .map(|i| vertices[model.landmarks[i] as usize])
            .sum::<Vec3>()
            / n
    };
    let bridge = vertices[model.landmarks[27] as usize];
    let front = bridge.z + 0.25;
    let mut piece = Piece::of(Part::Hard);
    let mut lenses = [Vec::new(), Vec::new()];
    let inner = [(mean(36..42), -1.0, 0), (mean(42..48), 1.0, 1)].map(|(eye, side, lens)| {
        let middle = Vec2::new(eye.x + side * 0.15, eye.y - 0.35);
        let rim: Vec<Vec3> = (0..28)
            .map(|i| {
                let angle = TAU * i as f32 / 28.0;
                let power = |t: f32| t.signum() * t.abs().powf(2.0 / worn.power);
                let (x, y) = (
                    worn.half[0] * power(angle.cos()),
                    worn.half[1] * power(angle.sin()),
                );
                let outward = (side * x).max(0.0);
                Vec3::new(middle.x + x, middle.y + y, front - 0.13 * outward * outward)
            })
            .collect();
        piece.tube(&rim, true, worn.thickness / 2.0, worn.colour);
        let hinge = Vec3::new(
            middle.x + side * worn.half[0],
            middle.y + 0.5,
            front - 0.13 * worn.half[0] * worn.half[0],
        );
        let ear = Vec3::new(side * 7.7, eye.y + 0.4, 0.5);
        piece.tube(
            &[hinge, hinge.lerp(ear, 0.5) + Vec3::X * side * 0.4, ear],
            false,
            worn.thickness / 2.0,
            worn.colour,
        );
        lenses[lens] = rim;
        Vec3::new(middle.x - side * worn.half[0], middle.y + 0.3, front)
    });
    let raised = (inner[0] + inner[1]) / 2.0 + Vec3::new(0.0, 0.3, 0.25);
    piece.tube(
        &[inner[0], raised, inner[1]],
        false,
        worn.thickness / 2.0,
        worn.colour,
    );
    (piece, lenses)
}

/// What is held before a face in some takes: a hand, a microphone, a cup, a telephone. In the
/// head's coordinates.
pub(super) fn held(seed: u64, skin: Light) -> Option<Piece> {
    let mut d = Draw::new(seed, "scan.held");
    if !d.chance(0.09) {
        return None;
    }
    let mut piece = Piece {
        body: true,
        ..Piece::of(Part::Hard)
    };
    let side = [-1.0, 1.0][d.pick(2)];
    let at = match d.pick(4) {
        0 => Vec3::new(side * d.within(0.0, 2.0), d.within(-8.0, -5.5), 13.5),
        1 => Vec3::new(side * d.within(4.5, 7.0), d.within(-4.0, 2.0), 11.5),
        2 => Vec3::new(side * d.within(0.0, 1.5), d.within(-5.5, -3.0), 14.5),
        _ => Vec3::new(side * d.within(2.0, 4.0), d.within(2.5, 4.5), 13.0),
    };
    let thing = colour([0, 1, 2].map(|_| d.within(0.02, 0.8)));
    let lean = Vec3::new(side * d.within(0.1, 0.9), -1.0, d.within(-0.2, 0.3)).normalize();
    match d.pick(3) {
        0 => {
            // A hand: fingers and what holds them.
            let (across, _) = lean.any_orthonormal_pair();
            let across = (across - Vec3::Z * across.z).normalize_or(Vec3::X);
            let hand = skin * d.within(0.8, 1.1);
            for finger in 0..4 {
                let base = at + across * (finger as f32 - 1.5) * 1.7 + lean * 4.0;
                let bent = base - lean * (3.5 - 0.4 * (finger as f32 - 1.5).abs());
                let tip = bent - lean * d.within(1.5, 3.0) - Vec3::Z * d.within(0.0, 1.2);
                piece.tube(&[base, bent, tip], false, 0.85, hand);
                piece.ball(tip, Vec3::splat(0.84), hand);
            }
            piece.ball(at + lean * 7.5, Vec3::new(4.0, 4.5, 1.8), hand);
            piece.tube(&[at + lean * 9.0, at + lean * 26.0], false, 2.9, hand);
        }
        1 => {
            piece.ball(at, Vec3::splat(d.within(1.6, 2.4)), thing * 0.3);
            piece.tube(&[at + lean * 1.5, at + lean * 16.0], false, 1.2, thing);
            piece.ball(at + lean * 10.0, Vec3::new(3.2, 3.5, 2.6), skin);
        }
        _ => {
            piece.tube(&[at, at + lean * 7.0], false, d.within(2.4, 3.6), thing);
            piece.ball(
                at + lean * 4.0 + Vec3::new(side * 2.5, 0.0, 1.0),
                Vec3::new(3.0, 3.2, 2.6),
                skin,
            );
        }
    }
    Some(piece)
}
