//! Hair: where it grows, how its strands run, and their ribbons in a frame.

use std::f32::consts::TAU;

use glam::Vec3;

use super::looks::{Beard, Cover, Looks, Style};
use super::model::{FaceModel, Part};
use super::noise::{field, noise};
use super::skin::beard;
use crate::motion::smooth;
use crate::seed::Draw;

/// Pieces of a strand of hair.
const PIECES: usize = 7;

/// Where hair grows on a head, and what its strands have in common.
#[derive(Debug)]
pub(super) struct Scalp {
    style: Style,
    cover: Cover,
    fringe: bool,
    /// Height of the hairline at the forehead, and by how much its corners are higher.
    height: f32,
    corners: f32,
    temples: f32,
    peak: f32,
    pub part: f32,
    seed: u32,
    wave: f32,
}

impl Scalp {
    pub fn new(looks: &Looks) -> Self {
        let mut d = Draw::new(looks.seed, "scan.scalp");
        let receding = if looks.male {
            1.6 * looks.age
        } else {
            0.3 * looks.age
        };
        let long = matches!(looks.style, Style::Long | Style::Bob | Style::Bun);
        Self {
            style: looks.style,
            cover: looks.cover,
            fringe: looks.fringe && long,
            height: d.within(8.6, 10.4) + receding,
            corners: d.within(-0.8, 0.6) + 0.8 * receding,
            temples: if long {
                d.within(-1.5, 0.5)
            } else {
                d.within(-0.6, 1.6)
            },
            peak: d.within(0.0, 0.2),
            part: [-1.0, 1.0][d.pick(2)] * d.within(0.0, 4.0),
            seed: d.bits() as u32,
            wave: d.within(0.1, 0.35),
        }
    }

    /// How far within the hair a point of the neutral head is, in centimetres.
    fn depth(&self, p: Vec3) -> f32 {
        if self.style == Style::Bald {
            return -9.0;
        }
        let x = p.x.abs();
        let side = self.temples;
        let line = [
            (-9.0, -9.0),
            (-5.0, -7.0),
            (-1.0, -1.5 + side),
            (1.5, 3.2 + 0.4 * side),
            (4.5, 5.6 + 0.3 * side),
            (7.0, self.height - 1.2 + self.corners),
            (9.5, self.height),
        ];
        let next = line
            .iter()
            .position(|(z, _)| *z >= p.z)
            .unwrap_or(line.len() - 1)
            .max(1);
        let ((z0, y0), (z1, y1)) = (line[next - 1], line[next]);
        let low = y0 + (y1 - y0) * ((p.z - z0) / (z1 - z0)).clamp(0.0, 1.0);
        let low = low + self.peak * (p.x - 0.3 * self.part).abs() * smooth(p.z, 4.0, 8.0);
        let ear = x > 7.55 && p.y < 4.4 && p.z > -3.6 && p.z < 3.0;
        if ear {
            return -3.0;
        }
        let waves = self.wave * 2.0 * noise(p * 0.45, self.seed);
        let depth = p.y - low + waves;
        match self.style {
            Style::Wreath => depth.min(8.2 - p.y + waves),
            _ => depth,
        }
    }

    /// How much of the skin at a point of the neutral head hair covers, 0 to 1.
    pub fn covers(&self, p: Vec3, fine: f32) -> f32 {
        let dense = if self.style == Style::Buzz {
            0.75
        } else {
            0.93
        };
        dense * smooth(self.depth(p) + 0.5 * fine, -0.25, 0.6)
    }

    /// Light and dark streaks, about -1 to 1.
    pub fn streaks(&self, p: Vec3) -> f32 {
        let q = p - Vec3::new(0.5 * self.part, 6.0, 0.0);
        let around = q.x.atan2(q.z + 1e-3);
        0.5 * (around * 37.0).sin() + 0.5 * noise(p * Vec3::new(3.0, 0.8, 3.0), self.seed ^ 9)
    }

