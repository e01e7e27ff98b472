//! A take: one identity making one expression, and everything about it that does
//! not depend on the frame.

use mtcae_core::Face;
use serde::{Deserialize, Serialize};

use crate::action_units::{ActionUnit as Au, ActionUnits};
use crate::error::{Error, Result};
use crate::expression::{Expression, Intensity};
use crate::geometry::Projection;
use crate::identity::Identity;
use crate::motion::{Moment, Motion};
use crate::seed::Draw;
use crate::shape::{FOREHEAD, FaceShape, LARGEST_JAW_DROP};

/// What is rendered.
///
/// The clip is a function of these fields alone, equal to the bit on every run.
/// Background, light, pose, camera and compression are drawn from `seed` without
/// regard to the expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Take {
    /// Seed of the [`Identity`].
    pub identity: u64,
    /// The expression.
    pub expression: Expression,
    /// Its strength; neutral has [`Intensity::Low`] only.
    pub intensity: Intensity,
    /// Seed of everything else.
    pub seed: u64,
    /// Width in pixels, 64 to 4096.
    pub width: u32,
    /// Height in pixels, 64 to 4096.
    pub height: u32,
    /// Number of frames, 1 to 10000.
    pub frames: u32,
    /// Frames a second, 1 to 240.
    pub fps: u32,
    /// How much size, place and pose of the head vary, in percent of all they may:
    /// 100 for a hand-held camera, less for a studio; 0 to 100.
    pub variation: u32,
}

/// Bytes that the frames of a clip may take.
const LARGEST_CLIP: u64 = 1 << 31;

impl Take {
    /// 256×256 pixels, 48 frames, 25 a second, all variation.
    pub fn new(identity: u64, expression: Expression, intensity: Intensity, seed: u64) -> Self {
        Self {
            identity,
            expression,
            intensity,
            seed,
            width: 256,
            height: 256,
            frames: 48,
            fps: 25,
            variation: 100,
        }
    }

    /// Whether it can be rendered.
    ///
    /// # Errors
    /// [`Error::Setting`] names the field that is out of range.
    pub fn check(&self) -> Result<()> {
        let fault = |field, got: String, want| Err(Error::Setting { field, got, want });
        let size = 64..=4096;
        if !size.contains(&self.width) {
            return fault("width", self.width.to_string(), "64 to 4096 pixels");
        }
        if !size.contains(&self.height) {
            return fault("height", self.height.to_string(), "64 to 4096 pixels");
        }
        if !(1..=10_000).contains(&self.frames) {
            return fault("frames", self.frames.to_string(), "1 to 10000");
        }
        if !(1..=240).contains(&self.fps) {
            return fault("fps", self.fps.to_string(), "1 to 240 frames a second");
        }
        if self.variation > 100 {
            return fault("variation", self.variation.to_string(), "0 to 100 percent");
        }
        let pixels = u64::from(self.width) * u64::from(self.height);
        if 3 * pixels * u64::from(self.frames) > LARGEST_CLIP {
            return fault(
                "frames",
                format!("{} of {}x{} pixels", self.frames, self.width, self.height),
                "at most 2 GiB of pixels in a clip",
            );
        }
        if !self.expression.intensities().contains(&self.intensity) {
            return fault(
                "intensity",
                format!("{:?} of {}", self.intensity, self.expression),
                "Low: neutral has no other",
            );
        }
        Ok(())
    }

    /// Constant rate factor that the clip is written with, 20 to 34.
    pub fn crf(&self) -> u8 {
        20 + Draw::new(self.seed, "compression").pick(15) as u8
    }
}

/// A take with all that its frames share.
pub(crate) struct Stage {
    pub who: Identity,
    pub motion: Motion,
    take: Take,
    /// Strengths at the apex of both sides, and at rest.
    apex: [ActionUnits; 2],
    rest: [ActionUnits; 2],
    /// Where the head is, in pixels, and pixels a unit.
    centre: [f32; 2],
    scale: f32,
}

impl Stage {
    pub fn new(take: &Take) -> Result<Self> {
        take.check()?;
        let who = Identity::new(take.identity);
        let motion = Motion::new(
            take.seed,
            take.frames as f32 / take.fps as f32,
            take.variation as f32 / 100.0,
        );
        let (apex, rest) = strengths(take, &who);
        let mut stage = Self {
            who,
            motion,
            take: *take,
            apex,
            rest,
            centre: [0.0; 2],
            scale: 1.0,
        };
        stage.place();
        Ok(stage)
    }

