//! A face model of scans: ICT-FaceKit's folder as it comes.
//!
//! Lengths are its own, about centimetres: x to the person's left, y up, z forward.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use glam::Vec3;
use rayon::prelude::*;
use serde::Deserialize;

use super::atlas::Atlas;
use super::obj::{self, Corner, face_model};
use super::raster;
use super::shapes::SHAPES;
use crate::error::Result;

/// Shapes of identities, as many as the folder should have.
const IDENTITIES: usize = 100;
/// Movements of a vertex below this length are left out.
const STILL: f32 = 1e-3;

/// What a triangle is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// The face, whose colour is the atlas's.
    Face,
    /// Head, neck and shoulders.
    Head,
    /// The inside of the mouth.
    Mouth,
    /// Gums and tongue.
    Gums,
    Teeth,
    /// The lining of the eyes.
    Socket,
    /// The eyeball on the viewer's left (0) or right (1).
    Eye(usize),
    Lashes,
    /// Strands of hair, of the head or the face.
    Hair,
    /// Clothes, head coverings.
    Cloth,
    /// Spectacle frames, jewellery.
    Hard,
}

/// A movement of some vertices.
#[derive(Debug)]
pub(super) struct Shape(pub Vec<(u32, Vec3)>);

/// Scanned faces, from which people are made.
///
/// Read from a folder by [`FaceModel::open`]; it takes some 100 MB of memory and can be
/// shared between threads.
#[derive(Debug)]
pub struct FaceModel {
    /// Words of the folder's licence.
    licence: String,
    pub(super) neutral: Vec<Vec3>,
    /// Offsets of each component of identity, of one standard deviation.
    pub(super) identities: Vec<Vec<Vec3>>,
    /// [`SHAPES`] on the viewer's left and right.
    pub(super) shapes: Vec<[Shape; 2]>,
    pub(super) triangles: Vec<[u32; 3]>,
    pub(super) parts: Vec<Part>,
    /// Texture coordinates of the corners of [`Part::Face`]'s triangles, which come first.
    pub(super) uv: Vec<[glam::Vec2; 3]>,
    /// The 68 landmarks' vertices.
    pub(super) landmarks: Vec<u32>,
    /// Middles of the eyeballs, the viewer's left first.
    pub(super) eyes: [Vec3; 2],
    /// How much of the sky each vertex sees, 0 to 1.
    pub(super) openness: Vec<f32>,
    /// What each vertex is part of.
    vertex_parts: Vec<Part>,
    /// Whether each vertex is on the skin of face or head.
    skin: Vec<bool>,
    pub(super) atlas: Atlas,
}

#[derive(Deserialize)]
struct Indices {
    idx_to_landmark_verts: Vec<u32>,
}

impl FaceModel {
    /// Reads a face model: `generic_neutral_mesh.obj`, `identity000.obj` to
    /// `identity099.obj`, the expressions' files, `vertex_indices.json`, and, here or in the
    /// folder above, `LICENSE`. The folder above, which holds `FaceXModel`, will do as well.
    ///
    /// # Errors
    /// [`Error::FaceModel`](crate::Error::FaceModel) names the file that is missing, cut off,
    /// or of another topology.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let inner = folder.join("FaceXModel");
        let folder = if inner.is_dir() {
            inner
        } else {
            folder.to_owned()
        };
        let path = folder.join("generic_neutral_mesh.obj");
        let mesh = obj::read(&path)?;
        let neutral = mesh.vertices;
        let count = neutral.len();
        let (triangles, parts, corners) =
            split(&neutral, &mesh.parts).map_err(|reason| face_model(&path, reason))?;
        let uv = corners
            .iter()
            .map(|c| c.map(|[_, t]| mesh.uv[t as usize]))
            .collect::<Vec<_>>();
        let landmarks = landmarks(&folder.join("vertex_indices.json"), count)?;
        let offsets = |path: PathBuf| -> Result<Vec<Vec3>> {
            let mut moved = obj::vertices(&path, count)?;
            moved.iter_mut().zip(&neutral).for_each(|(m, n)| *m -= *n);
            Ok(moved)
        };
        let identities = (0..IDENTITIES)
            .into_par_iter()
            .map(|i| offsets(folder.join(format!("identity{i:03}.obj"))))
            .collect::<Result<_>>()?;
        let shapes = SHAPES
            .par_iter()
            .map(|name| shape(&folder, name, &neutral, offsets))
            .collect::<Result<_>>()?;
        let eyes = [0, 1].map(|side| eyeball(&neutral, &triangles, &parts, side));
        let openness = openness(&neutral, &triangles, &parts);
        let atlas = Atlas::new(&neutral, &triangles, &uv, &landmarks);
        let mut vertex_parts = vec![Part::Head; count];
        // In reverse, so that the face's border is the face's.
        for (triangle, part) in triangles.iter().zip(&parts).rev() {
            for v in triangle {
                vertex_parts[*v as usize] = *part;
            }
        }
        let skin = vertex_parts
            .iter()
            .map(|p| matches!(p, Part::Face | Part::Head))
            .collect();
        Ok(Self {
            vertex_parts,
            skin,
            licence: licence(&folder)?,
            neutral,
            identities,
            shapes,
            triangles,
            parts,
            uv,
            landmarks,
            eyes,
            openness,
            atlas,
        })
    }

    /// The words of its licence, which copies of it and works of it must carry.
    pub fn licence(&self) -> &str {
        &self.licence
    }

    /// What each vertex is part of.
    pub(super) fn vertex_parts(&self) -> impl Iterator<Item = Part> {
        self.vertex_parts.iter().copied()
    }

    /// Whether each vertex is on the skin of face or head.
    pub(super) fn skin(&self) -> &[bool] {
        &self.skin
    }
}

