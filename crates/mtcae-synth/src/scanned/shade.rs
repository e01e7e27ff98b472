//! From what is seen to light: skin in which red wanders, wet eyes, teeth in the mouth's
//! shade, hair along its strands.

use glam::{Vec2, Vec3};

use super::atlas::SIDE;
use super::light::Lights;
use super::looks::Looks;
use super::model::Part;
use super::skin::Texel;

/// What a point of a mesh carries to the picture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vertex {
    /// In the camera's coordinates.
    pub at: Vec3,
    pub normal: Vec3,
    /// Along the strand, of hair.
    pub tangent: Vec3,
    /// On the model's neutral head.
    pub rest: Vec3,
    pub colour: Vec3,
    /// Share of the sky it sees, and of the first lamp.
    pub open: f32,
    pub lit: f32,
    /// How much of it is hair.
    pub hair: f32,
}

/// What pixels are shaded with.
pub(super) struct Shader<'a> {
    pub looks: &'a Looks,
    pub lights: &'a Lights,
    pub texture: &'a [Texel],
    /// Darkness of the folds on the texture.
    pub folds: &'a [f32],
    /// Where the eyes look, on the neutral head; the viewer's left first.
    pub gaze: [Vec3; 2],
    /// Middles of the eyeballs on the neutral head.
    pub eyes: [Vec3; 2],
    /// Angles of iris and pupil, radians.
    pub iris: [f32; 2],
    /// How far the mouth is open, 0 to 1.
    pub mouth: f32,
}

/// What light does to a surface.
struct Surface {
    colour: Vec3,
    /// How far each colour's light wanders under the surface.
    wrap: Vec3,
    shine: f32,
    gloss: f32,
    shade: f32,
    /// Hair's direction, where it is hair.
    strand: Option<Vec3>,
    skin: bool,
}

