//! A miniature of a scanned face model, in the layout of ICT-FaceKit's folder: some 900
//! vertices on ellipsoids, whose shapes move where those of the real model do.

use std::fmt::Write;
use std::path::Path;

type Point = [f32; 3];

/// The face's 68 landmarks on a plane, about where a face has them, in centimetres: outline,
/// brows, nose, eyes, lips.
fn landmarks() -> Vec<[f32; 2]> {
    let mut at = Vec::new();
    for i in 0..17 {
        let angle = std::f32::consts::PI * i as f32 / 16.0;
        at.push([-7.3 * angle.cos(), 3.7 - 11.2 * angle.sin()]);
    }
    for side in [-1.0, 1.0] {
        for i in 0..5 {
            let out = if side < 0.0 { 4 - i } else { i } as f32;
            at.push([side * (1.2 + 1.15 * out), 5.9 + 0.3 * (out - 1.0).min(1.0)]);
        }
    }
    at.extend((0..4).map(|i| [0.0, 3.7 - 1.1 * i as f32]));
    at.extend((-2..=2).map(|i| [0.62 * i as f32, -1.15]));
    for side in [-1.0, 1.0] {
        let lids = [
            [-1.3, 0.0],
            [-0.6, 0.42],
            [0.5, 0.45],
            [1.3, 0.0],
            [0.5, -0.4],
            [-0.6, -0.4],
        ];
        at.extend(lids.map(|[x, y]| [side * 3.1 + x, 3.45 + y]));
    }
    for i in 0..12 {
        let angle = std::f32::consts::PI * (1.0 - i as f32 / 6.0);
        at.push([2.5 * angle.cos(), -3.4 + 0.95 * angle.sin()]);
    }
    for i in 0..8 {
        let angle = std::f32::consts::PI * (1.0 - i as f32 / 4.0);
        at.push([2.2 * angle.cos(), -3.38 + 0.05 * angle.sin()]);
    }
    at
}

#[derive(Default)]
struct Mesh {
    vertices: Vec<Point>,
    uv: Vec<[f32; 2]>,
    parts: Vec<(&'static str, Vec<Vec<usize>>)>,
}

impl Mesh {
    /// Adds a grid of quadrilaterals.
    fn grid(
        &mut self,
        part: &'static str,
        [columns, rows]: [usize; 2],
        at: impl Fn(f32, f32) -> Point,
    ) {
        let first = self.vertices.len();
        for j in 0..rows {
            for i in 0..columns {
                let (u, v) = (
                    i as f32 / (columns - 1) as f32,
                    j as f32 / (rows - 1) as f32,
                );
                self.vertices.push(at(u, v));
                self.uv.push([0.02 + 0.96 * u, 0.02 + 0.96 * v]);
            }
        }
        let mut quads = Vec::new();
        for j in 0..rows - 1 {
            for i in 0..columns - 1 {
                let a = first + j * columns + i;
                quads.push(vec![a, a + 1, a + columns + 1, a + columns]);
            }
        }
        self.parts.push((part, quads));
    }