/// The licence's text, beside the meshes or above them.
fn licence(folder: &Path) -> Result<String> {
    let above = folder.join("..").join("LICENSE");
    let places = [folder.join("LICENSE"), above];
    let text = places.iter().find_map(|p| std::fs::read_to_string(p).ok());
    text.ok_or_else(|| {
        let reason = "cannot be read, nor in the folder above; what is rendered must carry the \
                      model's licence";
        face_model(&places[0], reason.to_owned())
    })
}

fn landmarks(path: &Path, vertices: usize) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| face_model(path, format!("cannot be read: {e}")))?;
    let read: Indices = serde_json::from_str(&text).map_err(|e| face_model(path, e.to_string()))?;
    let landmarks = read.idx_to_landmark_verts;
    let good = landmarks.len() == 68 && landmarks.iter().all(|&i| (i as usize) < vertices);
    good.then_some(landmarks).ok_or_else(|| {
        let reason = "idx_to_landmark_verts: should be 68 numbers of vertices that there are";
        face_model(path, reason.to_owned())
    })
}

/// A blendshape on both sides. Those without sides move both by half their weights' sum.
fn shape(
    folder: &Path,
    name: &str,
    neutral: &[Vec3],
    offsets: impl Fn(PathBuf) -> Result<Vec<Vec3>>,
) -> Result<[Shape; 2]> {
    let kept = |offsets: Vec<Vec3>, share: f32| {
        let moved = (0..).zip(offsets).filter(|(_, o)| o.length() > STILL);
        Shape(moved.map(|(i, o)| (i, o * share)).collect())
    };
    let file = |suffix: &str| folder.join(format!("{name}{suffix}.obj"));
    if !file("_R").exists() && !file("_L").exists() {
        let offsets = offsets(file(""))?;
        return Ok([kept(offsets.clone(), 0.5), kept(offsets, 0.5)]);
    }
    // The person's right is the viewer's left.
    let side = |suffix: &str| -> Result<Shape> { Ok(kept(offsets(file(suffix))?, 1.0)) };
    let shapes = [side("_R")?, side("_L")?];
    let middle = |s: &Shape| s.0.iter().map(|(i, _)| neutral[*i as usize].x).sum::<f32>();
    if middle(&shapes[0]) > middle(&shapes[1]) {
        let path = folder.join(format!("{name}_R.obj"));
        return Err(face_model(
            &path,
            "moves the left side of the face".to_owned(),
        ));
    }
    Ok(shapes)
}

type Split = (Vec<[u32; 3]>, Vec<Part>, Vec<[Corner; 3]>);

/// The triangles that are rendered and what they are part of; those of the face first, with
/// their corners. Fluid, blend and occlusion meshes of the eyes, and the irises below the
/// eyeballs' surface, are left out.
fn split(vertices: &[Vec3], read: &[(String, Vec<[Corner; 3]>)]) -> Result<Split, String> {
    let of = |name: &str| {
        let all = read.iter().filter(|(n, _)| n == name);
        let triangles: Vec<[Corner; 3]> = all.flat_map(|(_, t)| t.iter().copied()).collect();
        (!triangles.is_empty())
            .then_some(triangles)
            .ok_or_else(|| format!("has no polygons of the material {name}"))
    };
    let plain = |t: &[[Corner; 3]]| t.iter().map(|c| c.map(|[v, _]| v)).collect::<Vec<_>>();
    let corners = of("M_Face")?;
    let face = plain(&corners);
    let mut triangles = face.clone();
    let mut parts = vec![Part::Face; face.len()];
    let mut add = |more: Vec<[u32; 3]>, part: &dyn Fn(&[u32; 3]) -> Part| {
        parts.extend(more.iter().map(part));
        triangles.extend(more);
    };
    let back = plain(&of("M_BackHead")?);
    let kinds = linings(vertices, &face, &back);
    add(back, &|t| kinds[&kind_of(t, &kinds)]);
    add(plain(&of("M_GumsTongue")?), &|_| Part::Gums);
    // Nobody sees the molars at the back.
    let seen = |t: &[u32; 3]| t.iter().any(|v| vertices[*v as usize].z > 6.0);
    add(
        plain(&of("M_Teeth")?).into_iter().filter(seen).collect(),
        &|_| Part::Teeth,
    );
    add(plain(&of("M_ScleraRight")?), &|_| Part::Eye(0));
    add(plain(&of("M_ScleraLeft")?), &|_| Part::Eye(1));
    add(plain(&of("M_EyeLashes")?), &|_| Part::Lashes);
    Ok((triangles, parts, corners))
}