    /// Whether a covering hides hair with this root.
    fn hidden(&self, p: Vec3) -> bool {
        match self.cover {
            Cover::None => false,
            Cover::Beanie => p.y > 6.5,
            Cover::Scarf => true,
        }
    }
}

/// A strand: points at rest, from the root to the tip.
#[derive(Clone, Debug)]
pub(super) struct Strand {
    pub points: Vec<Vec3>,
    pub colour: Vec3,
    pub width: f32,
    /// Of hair on the face: the vertices that carry its root, and their shares.
    pub root: Option<([u32; 3], Vec3)>,
}

/// The skull as a strand sees it: an ellipsoid, below its middle a cylinder.
pub(super) struct Skull {
    pub middle: Vec3,
    pub radii: Vec3,
}

impl Skull {
    pub fn new(scalp: &Scalp, model: &FaceModel, vertices: &[Vec3]) -> Self {
        let (mut low, mut high) = (Vec3::MAX, Vec3::MIN);
        let bare = Scalp {
            style: Style::Crop,
            ..*scalp
        };
        for (at, v) in model.neutral.iter().zip(vertices) {
            if at.y > 3.0 && bare.depth(*at) > 0.5 && at.x.abs() < 7.7 {
                low = low.min(*v);
                high = high.max(*v);
            }
        }
        let middle = ((low + high) / 2.0).with_y(low.y.max(3.0) + 0.5);
        Self {
            middle,
            radii: ((high - low) / 2.0)
                .with_y(high.y - middle.y)
                .max(Vec3::ONE),
        }
    }

    /// The way out of the head.
    fn outward(&self, p: Vec3) -> Vec3 {
        let mut from = (p - self.middle) / (self.radii * self.radii);
        from.y = from.y.max(0.0);
        from.normalize_or_zero()
    }

    /// Moves a point out of the head.
    fn push(&self, p: Vec3, lift: f32) -> Vec3 {
        let mut from = p - self.middle;
        let below = from.y < 0.0;
        let height = from.y;
        if below {
            from.y = 0.0;
        }
        // Behind and beside the neck there is room.
        let narrow = if below {
            1.0 - 0.25 * smooth(-height, 7.0, 12.0)
        } else {
            1.0
        };
        let reach = (from / self.radii).length() / narrow;
        if reach >= 1.0 + lift || reach < 1e-3 {
            return p;
        }
        let mut out = self.middle + from * ((1.0 + lift) / reach);
        if below {
            out.y = p.y;
        }
        out
    }
}

/// How the hair of a root grows.
struct Growth {
    direction: Vec3,
    /// How closely it follows the skull, 0 to 1.
    smooth: f32,
    /// How far its direction strays on its way.
    frizz: f32,
    /// Where it turns to on its way.
    then: Vec3,
    length: f32,
    gravity: f32,
    curl: f32,
    lift: f32,
}

/// Grows the strands of a head.
pub(super) fn grow(
    model: &FaceModel,
    looks: &Looks,
    scalp: &Scalp,
    skull: &Skull,
    vertices: &[Vec3],
) -> Vec<Strand> {
    let mut strands = Vec::new();
    if looks.style != Style::Bald && looks.cover != Cover::Scarf {
        head(model, looks, scalp, skull, vertices, &mut strands);
    }
    face(model, looks, vertices, &mut strands);
    strands
}

/// Random roots on triangles that `kept` keeps (by the middle on the neutral head), by area:
/// the vertices and their shares.
fn roots(
    model: &FaceModel,
    kept: impl Fn(Vec3, u32) -> bool,
    count: usize,
    d: &mut Draw,
) -> Vec<([u32; 3], Vec3)> {
    let mut sum = 0.0;
    let mut areas: Vec<(f32, [u32; 3])> = Vec::new();
    for ((triangle, part), number) in model.triangles.iter().zip(&model.parts).zip(0..) {
        if !matches!(part, Part::Face | Part::Head) {
            continue;
        }
        let [a, b, c] = triangle.map(|v| model.neutral[v as usize]);
        if kept((a + b + c) / 3.0, number) {
            sum += (b - a).cross(c - a).length();
            areas.push((sum, *triangle));
        }
    }
    if areas.is_empty() {
        return Vec::new();
    }
    (0..count)
        .map(|_| {
            let at = d.unit() * sum;
            let found = areas.partition_point(|(s, _)| *s < at).min(areas.len() - 1);
            let (u, v) = (d.unit(), d.unit());
            let (u, v) = if u + v > 1.0 {
                (1.0 - u, 1.0 - v)
            } else {
                (u, v)
            };
            (areas[found].1, Vec3::new(u, v, 1.0 - u - v))
        })
        .collect()
}

