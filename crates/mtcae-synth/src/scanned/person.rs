//! A person: a head of the model with its looks.

use glam::Vec3;

use super::hair::{self, Scalp, Skull, Strand};
use super::looks::Looks;
use super::model::FaceModel;
use super::noise::noise;
use super::raster::normals;
use super::shapes::{self, Weights};
use super::skin::{self, Texel};
use super::wear::{self, Piece};
use crate::seed::Draw;

/// A person's meshes and colours, from which every frame is made.
#[derive(Debug)]
pub(super) struct Person {
    pub looks: Looks,
    /// The head at rest, before [`Self::rest`].
    pub vertices: Vec<Vec3>,
    /// What its face looks like when it does nothing.
    pub rest: Weights,
    pub texture: Vec<Texel>,
    /// Colour of each vertex that has no texture, and how much of it is hair.
    pub colours: Vec<(Vec3, f32)>,
    pub strands: Vec<Strand>,
    /// Clothes, coverings, glasses.
    pub pieces: Vec<Piece>,
    /// Outlines of the lenses, the viewer's left first.
    pub lenses: Option<[Vec<Vec3>; 2]>,
    /// Angles of iris and pupil, radians.
    pub iris: [f32; 2],
    /// How deeply the skin folds when it moves.
    pub folding: f32,
}

impl Person {
    pub fn new(model: &FaceModel, seed: u64) -> Self {
        let looks = Looks::new(seed);
        let vertices = shape(model, seed);
        let scalp = Scalp::new(&looks);
        let skull = Skull::new(&scalp, model, &vertices);
        let strands = hair::grow(model, &looks, &scalp, &skull, &vertices);
        let mut pieces = wear::clothes(&looks, &skull);
        let mut lenses = None;
        if let Some(worn) = &looks.glasses {
            let (frame, outlines) = wear::glasses(worn, model, &vertices);
            pieces.push(frame);
            lenses = Some(outlines);
        }
        let mut d = Draw::new(seed, "scan.eyes");
        Self {
            vertices: thickened(model, &looks, &scalp, vertices),
            rest: shapes::rest(seed, looks.age),
            texture: skin::paint(&model.atlas, &looks, &scalp),
            colours: colours(model, &looks, &scalp),
            strands,
            pieces,
            lenses,
            iris: [d.within(0.43, 0.52), d.within(0.14, 0.26)],
            folding: d.within(0.2, 1.0) + 0.4 * looks.age,
            looks,
        }
    }
}

/// The head's shape: components of identity, each within two standard deviations.
fn shape(model: &FaceModel, seed: u64) -> Vec<Vec3> {
    let mut d = Draw::new(seed, "scan.shape");
    let spread = d.within(0.7, 1.1);
    let mut vertices = model.neutral.clone();
    for component in &model.identities {
        let weight = d.bell().clamp(-2.0, 2.0) * spread;
        for (v, offset) in vertices.iter_mut().zip(component) {
            *v += *offset * weight;
        }
    }
    vertices
}

/// The scalp, a little thicker where hair grows: what shows between strands is hair.
fn thickened(
    model: &FaceModel,
    looks: &Looks,
    scalp: &Scalp,
    mut vertices: Vec<Vec3>,
) -> Vec<Vec3> {
    use super::looks::{Cover, Style};
    let thick = match looks.style {
        _ if looks.cover != Cover::None => return vertices,
        Style::Bald => return vertices,
        Style::Buzz | Style::Wreath => 0.08,
        Style::Curly | Style::Afro => 0.6,
        _ => 0.3,
    };
    let mut out = vec![Vec3::ZERO; vertices.len()];
    normals(&vertices, &model.triangles, &mut out);
    let skin = model.skin();
    for ((v, n), (at, skin)) in vertices
        .iter_mut()
        .zip(out)
        .zip(model.neutral.iter().zip(skin))
    {
        if *skin {
            *v += n * thick * scalp.covers(*at, 0.0);
        }
    }
    vertices
}

fn colours(model: &FaceModel, looks: &Looks, scalp: &Scalp) -> Vec<(Vec3, f32)> {
    let of = |(part, at): (super::model::Part, &Vec3)| {
        use super::model::Part;
        match part {
            Part::Mouth => (super::looks::colour([0.45, 0.13, 0.12]), 0.0),
            Part::Gums => (super::looks::colour([0.62, 0.24, 0.24]), 0.0),
            Part::Socket => (looks.skin * Vec3::new(0.9, 0.6, 0.55), 0.0),
            _ => {
                let grain = 1.0 + 0.05 * noise(*at * 2.0, looks.seed as u32);
                let hair = scalp.covers(*at, 0.0);
                let streaks = looks.hair * (1.0 + 0.3 * scalp.streaks(*at)) * 0.8;
                (
                    (looks.skin * grain).lerp(streaks.max(Vec3::splat(0.002)), hair),
                    hair,
                )
            }
        }
    };
    model.vertex_parts().zip(&model.neutral).map(of).collect()
}
