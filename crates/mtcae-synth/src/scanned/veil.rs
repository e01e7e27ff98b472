//! What lets some of the light behind it through: lashes, lenses.

use glam::Vec3;

use super::raster::{NONE, Raster};

/// A veil in a frame.
pub(super) struct Veil {
    /// Whether each sample is behind it.
    covered: Vec<bool>,
    /// Share of light that passes, and light that is added.
    clear: f32,
    glare: f32,
}

impl Veil {
    /// Of triangles, of points in samples and their distance, where nothing stands `bias`
    /// before them.
    pub fn new(
        points: &[Vec3],
        triangles: &[[u32; 3]],
        scene: &Raster,
        bias: f32,
        clear: f32,
        glare: f32,
    ) -> Self {
        let mut raster = Raster::new(scene.width, scene.height);
        raster.depth.copy_from_slice(&scene.depth);
        raster.draw(points, triangles, 0, bias);
        Self {
            covered: raster.triangle.iter().map(|t| *t != NONE).collect(),
            clear,
            glare,
        }
    }

    /// Lenses of these outlines.
    pub fn lenses(outlines: [Vec<Vec3>; 2], scene: &Raster, clear: f32, glare: f32) -> Self {
        let mut points = Vec::new();
        let mut triangles = Vec::new();
        for outline in outlines {
            let (first, n) = (points.len() as u32, outline.len() as u32);
            let middle = outline.iter().sum::<Vec3>() / n as f32;
            points.extend(outline);
            points.push(middle);
            triangles.extend((0..n).map(|i| [first + i, first + (i + 1) % n, first + n]));
        }
        Self::new(&points, &triangles, scene, 0.0, clear, glare)
    }

    /// The light of a sample as it leaves it.
    pub fn over(&self, sample: usize, light: Vec3) -> Vec3 {
        if self.covered[sample] {
            light * self.clear + Vec3::splat(self.glare)
        } else {
            light
        }
    }
}
