//! A take of a person in front of the camera, frame by frame.

use std::sync::Arc;

use glam::{Mat3, Vec2, Vec3};
use mtcae_core::Face;

use super::Scanned;
use super::atlas::{FOLDS, Fold};
use super::light::Lights;
use super::looks::{displayed, linear};
use super::model::{FaceModel, Part};
use super::performance::Performance;
use super::person::Person;
use super::raster::{NONE, Raster};
use super::scene::{Pose, Scene};
use super::shade::{Shader, Vertex};
use super::shapes::{self, Weights, place};
use super::veil::Veil;
use super::wear;
use crate::action_units::ActionUnits;
use crate::background;
use crate::camera::Camera;
use crate::error::{Error, Result};
use crate::motion::{Moment, Motion};
use crate::paint::Layer;
use crate::render::Frames;
use crate::seed::Draw;
use crate::take::Take;

/// Samples a pixel, along each side.
const SAMPLES: usize = 2;
/// Height of a face from the hairline to the chin, in centimetres.
const FACE: f32 = 18.5;
/// Lips that are no farther apart than at rest and this, in centimetres, are shut.
const LIPS_SHUT: f32 = 0.05;
/// How far above the middle of the lids MTCNN sees an eye, in centimetres.
const EYES_UP: f32 = 0.25;
/// How much farther than a drawn head a scanned one turns.
const TURN: f32 = 1.9;

/// What is the same in all frames of a take.
pub(crate) struct Studio<'a> {
    model: &'a FaceModel,
    pub(super) person: Arc<Person>,
    pub(super) performance: Performance,
    pub(super) lights: Lights,
    pub(super) held: bool,
    take: Take,
    motion: Motion,
    scene: Scene,
    /// The picture without the person, linear.
    background: Vec<Vec3>,
    camera: Camera,
    pose: Pose,
    /// How much the eyes stay on the camera when the head turns.
    contact: f32,
    /// How much the body turns with the head, and where it turns to by itself.
    follows: f32,
    body: Vec3,
    /// Strength of the tone curve's shoulder.
    shoulder: f32,
    /// Light that glasses throw back.
    glare: f32,
    raster: Raster,
    vertices: Vec<Vertex>,
}

impl<'a> Studio<'a> {
    pub fn new(scanned: &'a Scanned, take: &Take) -> Result<Self> {
        take.check()?;
        let model = scanned.model();
        let person = scanned.person(take.identity);
        let varied = take.variation as f32 / 100.0;
        let motion = Motion::new(
            take.seed,
            take.frames as f32 / take.fps as f32,
            TURN * varied,
        );
        let held = wear::held(take.seed, person.looks.skin);
        let mut d = Draw::new(take.seed, "scan.stage");
        let (w, h) = (take.width as usize, take.height as usize);
        let mut studio = Self {
            lights: Lights::new(take.seed, person.looks.skin),
            scene: Scene::new(model, &person, held.clone()),
            held: held.is_some(),
            model,
            performance: Performance::new(take.seed, take.expression, take.intensity),
            take: *take,
            motion,
            background: backdrop(take, &mut d)?,
            camera: Camera::new(take.seed),
            pose: stance(take, &mut d),
            contact: if d.chance(0.6) {
                d.within(0.5, 1.0)
            } else {
                0.0
            },
            follows: d.within(0.1, 0.5),
            body: Vec3::new(d.bell(), d.bell(), d.bell()) * Vec3::new(0.10, 0.03, 0.03) * varied,
            shoulder: if d.chance(0.5) {
                d.within(0.05, 0.35)
            } else {
                0.0
            },
            glare: if d.chance(0.2) {
                d.within(0.02, 0.12)
            } else {
                0.0
            },
            raster: Raster::new(w * SAMPLES, h * SAMPLES),
            vertices: Vec::new(),
            person,
        };
        studio.centre();
        Ok(studio)
    }

    /// Moves the picture so that the face of the first moment is where it was drawn to be.
    fn centre(&mut self) {
        let moment = self.moment(0);
        let pose = self.posed(&moment);
        let points = self.landmarks(&self.person.vertices, &pose);
        let (low, high) = bounds(&points);
        let wanted = Vec2::from_array(self.pose.centre);
        let meant = Vec2::from_array(pose.centre);
        self.pose.centre = (wanted + meant - (low + high) / 2.0).to_array();
    }

    /// Seconds, and the share of the take.
    fn instant(&self, frame: u32) -> (f32, f32) {
        let frames = self.take.frames;
        let frame = if self.performance.still {
            frames / 2
        } else {
            frame
        };
        let share = frame as f32 / (frames - 1).max(1) as f32;
        let share = if frames == 1 { 0.5 } else { share };
        (frame as f32 / self.take.fps as f32, share)
    }