/// A point of a root on a mesh.
pub(super) fn point(vertices: &[Vec3], (triangle, shares): &([u32; 3], Vec3)) -> Vec3 {
    let [a, b, c] = triangle.map(|v| vertices[v as usize]);
    a * shares.x + b * shares.y + c * shares.z
}

fn normal(vertices: &[Vec3], triangle: &[u32; 3]) -> Vec3 {
    let [a, b, c] = triangle.map(|v| vertices[v as usize]);
    (b - a).cross(c - a).normalize_or_zero()
}

fn head(
    model: &FaceModel,
    looks: &Looks,
    scalp: &Scalp,
    skull: &Skull,
    vertices: &[Vec3],
    out: &mut Vec<Strand>,
) {
    let mut d = Draw::new(looks.seed, "scan.hair");
    let length = d.unit();
    let curl = d.unit();
    let count = match looks.style {
        Style::Buzz => 1500,
        Style::Curly | Style::Afro => 2600,
        _ => 1900,
    };
    let face = d.within(5.0, 6.9);
    let knot =
        skull.middle + skull.radii * Vec3::new(0.0, d.within(0.2, 0.9), -d.within(0.5, 0.95));
    let roots = roots(
        model,
        |p, _| scalp.depth(p) > 0.3 && !scalp.hidden(p),
        count,
        &mut d,
    );
    for root in roots {
        let at = point(&model.neutral, &root);
        let start = point(vertices, &root);
        let out_of = normal(vertices, &root.0);
        let clump = field(at * 0.55, scalp.seed ^ 77);
        let own = Vec3::new(d.bell(), d.bell(), d.bell()) * 0.08;
        let fringe = scalp.fringe && at.z > 3.5 && at.x.abs() < 5.2;
        let growth = growth(
            looks.style,
            at,
            out_of,
            scalp,
            (length, curl),
            fringe,
            knot - start,
        );
        let varied = 1.0 + 0.13 * d.bell();
        let step = growth.length * varied.max(0.4) / PIECES as f32;
        let mut direction = (growth.direction + 0.35 * clump + own).normalize_or_zero();
        let mut here = start - out_of * 0.1;
        let phase = TAU * (noise(at * 1.3, scalp.seed ^ 31) + 0.1 * d.bell());
        let mut points = vec![here];
        for piece in 1..=PIECES {
            let along = piece as f32 / PIECES as f32;
            let turn = growth.then * (0.55 * along) - Vec3::Y * growth.gravity;
            let stray = Vec3::new(d.bell(), d.bell(), d.bell()) * growth.frizz;
            direction = (direction + turn + 0.1 * clump + stray).normalize_or_zero();
            let outward = skull.outward(here);
            let rise = direction.dot(outward).max(0.0);
            direction = (direction - outward * (rise * growth.smooth)).normalize_or_zero();
            here = skull.push(here + direction * step, growth.lift * (0.4 + along));
            if !fringe && here.y < scalp.height - 1.0 && here.z > 1.0 && here.x.abs() < face {
                // Hair does not fall over the face.
                here.x = here.x.signum() * face.min(here.x.abs() + 1.2);
                here.z = here.z.min(8.0);
            }
            let turn = phase + along * (4.0 + 9.0 * growth.curl);
            let bend = Vec3::new(turn.sin(), 0.35 * (1.7 * turn).sin(), turn.cos());
            points.push(here + bend * growth.curl * along.sqrt());
        }
        let shade = 1.0 + 0.28 * noise(at * 2.2, scalp.seed ^ 41) + 0.12 * d.bell();
        out.push(Strand {
            points,
            colour: (looks.hair * shade.max(0.3)).max(Vec3::splat(0.003)),
            width: match looks.style {
                Style::Buzz => 0.10,
                Style::Curly | Style::Afro => d.within(0.30, 0.55),
                _ => d.within(0.18, 0.42),
            },
            root: None,
        });
    }
    if looks.style == Style::Bun && looks.cover == Cover::None {
        bun(knot, looks, &mut d, out);
    }
}

