//! The meshes of a person and what they hold as one: its points in a frame, its triangles.

use std::ops::Range;

use glam::{Mat3, Vec3};

use super::hair;
use super::light::Lights;
use super::model::{FaceModel, Part};
use super::person::Person;
use super::raster::{self, Shadow};
use super::shade::Vertex;
use super::wear::Piece;
use crate::motion::smooth;

/// What neck and head turn about.
const PIVOT: Vec3 = Vec3::new(0.0, -6.0, -1.0);
/// Side of the first lamp's depth map, and its pixels a centimetre.
const SHADOW: (usize, f32) = (180, 4.2);

/// What does not change between frames.
pub(super) struct Scene {
    pub triangles: Vec<[u32; 3]>,
    pub parts: Vec<Part>,
    /// How many of the first triangles are the face's, seen from the front only.
    pub fronts: usize,
    /// Triangles of gums and teeth, which closed lips hide.
    pub inside: Range<usize>,
    /// Triangles of the lashes, which lie on the lids.
    pub lashes: Range<usize>,
    pieces: Vec<(Piece, u32)>,
    /// The first point of the strands' ribbons.
    ribbons: u32,
    /// Triangles that throw shadows: skin, pieces, hair.
    casters: Vec<[u32; 3]>,
    /// How far each point moves with the head, 0 to 1.
    head: Vec<f32>,
}

/// How a head is held: turned, with the body, before the camera.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pose {
    pub head: Mat3,
    pub body: Mat3,
    /// From the camera to the origin.
    pub distance: f32,
    /// Pixels a centimetre at a distance of 1 cm.
    pub focus: f32,
    /// Where the origin's line of sight meets the picture, in pixels.
    pub centre: [f32; 2],
}

impl Pose {
    /// A point of the head or the body in the camera's coordinates.
    pub fn place(&self, p: Vec3, head: f32) -> Vec3 {
        let from = p - PIVOT;
        let turned = self.head * from * head + self.body * from * (1.0 - head);
        turned + PIVOT - Vec3::Z * self.distance
    }

    /// (x, y) in pixels, y down, and the distance.
    pub fn project(&self, p: Vec3) -> Vec3 {
        let depth = -p.z;
        let [x, y] = [p.x, -p.y].map(|c| self.focus * c / depth);
        Vec3::new(x + self.centre[0], y + self.centre[1], depth)
    }
}

/// How far a point of the head, by its place at rest, moves with it and not with the body.
fn with_head(p: Vec3) -> f32 {
    smooth(p.y + 0.25 * p.z.clamp(0.0, 6.0), -15.0, -8.0)
}

impl Scene {
    pub fn new(model: &FaceModel, person: &Person, held: Option<Piece>) -> Self {
        let mut triangles = model.triangles.clone();
        let mut parts = model.parts.clone();
        let fronts = model.uv.len();
        let is_inside = |p: &Part| matches!(p, Part::Gums | Part::Teeth);
        let from = parts.iter().position(is_inside).unwrap_or(0);
        let to = parts
            .iter()
            .rposition(is_inside)
            .map_or(from, |last| last + 1);
        let first = parts
            .iter()
            .position(|p| *p == Part::Lashes)
            .unwrap_or(parts.len());
        let lashes = first..parts.len();
        let skin = triangles.iter().zip(&parts);
        let mut casters: Vec<[u32; 3]> = skin
            .filter(|(_, p)| matches!(p, Part::Face | Part::Head))
            .map(|(t, _)| *t)
            .collect();
        let mut head: Vec<f32> = model.neutral.iter().map(|p| with_head(*p)).collect();
        let mut next = model.neutral.len() as u32;
        let mut pieces = Vec::new();
        for piece in person.pieces.iter().cloned().chain(held) {
            let own = piece.triangles.iter().map(|t| t.map(|v| v + next));
            let own: Vec<[u32; 3]> = own.collect();
            casters.extend(&own);
            triangles.extend(&own);
            parts.extend(own.iter().map(|_| piece.part.unwrap_or(Part::Cloth)));
            let body = piece.body;
            head.extend(
                piece
                    .points
                    .iter()
                    .map(|p| if body { 0.0 } else { with_head(*p) }),
            );
            let count = piece.points.len() as u32;
            pieces.push((piece, next));
            next += count;
        }
        let ribbons = next;
        for (number, strand) in person.strands.iter().enumerate() {
            let count = strand.points.len() as u32;
            for i in 0..count - 1 {
                let a = next + 2 * i;
                let own = [[a, a + 2, a + 1], [a + 1, a + 2, a + 3]];
                triangles.extend(own);
                parts.extend([Part::Hair; 2]);
                // Each third is enough to darken what lies below.
                if number % 3 == 0 {
                    casters.extend(own);
                }
            }
            for p in &strand.points {
                head.extend([smooth(p.y, -22.0, -4.0); 2]);
            }
            next += 2 * count;
        }
        Self {
            triangles,
            parts,
            fronts,
            inside: from..to,
            lashes,
            pieces,
            ribbons,
            casters,
            head,
        }
    }

