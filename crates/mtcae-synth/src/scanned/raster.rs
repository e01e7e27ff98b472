//! Triangles to pixels, with a depth buffer.

use glam::{Vec2, Vec3};

/// No triangle.
pub(super) const NONE: u32 = u32::MAX;

/// A picture's depths and what is seen in it.
#[derive(Debug)]
pub(super) struct Raster {
    pub width: usize,
    pub height: usize,
    /// Distance from the camera, (H, W).
    pub depth: Vec<f32>,
    /// Number of the triangle seen, or [`NONE`].
    pub triangle: Vec<u32>,
    /// Weights of its first two corners.
    pub weights: Vec<Vec2>,
}

/// Twice the signed area of (a, b, c).
fn edge(a: Vec2, b: Vec2, c: Vec2) -> f32 {
    (b - a).perp_dot(c - a)
}

/// Pixels whose middles lie between two coordinates, of `count`.
fn span(low: f32, high: f32, count: usize) -> std::ops::Range<usize> {
    // Rounded up by hand, in 32 bits: without SSE4.1 `ceil` is a call.
    let up = |x: f32| {
        let whole = x.clamp(0.0, count as f32) as i32;
        (whole + i32::from((whole as f32) < x)) as usize
    };
    up(low - 0.5)..up(high - 0.5 + f32::EPSILON).min(count)
}

/// Rows shorter than this are walked whole.
const SHORT: usize = 6;

/// Of `count` pixels of a row those in which no weight is certain to be negative: weights are
/// `first` at the row's first pixel and change by `step`. Long, narrow triangles fill little of
/// their rectangles.
fn within(first: Vec2, step: Vec2, count: usize) -> std::ops::Range<usize> {
    if count < SHORT {
        return 0..count;
    }
    let (mut from, mut to) = (0.0, count as f32);
    let third = (1.0 - first.x - first.y, -step.x - step.y);
    for (weight, step) in [(first.x, step.x), (first.y, step.y), third] {
        let crossing = -weight / step;
        if step > 0.0 {
            from = f32::max(from, crossing - 1.0);
        } else if step < 0.0 {
            to = f32::min(to, crossing + 2.0);
        }
    }
    from as i32 as usize..to.max(from) as i32 as usize
}

impl Raster {
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            depth: vec![f32::INFINITY; width * height],
            triangle: vec![NONE; width * height],
            weights: vec![Vec2::ZERO; width * height],
        }
    }

    pub fn clear(&mut self) {
        self.depth.fill(f32::INFINITY);
        self.triangle.fill(NONE);
    }

    /// Draws triangles whose points are (x, y) in pixels and the distance, which is
    /// interpolated in perspective. `first` is the number of the first triangle. What lies
    /// less than `bias` behind what is there is drawn over it.
    pub fn draw(&mut self, points: &[Vec3], triangles: &[[u32; 3]], first: u32, bias: f32) {
        self.each::<false>(points, triangles, first, bias);
    }

    /// Draws triangles that can be seen from one side only, that from which their corners
    /// run against the clock.
    pub fn draw_fronts(&mut self, points: &[Vec3], triangles: &[[u32; 3]], first: u32) {
        self.each::<true>(points, triangles, first, 0.0);
    }

    fn each<const FRONTS: bool>(
        &mut self,
        points: &[Vec3],
        triangles: &[[u32; 3]],
        first: u32,
        bias: f32,
    ) {
        for (number, triangle) in (first..).zip(triangles) {
            let [p, q, r] = triangle.map(|v| points[v as usize]);
            let [a, b, c] = [p, q, r].map(Vec3::truncate);
            let area = edge(a, b, c);
            // y goes down: what runs against the clock has a negative area.
            if area.abs() < 1e-9 || !area.is_finite() || (FRONTS && area > 0.0) {
                continue;
            }
            let (low, high) = (a.min(b).min(c), a.max(b).max(c));
            let columns = span(low.x, high.x, self.width);
            let rows = span(low.y, high.y, self.height);
            if columns.is_empty() || rows.is_empty() {
                continue;
            }
            let inverse = 1.0 / area;
            let [near_p, near_q, near_r] = [p, q, r].map(|v| 1.0 / v.z);
            // The weights are linear along a row.
            let step = Vec2::new(b.y - c.y, c.y - a.y) * inverse;
            for y in rows {
                let at = Vec2::new(columns.start as f32 + 0.5, y as f32 + 0.5);
                let w = Vec2::new(edge(b, c, at), edge(c, a, at)) * inverse;
                let few = within(w, step, columns.len());
                let mut w = w + step * few.start as f32;
                let row = y * self.width + columns.start;
                for i in row + few.start..row + few.end {
                    let third = 1.0 - w.x - w.y;
                    if w.x >= -1e-5 && w.y >= -1e-5 && third >= -1e-5 {
                        let (u, v) = (w.x * near_p, w.y * near_q);
                        let z = 1.0 / (u + v + third * near_r);
                        if z < self.depth[i] + bias {
                            self.depth[i] = z.min(self.depth[i]);
                            self.triangle[i] = number;
                            self.weights[i] = Vec2::new(u * z, v * z);
                        }
                    }
                    w += step;
                }
            }
        }
    }
}