/// How hair grows at a root, whose way to the knot of a bun is `to_knot`.
fn growth(
    style: Style,
    at: Vec3,
    out_of: Vec3,
    scalp: &Scalp,
    (length, curl): (f32, f32),
    fringe: bool,
    to_knot: Vec3,
) -> Growth {
    let within = |low: f32, high: f32| low + (high - low) * length;
    let top = smooth(at.y, 6.5, 10.5);
    let away = if at.x > scalp.part { 1.0 } else { -1.0 };
    let down = Vec3::new(0.25 * at.x.signum(), -1.0, -0.25);
    let plain = Growth {
        direction: out_of,
        smooth: 0.6,
        frizz: 0.0,
        then: Vec3::ZERO,
        length: 1.0,
        gravity: 0.0,
        curl: 0.0,
        lift: 0.02,
    };
    if fringe {
        return Growth {
            direction: out_of * 0.5 + Vec3::new(0.1 * away, 0.2, 1.0),
            then: Vec3::new(0.15 * away, -0.8, 0.1),
            length: (at.y - 5.6).clamp(1.0, 6.0) + 1.3,
            gravity: 0.25,
            curl: 0.04,
            lift: 0.05,
            ..plain
        };
    }
    match style {
        Style::Bald => plain,
        Style::Buzz => Growth {
            length: within(0.25, 0.6),
            ..plain
        },
        Style::Wreath => Growth {
            direction: out_of * 0.35 + Vec3::new(0.0, -0.7, -0.5),
            length: within(0.8, 2.0),
            ..plain
        },
        Style::Crop => Growth {
            direction: out_of * 0.7 + Vec3::new(0.15 * away, -0.3, 0.5 * top - 0.2),
            length: within(1.0, 3.0) * (0.55 + 0.6 * top),
            curl: 0.1 * curl,
            ..plain
        },
        Style::Quiff => Growth {
            direction: out_of * 0.8 + Vec3::new(0.1 * away, 0.5 * top - 0.4, 0.35 * top - 0.4),
            then: Vec3::new(0.1 * away, 0.0, -0.6),
            length: 1.2 + top * within(2.5, 5.0),
            curl: 0.1 * curl,
            lift: 0.04,
            ..plain
        },
        Style::SideParted => Growth {
            direction: out_of * 0.5 + Vec3::new(away * (0.4 + 0.7 * top), -0.3, 0.15 * top - 0.3),
            then: Vec3::new(0.2 * away, -0.3, -0.25),
            length: 1.8 + top * within(3.0, 6.0),
            gravity: 0.12,
            curl: 0.08 * curl,
            lift: 0.05,
            smooth: 0.8,
            ..plain
        },
        Style::Slick => Growth {
            direction: out_of * 0.3 + Vec3::new(0.0, 0.35 * top - 0.25, -1.0),
            then: Vec3::new(0.0, -0.2, -0.4),
            length: within(4.0, 8.0),
            gravity: 0.05,
            lift: 0.03,
            ..plain
        },
        Style::Curly => Growth {
            direction: out_of,
            length: within(1.8, 4.5) * (0.6 + 0.5 * top),
            gravity: 0.1,
            curl: 0.25 + 0.35 * curl,
            lift: 0.1,
            smooth: 0.2,
            frizz: 0.45,
            ..plain
        },
        Style::Afro => Growth {
            direction: out_of,
            length: within(2.0, 6.5),
            curl: 0.2 + 0.2 * curl,
            lift: 0.1,
            smooth: 0.0,
            frizz: 0.65,
            ..plain
        },
        Style::Bob | Style::Long => Growth {
            direction: out_of * 0.3 + Vec3::new(away * (0.1 + 0.6 * top), -0.3, -0.25),
            then: down * 0.6,
            length: if style == Style::Bob {
                within(12.0, 17.0)
            } else {
                within(20.0, 34.0)
            },
            gravity: 0.75,
            curl: 0.08 + 0.75 * (curl - 0.45).max(0.0),
            lift: 0.06,
            smooth: 0.7,
            frizz: 0.03,
        },
        Style::Bun => Growth {
            direction: to_knot.normalize_or_zero() + out_of * 0.15,
            then: to_knot.normalize_or_zero() * 0.8,
            length: to_knot.length() * 1.05,
            lift: 0.03,
            ..plain
        },
    }
}

