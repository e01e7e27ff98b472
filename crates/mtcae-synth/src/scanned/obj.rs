//! Wavefront OBJ files: vertices, texture coordinates, and polygons by material.

use std::path::Path;

use glam::{Vec2, Vec3};

use crate::error::{Error, Result};

/// A corner of a triangle: its vertex and its texture coordinate.
pub(super) type Corner = [u32; 2];

/// A mesh whose polygons are cut into triangles.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    pub vertices: Vec<Vec3>,
    pub uv: Vec<Vec2>,
    /// Material's name and its triangles, in the order of the file.
    pub parts: Vec<(String, Vec<[Corner; 3]>)>,
}

/// Reads a whole mesh.
pub(super) fn read(path: &Path) -> Result<Mesh> {
    let text = text(path)?;
    let mut mesh = Mesh::default();
    for (number, line) in text.lines().enumerate() {
        let fault = |reason: String| face_model(path, format!("line {}: {reason}", number + 1));
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("v") => mesh.vertices.push(
                vertex(words)
                    .ok_or_else(|| fault("is not `v` and three finite numbers".to_owned()))?,
            ),
            Some("vt") => {
                let [u, v] = numbers(words)
                    .ok_or_else(|| fault("is not `vt` and two finite numbers".to_owned()))?;
                mesh.uv.push(Vec2::new(u, v));
            }
            Some("usemtl") => {
                let name = words.next().unwrap_or_default().to_owned();
                mesh.parts.push((name, Vec::new()));
            }
            Some("f") => {
                let corner = |word: &str| corner(word, mesh.vertices.len(), mesh.uv.len());
                let corners: Option<Vec<Corner>> = words.map(corner).collect();
                let corners = corners.filter(|c| c.len() >= 3).ok_or_else(|| {
                    fault("is not `f` and three or more `vertex/texture` that there are".to_owned())
                })?;
                let Some((_, triangles)) = mesh.parts.last_mut() else {
                    return Err(fault("a polygon before any `usemtl`".to_owned()));
                };
                for i in 1..corners.len() - 1 {
                    triangles.push([corners[0], corners[i], corners[i + 1]]);
                }
            }
            _ => {}
        }
    }
    Ok(mesh)
}

/// Reads the vertices alone, of which there must be `count`.
pub(super) fn vertices(path: &Path, count: usize) -> Result<Vec<Vec3>> {
    let text = text(path)?;
    let mut vertices = Vec::with_capacity(count);
    for (number, line) in text.lines().enumerate() {
        let Some(rest) = line.strip_prefix("v ") else {
            continue;
        };
        vertices.push(vertex(rest.split_ascii_whitespace()).ok_or_else(|| {
            let reason = format!("line {}: is not `v` and three finite numbers", number + 1);
            face_model(path, reason)
        })?);
    }
    if vertices.len() != count {
        let reason = format!(
            "has {} vertices, and generic_neutral_mesh.obj {count}: the file is cut off, or of \
             another topology",
            vertices.len()
        );
        return Err(face_model(path, reason));
    }
    Ok(vertices)
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| face_model(path, format!("cannot be read: {e}")))
}

/// The fault of a file of a face model.
pub(super) fn face_model(path: &Path, reason: String) -> Error {
    Error::FaceModel {
        path: path.to_owned(),
        reason,
    }
}

fn vertex<'a>(words: impl Iterator<Item = &'a str>) -> Option<Vec3> {
    numbers(words).map(Vec3::from_array)
}

fn numbers<'a, const N: usize>(mut words: impl Iterator<Item = &'a str>) -> Option<[f32; N]> {
    let mut out = [0.0; N];
    for value in &mut out {
        *value = words.next()?.parse().ok().filter(|v: &f32| v.is_finite())?;
    }
    Some(out)
}

/// `vertex/texture` or `vertex/texture/normal`, counted from 1.
fn corner(word: &str, vertices: usize, uv: usize) -> Option<Corner> {
    let mut indices = word.split('/');
    let mut index = |count: usize| {
        let i: usize = indices.next()?.parse().ok()?;
        (1..=count).contains(&i).then(|| i as u32 - 1)
    };
    Some([index(vertices)?, index(uv)?])
}