/// A vertex of the triangle that tells what it is part of.
fn kind_of(triangle: &[u32; 3], kinds: &HashMap<u32, Part>) -> u32 {
    let own = triangle.iter().find(|v| kinds.contains_key(v));
    own.copied().unwrap_or(u32::MAX)
}

/// Head, mouth and eye sockets share a material; they are pieces that hang together only by
/// the face's border. The largest is the head, those at the height of the eyes their sockets.
fn linings(vertices: &[Vec3], face: &[[u32; 3]], back: &[[u32; 3]]) -> HashMap<u32, Part> {
    let border: HashSet<u32> = face.iter().flatten().copied().collect();
    let mut parent: HashMap<u32, u32> = HashMap::new();
    fn find(parent: &mut HashMap<u32, u32>, mut v: u32) -> u32 {
        while let Some(&up) = parent.get(&v).filter(|up| **up != v) {
            let higher = parent.get(&up).copied().unwrap_or(up);
            parent.insert(v, higher);
            v = up;
        }
        v
    }
    for triangle in back {
        let own: Vec<u32> = triangle
            .iter()
            .copied()
            .filter(|v| !border.contains(v))
            .collect();
        for &v in &own {
            parent.entry(v).or_insert(v);
            let (a, b) = (find(&mut parent, own[0]), find(&mut parent, v));
            parent.insert(b, a);
        }
    }
    let mut keys: Vec<u32> = parent.keys().copied().collect();
    keys.sort_unstable();
    let mut pieces: HashMap<u32, Vec<u32>> = HashMap::new();
    for v in keys {
        pieces.entry(find(&mut parent, v)).or_default().push(v);
    }
    let height = |piece: &[u32]| {
        let y = || piece.iter().map(|v| vertices[*v as usize].y);
        (y().fold(f32::MAX, f32::min), y().fold(f32::MIN, f32::max))
    };
    let tall = |piece: &[u32]| height(piece).1 - height(piece).0;
    let head = pieces.values().map(|p| tall(p)).fold(0.0, f32::max);
    let mut kinds = HashMap::from([(u32::MAX, Part::Head)]);
    for piece in pieces.values() {
        let (low, high) = height(piece);
        let part = match (low + high) / 2.0 {
            _ if tall(piece) >= head => Part::Head,
            middle if middle > 1.0 => Part::Socket,
            _ => Part::Mouth,
        };
        kinds.extend(piece.iter().map(|v| (*v, part)));
    }
    kinds
}

/// The middle of an eyeball: that of its outline, a radius behind its foremost point.
fn eyeball(vertices: &[Vec3], triangles: &[[u32; 3]], parts: &[Part], side: usize) -> Vec3 {
    let (mut low, mut high) = (Vec3::MAX, Vec3::MIN);
    for (triangle, _) in triangles
        .iter()
        .zip(parts)
        .filter(|(_, p)| **p == Part::Eye(side))
    {
        for v in triangle {
            low = low.min(vertices[*v as usize]);
            high = high.max(vertices[*v as usize]);
        }
    }
    let middle = (low + high) / 2.0;
    middle.with_z(high.z - (high.y - low.y) / 2.0)
}

/// How much of the sky each vertex sees: depth maps from 160 directions, weighted by the
/// cosine.
fn openness(vertices: &[Vec3], triangles: &[[u32; 3]], parts: &[Part]) -> Vec<f32> {
    const DIRECTIONS: usize = 160;
    const SIDE: usize = 512;
    let skin: Vec<[u32; 3]> = triangles
        .iter()
        .zip(parts)
        .filter(|(_, p)| matches!(p, Part::Face | Part::Head))
        .map(|(t, _)| *t)
        .collect();
    let mut normals = vec![Vec3::ZERO; vertices.len()];
    raster::normals(vertices, &skin, &mut normals);
    let seen: Vec<Vec<[f32; 2]>> = (0..DIRECTIONS)
        .into_par_iter()
        .map(|i| {
            // Fibonacci's lattice on the sphere.
            let z = 1.0 - (2 * i + 1) as f32 / DIRECTIONS as f32;
            let angle = i as f32 * 2.399_963_2;
            let r = (1.0 - z * z).sqrt();
            let from = Vec3::new(r * angle.cos(), z, r * angle.sin());
            let view = raster::Shadow::new(from, 256.0, 10.0, SIDE, vertices, &[&skin]);
            let sees = |(v, n): (&Vec3, &Vec3)| {
                let weight = n.dot(from).max(0.0);
                [weight, weight * view.light(*v, 0.25, 1)]
            };
            vertices.iter().zip(&normals).map(sees).collect()
        })
        .collect();
    (0..vertices.len())
        .map(|v| {
            let [weight, sum] = seen
                .iter()
                .fold([0.0; 2], |[a, b], s| [a + s[v][0], b + s[v][1]]);
            sum / f32::max(weight, 1e-6)
        })
        .collect()
}
