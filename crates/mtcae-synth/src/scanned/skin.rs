//! The colour of a face: skin, lips, lids, brows, stubble, what age and make-up do.

use glam::Vec3;

use super::atlas::{Atlas, Fold, bell, front};
use super::hair::Scalp;
use super::looks::{Beard, Looks, colour};
use super::noise::{clouds, noise};
use crate::motion::smooth;
use crate::seed::Draw;

/// A point of the texture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Texel {
    /// Linear light.
    pub colour: Vec3,
    /// How much of it is hair, 0 to 1.
    pub hair: f32,
}

/// What is drawn once a person.
struct Traits {
    seed: u32,
    coarse: f32,
    fine: f32,
    blood: [f32; 4],
    flush: f32,
    bags: [f32; 2],
    freckles: f32,
    moles: Vec<Vec3>,
    lash: f32,
    crease: f32,
    lip: f32,
    brow: Brow,
    beard: f32,
    /// How deep folds are at rest: those of [`AGED`].
    folds: [f32; AGED.len()],
}

/// Folds that stay when a face is at rest, and how deep in old age.
const AGED: [(Fold, f32); 6] = [
    (Fold::Forehead, 0.5),
    (Fold::Nasolabial, 0.6),
    (Fold::CrowsFeet, 0.5),
    (Fold::UnderEye, 0.4),
    (Fold::Frown, 0.3),
    (Fold::NoseRoot, 0.2),
];

/// The brows.
struct Brow {
    thick: f32,
    dense: f32,
    lift: f32,
    arch: f32,
    inner: f32,
    outer: f32,
}

impl Traits {
    fn new(looks: &Looks) -> Self {
        let mut d = Draw::new(looks.seed, "scan.skin");
        let moles = (0..d.pick(4))
            .map(|_| {
                Vec3::new(
                    d.within(-6.0, 6.0),
                    d.within(-6.0, 8.0),
                    d.within(0.1, 0.22),
                )
            })
            .collect();
        let thick = d.within(0.36, 0.75) * if looks.male { 1.1 } else { 0.8 };
        Self {
            seed: d.bits() as u32,
            coarse: d.within(0.03, 0.12),
            fine: d.within(0.02, 0.10) * (0.6 + 0.8 * looks.age),
            blood: [d.unit(), d.unit(), d.within(0.0, 0.4), d.within(0.0, 0.8)],
            flush: d.within(0.1, 0.5) * (1.0 - 0.6 * looks.tone),
            bags: [d.within(0.0, 0.35), d.within(0.0, 0.25)],
            freckles: if looks.tone < 0.5 && d.chance(0.25) {
                0.35
            } else {
                0.0
            },
            moles,
            lash: d.within(0.3, 0.75) * if looks.male { 0.7 } else { 1.1 },
            crease: d.within(0.0, 0.35),
            lip: d.within(0.55, 1.0),
            brow: Brow {
                thick,
                dense: d.within(0.85, 1.3),
                lift: d.within(-0.75, -0.15),
                arch: d.within(-0.3, 0.3),
                inner: d.within(-0.12, 0.12),
                outer: d.within(0.9, 1.15),
            },
            beard: d.within(0.6, 1.0),
            // Some have them young.
            folds: AGED.map(|(_, deep)| {
                let early = if d.chance(0.4) {
                    d.within(0.0, 0.5)
                } else {
                    0.0
                };
                deep * (early + (looks.age - 0.4).max(0.0) * 0.7)
            }),
        }
    }
}

/// Where a beard grows, 0 to 1.
pub(super) fn beard(kind: Beard, p: Vec3, lips: f32, wave: f32) -> f32 {
    let x = p.x.abs();
    let jaw = 1.0 - smooth(p.y - 0.3 * (x - 3.3).max(0.0) + 0.25 * wave, -2.2, -0.9);
    let free = 1.0 - smooth(lips, -0.25, 0.05);
    let area = jaw * free * smooth(p.y, -10.5, -8.3) * smooth(p.z, -1.5, 1.0);
    // Thin at the corners of the mouth.
    let gap = (1.0 - smooth((x - 3.4).abs(), 1.2, 3.0))
        * smooth(p.y, -5.5, -3.0)
        * (1.0 - smooth(x, 3.5, 5.0));
    let area = area * (1.0 - 0.6 * gap);
    let above = smooth(p.y, -3.6, -2.9);
    match kind {
        Beard::None => 0.0,
        Beard::Stubble | Beard::Full => area,
        Beard::Moustache => area * above * (1.0 - smooth(x, 2.9, 3.6)),
        Beard::Goatee => area * (1.0 - smooth(x, 2.6, 3.4)),
    }
}

/// Paints a face.
pub(super) fn paint(atlas: &Atlas, looks: &Looks, scalp: &Scalp) -> Vec<Texel> {
    let traits = Traits::new(looks);
    (0..atlas.position.len())
        .map(|i| texel(atlas, i, looks, &traits, scalp))
        .collect()
}