    /// Draws the size and the place of the face. The room it needs is that of the
    /// lowest jaw, whatever the expression: size and place tell nothing of it.
    fn place(&mut self) {
        let mut reach = [0f32; 4];
        let mut lowest = FaceShape::new(&self.who, [ActionUnits::REST; 2], 0.0);
        for jaw_drop in [0.0, LARGEST_JAW_DROP] {
            lowest.jaw_drop = jaw_drop;
            for frame in 0..self.take.frames {
                let moment = self.moment(frame);
                let [x1, y1, x2, y2] = lowest.bounds(&self.who, &self.projection(&moment));
                reach = [
                    reach[0].min(x1),
                    reach[1].min(y1),
                    reach[2].max(x2),
                    reach[3].max(y2),
                ];
            }
        }
        let (w, h) = (self.take.width as f32, self.take.height as f32);
        let margin = 0.01 * w.min(h);
        let room = [w, h].map(|side| side - 2.0 * margin);
        let mut d = Draw::new(self.take.seed, "place");
        let varied = self.take.variation as f32 / 100.0;
        let scale = (0.625 + varied * d.within(-0.125, 0.125)) * h / (1.0 - FOREHEAD);
        let scale = scale
            .min(room[0] / (reach[2] - reach[0]))
            .min(room[1] / (reach[3] - reach[1]));
        self.centre = [0, 1].map(|i| {
            let low = margin - reach[i] * scale;
            let high = [w, h][i] - margin - reach[i + 2] * scale;
            // Mostly near the middle.
            let t = 0.5 + 0.5 * varied * (d.unit() + d.unit() - 1.0);
            low + (high - low).max(0.0) * t
        });
        self.scale = scale;
    }

    /// A frame's instant.
    pub fn moment(&self, frame: u32) -> Moment {
        let seconds = frame as f32 / self.take.fps as f32;
        let share = frame as f32 / (self.take.frames - 1).max(1) as f32;
        // A single frame is one of the apex.
        let share = if self.take.frames == 1 { 0.5 } else { share };
        self.motion.at(seconds, share)
    }

    /// The head's pose at an instant.
    pub fn projection(&self, moment: &Moment) -> Projection {
        let scale = self.scale * moment.scale;
        let centre = [0, 1].map(|i| self.centre[i] + moment.shift[i] * self.scale);
        Projection::new(moment, centre, scale, self.who.width)
    }

    /// What both sides of the face do at an instant, blinks aside.
    pub fn units(&self, moment: &Moment) -> [ActionUnits; 2] {
        [0, 1].map(|side| {
            let (apex, rest) = (self.apex[side], self.rest[side]);
            rest.map(|unit, r| (r + moment.course * apex.get(unit)).clamp(0.0, 1.2))
        })
    }

    /// The face at an instant.
    pub fn face(&self, moment: &Moment) -> FaceShape {
        FaceShape::new(&self.who, self.units(moment), moment.blink)
    }

    /// What is true of a face in this pose, in fractions of the frame.
    pub fn truth(&self, face: &FaceShape, pose: &Projection) -> Face {
        let (w, h) = (self.take.width as f32, self.take.height as f32);
        let drawn = Face {
            face_box: face.bounds(&self.who, pose).into(),
            landmarks: face.landmarks(pose).into(),
            score: 1.0,
        };
        drawn.map(|[x, y]| [x / w, y / h])
    }
}

/// The action units at the apex and those of a face that is never quite at rest.
/// The same numbers are drawn for every expression.
fn strengths(take: &Take, who: &Identity) -> ([ActionUnits; 2], [ActionUnits; 2]) {
    let mut d = Draw::new(take.seed, "strengths");
    let full = take.expression.action_units();
    let share = take.intensity.weight();
    let mut apex = [ActionUnits::REST; 2];
    let mut rest = [ActionUnits::REST; 2];
    for unit in Au::drawn() {
        let mood = d.within(0.87, 1.13);
        let idle = d.within(-0.10, 0.08).max(0.0);
        for side in [0, 1] {
            let uneven = d.within(0.94, 1.06);
            let strength = full.get(unit) * share * who.habit.get(unit) * mood * uneven;
            apex[side].set(unit, strength);
            rest[side].set(unit, idle * uneven);
        }
    }
    (apex, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;
    use crate::shade::Light;

    /// What the plan draws for a clip, apart from the expression.
    fn drawn(take: &Take) -> Vec<f64> {
        let stage = Stage::new(take).unwrap();
        let moment = stage.moment(take.frames / 2);
        let light = Light::new(take.seed).frontal();
        let numbers = [
            f32::from(take.crf()),
            stage.centre[0],
            stage.centre[1],
            stage.scale,
            moment.yaw,
            moment.pitch,
            moment.roll,
            moment.blink,
            moment.gaze[0],
            light[0],
            light[2],
            stage.rest[0].get(Au::BrowLowerer),
        ];
        numbers.map(f64::from).to_vec()
    }

    #[test]
    fn no_draw_of_a_plan_tells_the_expression() {
        let dataset = Dataset {
            identities: 1..61,
            takes: 3,
            ..Dataset::default()
        };
        let plan = dataset.plan().unwrap();
        let rows: Vec<(usize, Vec<f64>)> = plan
            .iter()
            .map(|p| (p.take.expression as usize, drawn(&p.take)))
            .collect();
        for column in 0..rows[0].1.len() {
            let moments = |class: Option<usize>| {
                let of = rows.iter().filter(|r| class.is_none_or(|c| r.0 == c));
                let values: Vec<f64> = of.map(|r| r.1[column]).collect();
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                (n, mean, variance)
            };
            let (_, mean, variance) = moments(None);
            for class in 0..8 {
                let (n, of_class, _) = moments(Some(class));
                // Of 96 such differences, one in 4000 draws exceeds four.
                let errors = (of_class - mean).abs() / (variance / n).sqrt();
                assert!(errors < 4.0, "column {column}, class {class}: {errors}");
            }
        }
    }
}