/// A knot of hair: rings about a middle.
fn bun(middle: Vec3, looks: &Looks, d: &mut Draw, out: &mut Vec<Strand>) {
    let radius = d.within(2.0, 3.4);
    let middle = middle + Vec3::new(0.0, 0.3, -0.6) * radius;
    for _ in 0..260 {
        let axis = Vec3::new(d.bell(), d.bell(), d.bell()).normalize_or_zero();
        let (a, b) = axis.any_orthonormal_pair();
        let (start, r) = (d.unit() * TAU, radius * d.within(0.8, 1.0));
        let points = (0..=PIECES).map(|i| {
            let angle = start + 2.4 * i as f32 / PIECES as f32;
            middle + (a * angle.cos() + b * angle.sin()) * r
        });
        out.push(Strand {
            points: points.collect(),
            colour: looks.hair * (1.0 + 0.25 * d.bell()).max(0.3),
            width: 0.3,
            root: None,
        });
    }
}

/// Hair of the face that stands out from it.
fn face(model: &FaceModel, looks: &Looks, vertices: &[Vec3], out: &mut Vec<Strand>) {
    let count = match looks.beard {
        Beard::None | Beard::Stubble => return,
        Beard::Moustache => 420,
        Beard::Goatee => 600,
        Beard::Full => 1100,
    };
    let mut d = Draw::new(looks.seed, "scan.beard");
    let length = d.within(0.3, if looks.beard == Beard::Full { 1.9 } else { 0.8 });
    let lips = |number: u32| {
        // The texture point of the triangle's first corner.
        let uv = model.uv[number as usize][0] * super::atlas::SIDE as f32;
        let last = super::atlas::SIDE - 1;
        let (x, y) = ((uv.x as usize).min(last), (uv.y as usize).min(last));
        model.atlas.lips[y * super::atlas::SIDE + x]
    };
    let faces = model.uv.len() as u32;
    let kept = |p: Vec3, n: u32| n < faces && beard(looks.beard, p, lips(n), 0.0) > 0.35;
    for root in roots(model, kept, count, &mut d) {
        let start = point(vertices, &root);
        let out_of = normal(vertices, &root.0);
        let clump = field(start * 0.9, looks.seed as u32 ^ 5);
        let mut direction =
            (out_of * 0.7 + Vec3::new(0.0, -0.7, 0.1) + 0.35 * clump).normalize_or_zero();
        let step = length * d.within(0.5, 1.1) / 3.0;
        let mut here = start - out_of * 0.05;
        let mut points = vec![here];
        for _ in 0..3 {
            direction = (direction - Vec3::Y * 0.25 + 0.15 * clump).normalize_or_zero();
            here += direction * step;
            points.push(here);
        }
        out.push(Strand {
            points,
            colour: looks.hair * (1.0 + 0.25 * d.bell()).max(0.3),
            width: d.within(0.06, 0.13),
            root: Some(root),
        });
    }
}