    fn posed(&self, m: &Moment) -> Pose {
        let turn = |yaw: f32, pitch: f32, roll: f32| {
            Mat3::from_rotation_z(-roll) * Mat3::from_rotation_x(pitch) * Mat3::from_rotation_y(yaw)
        };
        let f = self.follows;
        let size = self.take.height as f32 * SAMPLES as f32 * 0.5;
        let body = self.body;
        Pose {
            head: turn(m.yaw, m.pitch, m.roll),
            body: turn(
                f * m.yaw + body.x,
                0.5 * f * m.pitch + body.y,
                f * m.roll + body.z,
            ),
            focus: self.pose.focus * m.scale,
            centre: [0, 1].map(|i| self.pose.centre[i] + m.shift[i] * size),
            ..self.pose
        }
    }

    /// What both sides of the face do at a moment.
    fn sides(&self, frame: u32, moment: &Moment) -> [ActionUnits; 2] {
        let (seconds, share) = self.instant(frame);
        self.performance.units(moment, seconds, share)
    }

    /// Blendshapes at a moment, and where the eyes look, in radians to the viewer's right and
    /// up.
    fn weights(&self, frame: u32, moment: &Moment) -> (Weights, [f32; 2]) {
        let mut weights = shapes::weights(&self.sides(frame, moment), &self.person.rest);
        let gaze = [
            0.45 * moment.gaze[0] - self.contact * moment.yaw,
            -0.35 * moment.gaze[1] + self.contact * moment.pitch,
        ];
        let gaze = [gaze[0].clamp(-0.5, 0.5), gaze[1].clamp(-0.35, 0.35)];
        for side in [0, 1] {
            weights[place("eyeLookDown")][side] = (-1.4 * gaze[1]).max(0.0);
            weights[place("eyeLookUp")][side] = (1.2 * gaze[1]).max(0.0);
        }
        (weights, gaze)
    }

    /// The head as its muscles move it.
    fn face(&self, weights: &Weights) -> Vec<Vec3> {
        let mut vertices = self.person.vertices.clone();
        for (shape, sides) in self.model.shapes.iter().zip(weights) {
            for (side, weight) in shape.iter().zip(sides).filter(|(_, w)| **w > 0.0) {
                for (v, offset) in &side.0 {
                    vertices[*v as usize] += *offset * *weight;
                }
            }
        }
        vertices
    }

    /// The 68 landmarks in samples.
    fn landmarks(&self, face: &[Vec3], pose: &Pose) -> Vec<Vec2> {
        let at = |v: &u32| pose.project(pose.place(face[*v as usize], 1.0)).truncate();
        self.model.landmarks.iter().map(at).collect()
    }

    /// What is true of a face in this pose, in fractions of the frame, as MTCNN means it.
    fn truth_of(&self, face: &[Vec3], pose: &Pose) -> Face {
        let points = self.landmarks(face, pose);
        // MTCNN's eyes lie a little above the middle of the lids.
        let up = EYES_UP * pose.focus / pose.distance;
        let eye = |range: std::ops::Range<usize>| {
            let n = range.len() as f32;
            let lids = range.map(|i| points[i]).sum::<Vec2>() / n;
            lids + (pose.head * Vec3::Y).truncate() * Vec2::new(up, -up)
        };
        let nose = 0.78 * points[30] + 0.22 * points[33];
        let five = [eye(36..42), eye(42..48), nose, points[48], points[54]];
        let (low, high) = bounds(&points);
        let size = high - low;
        let low = low - Vec2::new(0.015 * size.x, 0.28 * size.y);
        let high = high + Vec2::new(0.015 * size.x, 0.018 * size.y);
        let drawn = Face {
            face_box: [low.x, low.y, high.x, high.y].into(),
            landmarks: five.map(|p| p.to_array()).into(),
            score: 1.0,
        };
        let [w, h] = [self.take.width, self.take.height].map(|s| s as f32 * SAMPLES as f32);
        drawn.map(|[x, y]| [x / w, y / h])
    }

    /// What is true of a frame.
    pub fn truth(&self, frame: u32) -> Face {
        let moment = self.moment(frame);
        let (weights, _) = self.weights(frame, &moment);
        self.truth_of(&self.face(&weights), &self.posed(&moment))
    }