impl Shader<'_> {
    /// Light from a point of a triangle, whose corners and shares are given. `uv` are the
    /// corners' texture coordinates, of the face.
    pub fn shade(
        &self,
        part: Part,
        corners: [&Vertex; 3],
        shares: [f32; 3],
        uv: Option<&[Vec2; 3]>,
    ) -> Vec3 {
        let of = |f: &dyn Fn(&Vertex) -> Vec3| -> Vec3 {
            f(corners[0]) * shares[0] + f(corners[1]) * shares[1] + f(corners[2]) * shares[2]
        };
        let number = |f: &dyn Fn(&Vertex) -> f32| -> f32 {
            f(corners[0]) * shares[0] + f(corners[1]) * shares[1] + f(corners[2]) * shares[2]
        };
        let to_eye = -of(&|v| v.at).normalize_or_zero();
        let mut normal = of(&|v| v.normal).normalize_or_zero();
        if matches!(part, Part::Cloth | Part::Hair | Part::Hard) && normal.dot(to_eye) < 0.0 {
            normal = -normal;
        }
        let (mut open, mut lit) = (number(&|v| v.open), number(&|v| v.lit));
        let mut s = Surface {
            colour: of(&|v| v.colour),
            wrap: Vec3::new(0.38, 0.16, 0.10),
            shine: self.looks.gloss[0],
            gloss: self.looks.gloss[1],
            shade: 1.0,
            strand: None,
            skin: true,
        };
        match part {
            Part::Face => {
                if let Some([a, b, c]) = uv {
                    let at = *a * shares[0] + *b * shares[1] + *c * shares[2];
                    let (texel, fold) = self.texel(at);
                    s.colour = texel.colour * (1.0 - fold * (1.0 - texel.hair));
                    self.hairy(&mut s, texel.hair);
                }
            }
            Part::Head => self.hairy(&mut s, number(&|v| v.hair)),
            Part::Mouth | Part::Gums => {
                s.shade = 0.28 + 0.25 * self.mouth;
                (s.shine, s.gloss, open) = (0.5, 30.0, 1.0);
            }
            Part::Teeth => {
                let deep = ((of(&|v| v.rest).z - 6.0) / 4.0).clamp(0.1, 1.0);
                s.colour = self.looks.teeth;
                s.shade = ((0.3 + 0.28 * self.mouth) * deep * 1.6).min(1.0);
                (s.shine, s.gloss, open) = (0.5, 40.0, 1.0);
            }
            Part::Socket | Part::Lashes => {}
            Part::Eye(side) => {
                let rest = of(&|v| v.rest) - self.eyes[side];
                s = self.eye(rest, side);
                (open, lit) = (0.85, 0.3 + 0.7 * lit);
            }
            Part::Hair => {
                s.strand = Some(of(&|v| v.tangent).normalize_or_zero());
                (s.shine, s.gloss, s.wrap, s.skin) = (0.22, 16.0, Vec3::splat(0.3), false);
            }
            Part::Cloth => {
                (s.shine, s.gloss, s.wrap, s.skin) = (0.02, 8.0, Vec3::splat(0.15), false);
            }
            Part::Hard => (s.shine, s.gloss, s.wrap, s.skin) = (0.3, 30.0, Vec3::splat(0.2), false),
        }
        self.light(&s, normal, to_eye, open, lit)
    }

    fn hairy(&self, s: &mut Surface, hair: f32) {
        if hair > 0.5 {
            (s.shine, s.gloss, s.wrap, s.skin) = (0.06, 8.0, Vec3::splat(0.3), false);
        }
    }

    /// The texture and the folds at a place, between four points.
    fn texel(&self, uv: Vec2) -> (Texel, f32) {
        let last = SIDE as f32 - 1.01;
        let at = (uv * SIDE as f32 - 0.5).clamp(Vec2::ZERO, Vec2::splat(last));
        let cell = at.floor();
        let f = at - cell;
        let i = cell.y as usize * SIDE + cell.x as usize;
        let mut texel = Texel::default();
        let mut fold = 0.0;
        for (offset, share) in [
            (0, (1.0 - f.x) * (1.0 - f.y)),
            (1, f.x * (1.0 - f.y)),
            (SIDE, (1.0 - f.x) * f.y),
            (SIDE + 1, f.x * f.y),
        ] {
            let t = &self.texture[i + offset];
            texel.colour += t.colour * share;
            texel.hair += t.hair * share;
            fold += self.folds[i + offset] * share;
        }
        (texel, fold)
    }

    /// An eyeball: sclera, iris and pupil by the angle from the gaze.
    fn eye(&self, rest: Vec3, side: usize) -> Surface {
        let way = rest.normalize_or_zero();
        let gaze = self.gaze[side];
        let angle = way.dot(gaze).clamp(-1.0, 1.0).acos();
        let [iris, pupil] = self.iris;
        let white = ((angle - iris) / 0.05 + 0.5).clamp(0.0, 1.0);
        let across = way - gaze;
        let spokes = (across.y.atan2(across.x) * 23.0).sin() * (angle * 31.0 + 2.0).cos();
        let ring = if angle > 0.82 * iris { 0.55 } else { 1.0 };
        let hole = if angle < pupil { 0.06 } else { 1.0 };
        let inner = self.looks.iris * (1.0 + 0.25 * spokes) * ring * hole;
        // The lids' shadow, and the corners'.
        let above = ((way.y - 0.05) / 0.45).clamp(0.0, 1.0);
        let beside = ((way.x.abs() - 0.35) / 0.5).clamp(0.0, 1.0);
        Surface {
            colour: inner.lerp(self.looks.sclera * 0.72, white),
            wrap: Vec3::splat(0.2),
            shine: 0.6,
            gloss: 180.0,
            shade: (1.0 - 0.55 * above) * (1.0 - 0.5 * beside),
            strand: None,
            skin: false,
        }
    }

    fn light(&self, s: &Surface, n: Vec3, to_eye: Vec3, open: f32, lit: f32) -> Vec3 {
        // What closes in on skin is warm: red gets around corners.
        let warm = |v: f32| match s.skin {
            true => Vec3::new((v * v.sqrt()).sqrt(), v, v),
            false => Vec3::splat(v),
        };
        let mut out = s.colour * self.lights.ambient(n) * warm(open);
        let rim = (1.0 - n.dot(to_eye).max(0.0)).powi(4);
        for (i, lamp) in self.lights.lamps.iter().enumerate() {
            let reaches = if i == 0 { lit } else { 0.4 + 0.6 * open };
            let facing = n.dot(lamp.from);
            let half = (lamp.from + to_eye).normalize_or_zero();
            let shine = match s.strand {
                Some(strand) => {
                    // Kajiya and Kay's: a highlight around the strand.
                    let along = strand.dot(half);
                    (1.0 - along * along).max(0.0).powf(0.5 * s.gloss) * s.shine * facing.max(0.0)
                }
                None => {
                    let peak = n.dot(half).max(0.0).powf(s.gloss);
                    peak * s.shine * (0.35 + 2.0 * rim) * facing.max(0.0) * (s.gloss + 8.0) / 60.0
                }
            };
            let diffuse = (Vec3::splat(facing) + s.wrap) / (Vec3::ONE + s.wrap);
            let diffuse = diffuse.max(Vec3::ZERO) * warm(reaches);
            out += lamp.colour * (s.colour * diffuse + Vec3::splat(0.6 * shine * reaches));
        }
        out * s.shade
    }
}