/// Normals of vertices, weighted by the areas of their triangles; those of vertices that no
/// triangle has are zero.
pub(super) fn normals(vertices: &[Vec3], triangles: &[[u32; 3]], normals: &mut [Vec3]) {
    normals.fill(Vec3::ZERO);
    for triangle in triangles {
        let [a, b, c] = triangle.map(|v| vertices[v as usize]);
        let n = (b - a).cross(c - a);
        for v in triangle {
            normals[*v as usize] += n;
        }
    }
    for n in normals {
        *n = n.normalize_or_zero();
    }
}

/// Depths as a distant light sees them.
pub(super) struct Shadow {
    right: Vec3,
    up: Vec3,
    from: Vec3,
    middle: f32,
    scale: f32,
    side: usize,
    depth: Vec<f32>,
}

impl Shadow {
    /// Of a light from a direction, in a map of `side`² pixels with `scale` pixels a unit,
    /// whose middle is the origin plus `middle` pixels.
    pub fn new(
        from: Vec3,
        middle: f32,
        scale: f32,
        side: usize,
        vertices: &[Vec3],
        casters: &[&[[u32; 3]]],
    ) -> Self {
        let right = Vec3::new(0.0, 1.0, 0.01).cross(from).normalize();
        let mut shadow = Self {
            right,
            up: from.cross(right),
            from,
            middle,
            scale,
            side,
            depth: vec![f32::INFINITY; side * side],
        };
        let points: Vec<Vec3> = vertices.iter().map(|v| shadow.place(*v)).collect();
        for triangle in casters.iter().flat_map(|c| c.iter()) {
            shadow.cast(triangle.map(|v| points[v as usize]));
        }
        shadow
    }

    /// (x, y) in pixels and the depth.
    fn place(&self, v: Vec3) -> Vec3 {
        let [x, y] = [self.right, self.up].map(|axis| v.dot(axis) * self.scale + self.middle);
        Vec3::new(x, y, -v.dot(self.from))
    }