    /// Finds what is seen at each sample.
    fn look(&mut self, points: &[Vec3], face: &[Vec3]) {
        let gap = |vertices: &[Vec3]| {
            let at = |i: usize| vertices[self.model.landmarks[i] as usize];
            let apart = |(upper, lower)| at(upper).distance(at(lower));
            [(61, 67), (62, 66), (63, 65)]
                .map(apart)
                .into_iter()
                .fold(0.0, f32::max)
        };
        let shut = gap(face) < gap(&self.person.vertices) + LIPS_SHUT;
        let Scene {
            fronts,
            inside,
            lashes,
            ..
        } = &self.scene;
        let hidden = if shut {
            inside.clone()
        } else {
            inside.end..inside.end
        };
        self.raster.clear();
        let all = &self.scene.triangles;
        self.raster.draw_fronts(points, &all[..*fronts], 0);
        for range in [
            *fronts..hidden.start,
            hidden.end..lashes.start,
            lashes.end..all.len(),
        ] {
            self.raster
                .draw(points, &all[range.clone()], range.start as u32, 0.0);
        }
    }

    /// Darkness of the folds on the texture, as the muscles make them.
    fn folds(&self, weights: &Weights) -> Vec<f32> {
        let both = |name: &str| weights[place(name)].iter().sum::<f32>() / 2.0;
        let (inner, outer) = (both("browInnerUp"), both("browOuterUp"));
        let smile = both("mouthSmile");
        let sneer = both("noseSneer");
        let mut deep = [0f32; FOLDS];
        deep[Fold::Frown as usize] = 0.5 * both("browDown").min(1.8);
        deep[Fold::Forehead as usize] = 0.4 * inner.min(outer);
        deep[Fold::InnerForehead as usize] = 0.4 * (inner - outer).max(0.0);
        deep[Fold::Nasolabial as usize] =
            0.5 * (1.2 * smile + 0.7 * both("mouthUpperUp") + 0.8 * sneer).min(1.2);
        deep[Fold::CrowsFeet as usize] = 0.35 * (both("cheekSquint") + 0.3 * smile).min(1.0);
        deep[Fold::NoseRoot as usize] = 0.4 * sneer;
        deep[Fold::UnderEye as usize] = 0.35 * both("cheekSquint");
        deep[Fold::Chin as usize] = 0.4 * both("mouthShrugLower");
        let deep = deep.map(|d| d * self.person.folding);
        let at = |folds: &[f32; FOLDS]| {
            let sum: f32 = folds.iter().zip(deep).map(|(f, d)| f * d).sum();
            sum.clamp(0.0, 0.7)
        };
        self.model.atlas.folds.iter().map(at).collect()
    }

    /// Shades what is seen and lays it over the background: RGBA bytes.
    fn develop(
        &self,
        vertices: &[Vertex],
        weights: &Weights,
        gaze: [f32; 2],
        points: &[Vec3],
        pose: &Pose,
    ) -> Vec<u8> {
        let folds = self.folds(weights);
        // The eyes converge a little.
        let towards = [0.02, -0.02].map(|inward| {
            let [x, y] = gaze;
            Vec3::new((x + inward).sin(), y.sin(), 1.0).normalize()
        });
        let shader = Shader {
            looks: &self.person.looks,
            lights: &self.lights,
            texture: &self.person.texture,
            folds: &folds,
            gaze: towards,
            eyes: self.model.eyes,
            iris: self.person.iris,
            mouth: weights[place("jawOpen")].iter().sum::<f32>().min(1.0),
        };
        let veils = [Some(self.lashes(points)), self.lens(pose)];
        let (w, h) = (self.take.width as usize, self.take.height as usize);
        let wide = w * SAMPLES;
        let share = 1.0 / (SAMPLES * SAMPLES) as f32;
        let mut picture = Vec::with_capacity(w * h * 4);
        for y in 0..h {
            for x in 0..w {
                let mut light = Vec3::ZERO;
                for j in 0..SAMPLES {
                    for i in 0..SAMPLES {
                        let at = (y * SAMPLES + j) * wide + x * SAMPLES + i;
                        let seen = match self.raster.triangle[at] {
                            NONE => self.background[y * w + x],
                            number => {
                                let number = number as usize;
                                self.sample(&shader, vertices, number, at) * self.lights.exposure
                            }
                        };
                        light += veils
                            .iter()
                            .flatten()
                            .fold(seen, |light, veil| veil.over(at, light));
                    }
                }
                let light = light * share;
                let light =
                    light / (Vec3::ONE + self.shoulder * light) * (1.0 + 0.6 * self.shoulder);
                let [r, g, b] = light.to_array().map(|c| (displayed(c) * 255.0 + 0.5) as u8);
                picture.extend([r, g, b, 255]);
            }
        }
        picture
    }