    /// The points of a frame, in the camera's coordinates and lit. `face` are the head's, as
    /// its muscles move them.
    pub fn vertices(
        &self,
        model: &FaceModel,
        person: &Person,
        face: &[Vec3],
        pose: &Pose,
        lights: &Lights,
        out: &mut Vec<Vertex>,
    ) {
        out.clear();
        out.resize(self.head.len(), Vertex::default());
        let mut at = Vec::with_capacity(self.head.len());
        at.extend(face.iter().zip(&self.head).map(|(p, h)| pose.place(*p, *h)));
        for (piece, first) in &self.pieces {
            let heads = &self.head[*first as usize..];
            at.extend(
                piece
                    .points
                    .iter()
                    .zip(heads)
                    .map(|(p, h)| pose.place(*p, *h)),
            );
        }
        self.strands(person, face, pose, &mut at, out);
        let mut normals = vec![Vec3::ZERO; at.len()];
        let solid = self
            .parts
            .iter()
            .position(|p| *p == Part::Hair)
            .unwrap_or(self.parts.len());
        raster::normals(&at, &self.triangles[..solid], &mut normals);
        let origin = Vec3::Z * pose.distance;
        let world: Vec<Vec3> = at.iter().map(|p| *p + origin).collect();
        let (side, scale) = SHADOW;
        let from = lights.lamps[0].from;
        let middle = side as f32 / 2.0;
        let shadow = Shadow::new(from, middle, scale, side, &world, &[&self.casters]);
        let (solid, ribbons) = out.split_at_mut(self.ribbons as usize);
        for (i, v) in solid.iter_mut().enumerate() {
            (v.at, v.normal) = (at[i], normals[i]);
            // What looks away has none of it, but for what wanders under the skin.
            v.lit = match v.normal.dot(from) > -0.4 {
                true => shadow.light(world[i], 0.7, 2),
                false => 0.0,
            };
        }
        for (i, edges) in (self.ribbons as usize..)
            .step_by(2)
            .zip(ribbons.chunks_exact_mut(2))
        {
            let lit = shadow.light((world[i] + world[i + 1]) / 2.0, 0.9, 1);
            for (v, at) in edges.iter_mut().zip(&at[i..]) {
                (v.at, v.lit) = (*at, lit);
            }
        }
        for (i, (colour, hair)) in person.colours.iter().enumerate() {
            let v = &mut out[i];
            (v.colour, v.hair, v.open, v.rest) =
                (*colour, *hair, model.openness[i], model.neutral[i]);
        }
        for (piece, first) in &self.pieces {
            for (i, colour) in (*first as usize..).zip(&piece.colours) {
                (out[i].colour, out[i].open) = (*colour, 0.85);
            }
        }
    }

    /// Ribbons that face the camera.
    fn strands(
        &self,
        person: &Person,
        face: &[Vec3],
        pose: &Pose,
        at: &mut Vec<Vec3>,
        out: &mut [Vertex],
    ) {
        let middle = pose.place(Vec3::new(0.0, 4.0, 0.0), 1.0);
        for strand in &person.strands {
            let moved = strand.root.as_ref().map_or(Vec3::ZERO, |root| {
                hair::point(face, root) - hair::point(&person.vertices, root)
            });
            let last = strand.points.len() - 1;
            let placed: Vec<Vec3> = strand
                .points
                .iter()
                .enumerate()
                .map(|(i, p)| pose.place(*p + moved, self.head[at.len() + 2 * i]))
                .collect();
            for (i, p) in placed.iter().enumerate() {
                let tangent = placed[(i + 1).min(last)] - placed[i.saturating_sub(1)];
                let tangent = tangent.normalize_or_zero();
                let across = tangent.cross(-*p).normalize_or_zero();
                let along = i as f32 / last as f32;
                let width = strand.width * (1.0 - 0.75 * along * along) / 2.0;
                let outward = (*p - middle).normalize_or_zero();
                let normal = (outward - 0.4 * p.normalize_or_zero()).normalize_or_zero();
                for side in [-1.0, 1.0] {
                    let v = &mut out[at.len()];
                    v.normal = (normal + 0.35 * side * across).normalize_or_zero();
                    v.tangent = tangent;
                    v.colour = strand.colour;
                    v.open = 0.45 + 0.55 * along;
                    at.push(*p + across * (side * width));
                }
            }
        }
    }
}