    fn cast(&mut self, [p, q, r]: [Vec3; 3]) {
        let [a, b, c] = [p, q, r].map(Vec3::truncate);
        let area = edge(a, b, c);
        if area.abs() < 1e-9 {
            return;
        }
        let (low, high) = (a.min(b).min(c), a.max(b).max(c));
        let columns = span(low.x, high.x, self.side);
        if columns.is_empty() {
            return;
        }
        let inverse = 1.0 / area;
        let step = Vec2::new(b.y - c.y, c.y - a.y) * inverse;
        for y in span(low.y, high.y, self.side) {
            let at = Vec2::new(columns.start as f32 + 0.5, y as f32 + 0.5);
            let w = Vec2::new(edge(b, c, at), edge(c, a, at)) * inverse;
            let few = within(w, step, columns.len());
            let mut w = w + step * few.start as f32;
            let row = y * self.side + columns.start;
            for depth in &mut self.depth[row + few.start..row + few.end] {
                let third = 1.0 - w.x - w.y;
                if w.x >= -1e-5 && w.y >= -1e-5 && third >= -1e-5 {
                    *depth = depth.min(w.x * p.z + w.y * q.z + third * r.z);
                }
                w += step;
            }
        }
    }

    /// Share of the light that reaches a point, from the pixels within `radius` of it.
    pub fn light(&self, v: Vec3, bias: f32, radius: isize) -> f32 {
        let p = self.place(v);
        let (x, y, z) = (p.x as isize, p.y as isize, p.z - bias);
        let side = self.side as isize;
        let mut lit = 0;
        let inside = radius..side - radius;
        if inside.contains(&x) && inside.contains(&y) {
            let width = 2 * radius as usize + 1;
            for j in y - radius..=y + radius {
                let first = (j * side + x - radius) as usize;
                let row = &self.depth[first..first + width];
                lit += row.iter().map(|d| u32::from(*d >= z)).sum::<u32>();
            }
        } else {
            for j in y - radius..=y + radius {
                for i in x - radius..=x + radius {
                    let outside = i < 0 || j < 0 || i >= side || j >= side;
                    if outside || self.depth[(j * side + i) as usize] >= z {
                        lit += 1;
                    }
                }
            }
        }
        lit as f32 / ((2 * radius + 1) * (2 * radius + 1)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_triangle_is_seen_and_weights_give_back_its_points() {
        let points = [
            Vec3::new(0.0, 0.0, 2.0),
            Vec3::new(16.0, 0.0, 4.0),
            Vec3::new(0.0, 16.0, 8.0),
            Vec3::new(0.0, 0.0, 1.0),
            Vec3::new(4.0, 0.0, 1.0),
            Vec3::new(0.0, 4.0, 1.0),
        ];
        let mut raster = Raster::new(16, 16);
        raster.draw(&points, &[[0, 1, 2], [3, 4, 5]], 0, 0.0);
        assert_eq!(raster.triangle[0], 1);
        assert_eq!(raster.triangle[15 * 16 + 15], NONE);
        let at = 5 * 16 + 6;
        assert_eq!(raster.triangle[at], 0);
        let w = raster.weights[at];
        // 1/z is linear in the picture; so is every point over its depth.
        let corners = [points[0], points[1], points[2]];
        let shares = [w.x, w.y, 1.0 - w.x - w.y];
        let z: f32 = corners.iter().zip(shares).map(|(p, s)| p.z * s).sum();
        let x: f32 = corners.iter().zip(shares).map(|(p, s)| p.x * p.z * s).sum();
        assert!((z - raster.depth[at]).abs() < 1e-4);
        assert!((x / z - 6.5).abs() < 1e-3);
    }

    #[test]
    fn what_stands_in_the_light_casts_a_shadow() {
        let points = [[-9.0, -9.0, 5.0], [9.0, -9.0, 5.0], [0.0, 9.0, 5.0]].map(Vec3::from_array);
        let shadow = Shadow::new(Vec3::Z, 32.0, 2.0, 64, &points, &[&[[0, 1, 2]]]);
        assert_eq!(shadow.light(Vec3::new(0.0, 0.0, 0.0), 0.2, 1), 0.0);
        assert_eq!(shadow.light(Vec3::new(0.0, 0.0, 6.0), 0.2, 1), 1.0);
        assert_eq!(shadow.light(Vec3::new(14.0, 14.0, 0.0), 0.2, 1), 1.0);
    }
}
