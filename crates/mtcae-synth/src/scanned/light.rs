//! The light of a take: lamps, and what comes from all around.

use glam::Vec3;

use crate::seed::Draw;

/// A lamp far away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lamp {
    /// Towards it; of length 1.
    pub from: Vec3,
    pub colour: Vec3,
}

/// How a face is lit, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flat,
    Soft,
    Hard,
}

/// The light of a take. The first lamp casts shadows.
#[derive(Clone, Debug)]
pub(super) struct Lights {
    pub kind: Kind,
    pub lamps: Vec<Lamp>,
    /// Light from all around: spherical harmonics of degree 2.
    around: [Vec3; 9],
    /// What the camera makes of it all.
    pub exposure: f32,
}

fn tinted(d: &mut Draw) -> Vec3 {
    let warm = 0.10 * d.bell();
    Vec3::new(1.0 + warm, 1.0, 1.0 - 1.2 * warm).max(Vec3::splat(0.3))
}

impl Lights {
    /// Of a take, on a face of this skin.
    pub fn new(seed: u64, skin: Vec3) -> Self {
        let mut d = Draw::new(seed, "scan.light");
        let (kind, key, ambient) = match d.unit() {
            u if u < 0.18 => (Kind::Flat, d.within(0.0, 0.2), d.within(0.8, 1.0)),
            u if u < 0.78 => (Kind::Soft, d.within(0.3, 0.85), d.within(0.35, 0.8)),
            _ => (Kind::Hard, d.within(0.7, 1.3), d.within(0.12, 0.35)),
        };
        let side = [-1.0, 1.0][d.pick(2)];
        let lamp = |from: Vec3, strength: f32, d: &mut Draw| Lamp {
            from: from.try_normalize().unwrap_or(Vec3::Z),
            colour: tinted(d) * strength,
        };
        let from = Vec3::new(
            side * d.within(0.0, 1.2),
            d.within(0.0, 1.2),
            d.within(0.4, 1.2),
        );
        let mut lamps = vec![lamp(from, key, &mut d)];
        let from = Vec3::new(
            -side * d.within(0.2, 1.3),
            d.within(-0.4, 0.8),
            d.within(0.1, 1.0),
        );
        let strength = d.within(0.0, 0.35);
        lamps.push(lamp(from, strength, &mut d));
        if d.chance(0.35) {
            let way = [-1.0, 1.0][d.pick(2)];
            let from = Vec3::new(
                way * d.within(0.7, 1.3),
                d.within(0.0, 0.8),
                -d.within(0.3, 1.2),
            );
            let strength = d.within(0.2, 1.0);
            lamps.push(lamp(from, strength, &mut d));
        }
        let base = tinted(&mut d) * ambient;
        let mut around = [Vec3::ZERO; 9];
        around[0] = base;
        let above = d.within(0.0, 0.55) * ambient;
        around[1] = Vec3::new(above, above, above)
            * (Vec3::ONE + 0.1 * Vec3::new(d.bell(), d.bell(), d.bell()));
        around[2] = Vec3::splat(d.within(-0.1, 0.3) * ambient);
        around[3] = Vec3::splat(0.22 * d.bell() * ambient);
        for coefficient in &mut around[4..] {
            *coefficient = Vec3::splat(0.05 * d.bell() * ambient);
        }
        let mut lights = Self {
            kind,
            lamps,
            around,
            exposure: 1.0,
        };
        // Exposed for the face, more or less.
        let bright = skin.element_sum() / 3.0;
        let wanted = (0.10 + 0.45 * bright.powf(0.7)).clamp(0.05, 0.5) * (0.25 * d.bell()).exp();
        lights.exposure = wanted / (bright * lights.on_a_face()).max(1e-3);
        lights
    }

    /// Light from all around that reaches a surface of this normal.
    pub fn ambient(&self, n: Vec3) -> Vec3 {
        let Vec3 { x, y, z } = n;
        let basis = [
            1.0,
            y,
            z,
            x,
            x * y,
            y * z,
            3.0 * z * z - 1.0,
            x * z,
            x * x - y * y,
        ];
        let sum: Vec3 = self.around.iter().zip(basis).map(|(c, b)| *c * b).sum();
        sum.max(Vec3::splat(0.02))
    }

    /// Mean light on a face that looks at the camera.
    fn on_a_face(&self) -> f32 {
        let normals = [
            Vec3::Z,
            Vec3::new(0.6, 0.0, 0.8),
            Vec3::new(-0.6, 0.0, 0.8),
            Vec3::new(0.0, 0.5, 0.866),
            Vec3::new(0.0, -0.5, 0.866),
        ];
        let on = |n: &Vec3| {
            let direct: Vec3 = self
                .lamps
                .iter()
                .map(|l| l.colour * n.dot(l.from).max(0.0))
                .sum();
            (0.75 * self.ambient(*n) + direct).element_sum() / 3.0
        };
        normals.iter().map(on).sum::<f32>() / normals.len() as f32
    }
}