    /// The lenses, where they are tinted or shine.
    fn lens(&self, pose: &Pose) -> Option<Veil> {
        let worn = self.person.looks.glasses.as_ref()?;
        let outlines = self.person.lenses.as_ref()?;
        if worn.clear >= 1.0 && self.glare <= 0.0 {
            return None;
        }
        let place = |p: &Vec3| pose.project(pose.place(*p, 1.0));
        let outlines = outlines.clone().map(|o| o.iter().map(place).collect());
        Some(Veil::lenses(outlines, &self.raster, worn.clear, self.glare))
    }

    /// The lashes, which let some light through.
    fn lashes(&self, points: &[Vec3]) -> Veil {
        let triangles = &self.scene.triangles[self.scene.lashes.clone()];
        let clear = if self.person.looks.male { 0.6 } else { 0.42 };
        Veil::new(points, triangles, &self.raster, 0.03, clear, 0.0)
    }

    fn sample(&self, shader: &Shader<'_>, vertices: &[Vertex], number: usize, at: usize) -> Vec3 {
        let part = self.scene.parts[number];
        let corners = self.scene.triangles[number].map(|v| &vertices[v as usize]);
        let w = self.raster.weights[at];
        let uv = (part == Part::Face).then(|| &self.model.uv[number]);
        shader.shade(part, corners, [w.x, w.y, 1.0 - w.x - w.y], uv)
    }
}

impl Frames for Studio<'_> {
    fn moment(&self, frame: u32) -> Moment {
        let (seconds, share) = self.instant(frame);
        self.motion.at(seconds, share)
    }

    fn units(&self, frame: u32) -> ActionUnits {
        ActionUnits::mean(&self.sides(frame, &self.moment(frame)))
    }

    fn frame(&mut self, frame: u32, rgb: &mut [u8]) -> Face {
        let moment = self.moment(frame);
        let pose = self.posed(&moment);
        let (weights, gaze) = self.weights(frame, &moment);
        let face = self.face(&weights);
        let mut vertices = std::mem::take(&mut self.vertices);
        self.scene.vertices(
            self.model,
            &self.person,
            &face,
            &pose,
            &self.lights,
            &mut vertices,
        );
        let points: Vec<Vec3> = vertices.iter().map(|v| pose.project(v.at)).collect();
        self.look(&points, &face);
        let picture = self.develop(&vertices, &weights, gaze, &points, &pose);
        self.vertices = vertices;
        self.camera.expose(&picture, self.take.width as usize, rgb);
        self.truth_of(&face, &pose)
    }
}

/// Where the landmarks are, from least to most.
fn bounds(points: &[Vec2]) -> (Vec2, Vec2) {
    points
        .iter()
        .fold((Vec2::MAX, Vec2::MIN), |(low, high), p| {
            (low.min(*p), high.max(*p))
        })
}

/// Where the camera stands and what it looks at. The centre is that of the face.
fn stance(take: &Take, d: &mut Draw) -> Pose {
    let varied = take.variation as f32 / 100.0;
    let [w, h] = [take.width, take.height].map(|s| (s as usize * SAMPLES) as f32);
    let distance = d.within(40f32.ln(), 160f32.ln()).exp();
    let share = 0.6 + varied * d.within(-0.2, 0.2);
    let slack = [w, h].map(|side| (side - share * h).max(0.0) / 2.0);
    let centre = [
        w / 2.0 + slack[0] * varied * d.within(-0.9, 0.9),
        h / 2.0 + slack[1] * varied * d.within(-0.7, 0.8) + 0.03 * h,
    ];
    Pose {
        head: Mat3::IDENTITY,
        body: Mat3::IDENTITY,
        distance,
        focus: share * h / FACE * distance,
        centre,
    }
}

/// The background in linear light.
fn backdrop(take: &Take, d: &mut Draw) -> Result<Vec<Vec3>> {
    let mut layer = Layer::new(take.width, take.height).ok_or_else(|| Error::Setting {
        field: "width",
        got: take.width.to_string(),
        want: "no more than fits into memory",
    })?;
    background::paint(&mut layer, take.seed);
    let bright = (0.4 * d.bell() - 0.2).exp();
    let pixel = |p: &[u8]| Vec3::new(p[0].into(), p[1].into(), p[2].into()) / 255.0;
    let light = |p: &[u8]| Vec3::from_array(pixel(p).to_array().map(linear)) * bright;
    Ok(layer.pixels.data().chunks_exact(4).map(light).collect())
}