fn texel(atlas: &Atlas, i: usize, looks: &Looks, t: &Traits, scalp: &Scalp) -> Texel {
    let p = atlas.position[i];
    let f = front(p);
    let (x, y) = (p.x.abs(), p.y);
    let spot = |cx: f32, cy: f32, sx: f32, sy: f32| bell((x - cx) / sx) * bell((y - cy) / sy) * f;
    let coarse = clouds(p * 0.22, 4, 0.7, t.seed);
    let fine = clouds(p * 2.4, 2, 0.7, t.seed ^ 0x51);
    let grain = noise(p * 9.0, t.seed ^ 0x52);
    let mut c = looks.skin * (1.0 + t.coarse * coarse + t.fine * fine + 0.3 * t.fine * grain);
    let [cheeks, nose, chin, lids] = t.blood;
    let blood = cheeks * spot(4.6, -0.6, 2.2, 1.8)
        + nose * spot(0.0, 0.2, 1.3, 1.2)
        + chin * spot(0.0, -6.3, 2.0, 1.2)
        + lids * spot(3.1, 3.3, 1.9, 1.3)
        + 0.35 * coarse;
    let blood = (blood * t.flush).clamp(-0.5, 1.0);
    c *= Vec3::new(1.0 + 0.10 * blood, 1.0 - 0.28 * blood, 1.0 - 0.22 * blood);
    let tired = t.bags[0] * (0.5 + looks.age) * spot(2.9, 2.2, 1.5, 0.5)
        + t.bags[1] * spot(3.1, 4.4, 1.6, 0.6);
    c *= 1.0 - tired.clamp(0.0, 0.8);
    if let Some((paint, strength)) = looks.shadow {
        c = c.lerp(paint, (strength * spot(3.2, 4.4, 1.5, 0.6)).clamp(0.0, 0.8));
    }
    let aged = AGED.iter().zip(t.folds);
    let aged: f32 = aged
        .map(|((fold, _), deep)| atlas.folds[i][*fold as usize] * deep)
        .sum();
    c *= 1.0 - aged.clamp(0.0, 0.6);
    if t.freckles > 0.0 {
        let dots = smooth(noise(p * 4.5, t.seed ^ 0x53), 0.25, 0.6);
        c *= 1.0 - t.freckles * dots * spot(0.0, 0.5, 6.5, 3.5);
    }
    for mole in &t.moles {
        let away = (p.truncate() - mole.truncate()).length() / mole.z;
        c *= 1.0 - 0.6 * bell(away) * f;
    }
    let lips = atlas.lips[i];
    let stubble = match looks.beard {
        Beard::None => 0.0,
        Beard::Stubble => 0.45,
        _ => 0.9,
    };
    if stubble > 0.0 {
        let area = beard(looks.beard, p, lips, coarse) * stubble * t.beard;
        let hair = (area * (1.0 + 0.4 * fine + 0.25 * grain)).clamp(0.0, 0.97);
        c = c.lerp(looks.hair * (1.0 + 0.3 * grain), hair);
    }
    let mouth = smooth(lips + 0.05 * fine, -0.12, 0.15) * f * t.lip;
    c = c.lerp(looks.lips * (1.0 + 0.12 * fine), mouth);
    // The line between the lips.
    if p.z > 9.0 {
        c *= 1.0 - 0.45 * bell((y + 3.42) / 0.10) * (1.0 - smooth(x, 2.2, 2.6)) * f;
    }
    for edge in [atlas.eyes[0][i], atlas.eyes[1][i]] {
        let upper = smooth(y, 3.25, 3.75);
        if edge.abs() < 1.5 {
            let line = bell(edge.min(0.0) / 0.16) * t.lash * (0.35 + 0.65 * upper) * f;
            c = c.lerp(colour([0.08, 0.05, 0.045]), line.clamp(0.0, 1.0));
        }
        c *= 1.0 - t.crease * bell((edge + 0.62) / 0.12) * upper * f;
    }
    for brow in [&atlas.brows[0], &atlas.brows[1]] {
        let hair = t.brow.at(brow[i], p, fine, coarse) * f;
        c = c.lerp(looks.brows, hair);
    }
    let hair = scalp.covers(p, fine);
    let streaks = 1.0 + 0.3 * scalp.streaks(p) + 0.15 * fine;
    c = c.lerp((looks.hair * streaks * 0.8).max(Vec3::splat(0.002)), hair);
    Texel {
        colour: c.clamp(Vec3::splat(0.002), Vec3::ONE),
        hair,
    }
}

impl Brow {
    /// How much hair is at a point of a brow.
    fn at(&self, at: glam::Vec2, p: Vec3, fine: f32, coarse: f32) -> f32 {
        let (along, above) = (at.x, at.y);
        if !(-0.4..1.5).contains(&along) {
            return 0.0;
        }
        let width = self.thick * (1.0 - 0.55 * smooth(along, 0.45, 1.1));
        let bend = self.arch * (1.0 - (2.0 * along - 1.0).powi(2));
        let off = (above - self.lift - bend + 0.12 * fine) / width;
        let ends = smooth(along, self.inner - 0.08, self.inner + 0.12)
            * (1.0 - smooth(along, self.outer - 0.15, self.outer + 0.05));
        let lines = ((1.6 * p.x.abs() + 2.2 * above) * 9.0 + 3.0 * coarse).sin();
        let strands = (0.85 + 0.3 * lines + 0.3 * fine).clamp(0.45, 1.2);
        ((1.0 - off * off).max(0.0).powf(0.5) * ends * self.dense * strands).clamp(0.0, 0.97)
    }
}