    fn obj(&self, vertices: &[Point]) -> String {
        let mut text = String::from("# miniature\n");
        for [x, y, z] in vertices {
            writeln!(text, "v {x} {y} {z}").unwrap();
        }
        for [u, v] in &self.uv {
            writeln!(text, "vt {u} {v}").unwrap();
        }
        for (part, polygons) in &self.parts {
            writeln!(text, "usemtl {part}").unwrap();
            for polygon in polygons {
                let corners: Vec<String> =
                    polygon.iter().map(|v| format!("{0}/{0}", v + 1)).collect();
                writeln!(text, "f {}", corners.join(" ")).unwrap();
            }
        }
        text
    }
}

/// The front of the face: its depth at a place.
fn depth(x: f32, y: f32) -> f32 {
    let bulge = 1.0 - (x / 9.6).powi(2) - ((y - 2.0) / 13.5).powi(2);
    let nose = 2.2 * (-(x / 1.2).powi(2) - ((y - 0.6) / 1.8).powi(2)).exp();
    -0.5 + 11.3 * bulge.max(0.0).sqrt() + nose
}

fn ball(middle: Point, radii: Point) -> impl Fn(f32, f32) -> Point {
    move |u, v| {
        let (around, up) = (std::f32::consts::TAU * u, std::f32::consts::PI * (v - 0.5));
        [
            middle[0] + radii[0] * up.cos() * around.sin(),
            middle[1] + radii[1] * up.sin(),
            middle[2] + radii[2] * up.cos() * around.cos(),
        ]
    }
}

fn mesh() -> Mesh {
    let mut mesh = Mesh::default();
    mesh.grid("M_Face", [25, 25], |u, v| {
        let (x, y) = (-8.4 + 16.8 * u, -9.5 + 21.5 * v);
        [x, y, depth(x, y)]
    });
    mesh.grid("M_BackHead", [17, 13], |u, v| {
        let around = 0.9 + (std::f32::consts::TAU - 1.8) * u;
        let y = -19.0 + 33.0 * v;
        let round = (1.0 - ((y - 2.0) / 13.0).powi(2)).max(0.25).sqrt();
        [8.6 * round * around.sin(), y, 9.5 * round * around.cos()]
    });
    mesh.grid(
        "M_BackHead",
        [9, 5],
        ball([0.0, -3.4, 7.5], [2.6, 1.6, 2.6]),
    );
    for x in [-3.1, 3.1] {
        mesh.grid("M_BackHead", [9, 5], ball([x, 3.5, 7.6], [1.5, 1.4, 1.2]));
    }
    mesh.grid(
        "M_GumsTongue",
        [7, 4],
        ball([0.0, -4.0, 7.5], [1.8, 0.6, 1.8]),
    );
    mesh.grid("M_Teeth", [9, 4], ball([0.0, -3.2, 7.8], [2.0, 0.8, 2.2]));
    mesh.grid("M_ScleraLeft", [11, 7], ball([3.1, 3.5, 8.0], [1.5; 3]));
    mesh.grid("M_ScleraRight", [11, 7], ball([-3.1, 3.5, 8.0], [1.5; 3]));
    for x in [-3.1, 3.1] {
        mesh.grid("M_EyeLashes", [7, 2], |u, v| {
            let from = x - 1.3 + 2.6 * u;
            [from, 3.9 + 0.3 * v, depth(from, 3.9) + 0.1]
        });
    }
    mesh
}

/// How a shape moves a point; `side` is -1 for the person's right, 1 for the left.
fn moved(name: &str, [x, y, z]: Point, side: f32) -> Point {
    let bell = |cx: f32, cy: f32, reach: f32| {
        let away = ((x - side * cx).powi(2) + (y - cy).powi(2)) / (reach * reach);
        if z > 3.0 { (-away).exp() } else { 0.0 }
    };
    match name {
        "browDown" => [0.0, -0.6 * bell(2.5, 6.0, 1.6), 0.0],
        "browInnerUp" => [0.0, 0.8 * bell(1.5, 6.0, 1.4), 0.0],
        "browOuterUp" => [0.0, 0.8 * bell(4.5, 6.0, 1.6), 0.0],
        "eyeBlink" | "eyeLookDown" => [0.0, -0.7 * bell(3.1, 3.9, 0.8), 0.0],
        "eyeWide" | "eyeLookUp" => [0.0, 0.3 * bell(3.1, 3.9, 0.8), 0.0],
        "mouthSmile" => [
            0.6 * side * bell(2.5, -3.4, 1.4),
            0.7 * bell(2.5, -3.4, 1.4),
            0.0,
        ],
        "mouthFrown" => [0.0, -0.7 * bell(2.5, -3.4, 1.3), 0.0],
        "mouthStretch" => [0.7 * side * bell(2.5, -3.4, 1.3), 0.0, 0.0],
        "mouthUpperUp" => [0.0, 0.5 * bell(1.0, -2.7, 1.0), 0.0],
        "mouthLowerDown" => [0.0, -0.5 * bell(1.0, -4.2, 1.0), 0.0],
        "jawOpen" if y < -3.38 && z > 3.0 => [0.0, -2.6, -0.4],
        "noseSneer" => [0.0, 0.4 * bell(1.2, 0.0, 1.2), 0.0],
        _ => [0.0, 0.0, 0.15 * bell(2.0, -2.0, 2.0)],
    }
}

/// Shapes of both sides, and of one.
const SIDED: [&str; 21] = [
    "browDown",
    "browInnerUp",
    "browOuterUp",
    "cheekPuff",
    "cheekSquint",
    "eyeBlink",
    "eyeLookDown",
    "eyeLookUp",
    "eyeSquint",
    "eyeWide",
    "mouthDimple",
    "mouthFrown",
    "mouthLowerDown",
    "mouthPress",
    "mouthSmile",
    "mouthStretch",
    "mouthUpperUp",
    "noseSneer",
    "eyeLookIn",
    "eyeLookOut",
    "cheekRaiser",
];
const WHOLE: [&str; 11] = [
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
];

/// Writes a miniature face model into a folder.
pub fn write_face_model(folder: &Path) {
    let mesh = mesh();
    let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    put(
        "LICENSE",
        "A miniature for tests, without a licence of its own.\n",
    );
    put("generic_neutral_mesh.obj", &mesh.obj(&mesh.vertices));
    let face = &mesh.vertices[..25 * 25];
    let nearest = |[x, y]: &[f32; 2]| {
        let away = |v: &Point| (v[0] - x).powi(2) + (v[1] - y).powi(2);
        (0..face.len()).min_by(|a, b| away(&face[*a]).total_cmp(&away(&face[*b])))
    };
    let marks: Vec<usize> = landmarks().iter().filter_map(nearest).collect();
    put(
        "vertex_indices.json",
        &serde_json::json!({"idx_to_landmark_verts": marks}).to_string(),
    );
    let changed = |change: &dyn Fn(Point) -> Point| {
        let add = |v: &Point| {
            let by = change(*v);
            [0, 1, 2].map(|i| v[i] + by[i])
        };
        mesh.obj(&mesh.vertices.iter().map(add).collect::<Vec<Point>>())
    };
    for i in 0..100 {
        let (rate, turn) = (0.1 + 0.004 * i as f32, 1.7 * i as f32);
        let text = changed(&|[x, y, z]| {
            let wave = |c: f32, more: f32| 0.06 * (rate * c + turn + more).sin();
            [x * wave(y, 0.0) * 0.3, wave(x.abs(), 1.0), wave(y + z, 2.0)]
        });
        put(&format!("identity{i:03}.obj"), &text);
    }
    for name in SIDED {
        for (suffix, side) in [("L", 1.0), ("R", -1.0)] {
            let text = changed(&|v| {
                if v[0] * side >= 0.0 {
                    moved(name, v, side)
                } else {
                    [0.0; 3]
                }
            });
            put(&format!("{name}_{suffix}.obj"), &text);
        }
    }
    for name in WHOLE {
        let text = changed(&|v| moved(name, v, v[0].signum()));
        put(&format!("{name}.obj"), &text);
    }
}
