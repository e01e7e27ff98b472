//! What a take shows, for tables of what breaks a model.

use serde::Serialize;

use super::Scanned;
use super::light::Kind;
use super::looks::{Beard, Cover};
use super::studio::Studio;
use crate::error::Result;
use crate::render::Frames;
use crate::take::Take;

/// What a take of a scanned person shows, apart from the expression.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// Skin from 1, the lightest, to 6.
    pub tone: u8,
    /// From 1, young, to 3, old.
    pub age: u8,
    /// `flat`, `soft` or `hard`.
    pub light: &'static str,
    /// `none`, `stubble` or `beard`.
    pub beard: &'static str,
    /// `none`, `beanie` or `scarf`.
    pub cover: &'static str,
    /// `none`, `clear` or `dark`.
    pub glasses: &'static str,
    /// Whether a hand or a thing is held before the face.
    pub held: bool,
    /// Whether the person speaks.
    pub speaks: bool,
    /// Whether the take is one moment throughout.
    pub still: bool,
    /// Largest turn to the side in any frame, in degrees.
    pub yaw: f32,
    /// Largest nod in any frame, in degrees.
    pub pitch: f32,
    /// Mean distance between the eyes, in pixels.
    pub eyes: f32,
}

impl Scanned {
    /// What a take shows.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) names the field of the take that is out of
    /// range.
    pub fn facts(&self, take: &Take) -> Result<Facts> {
        let studio = Studio::new(self, take)?;
        let looks = &studio.person.looks;
        let most = |of: &dyn Fn(u32) -> f32| (0..take.frames).map(of).fold(0.0, f32::max);
        let eyes = |frame: u32| {
            let marks = studio.truth(frame).landmarks;
            let [dx, dy] = [0, 1].map(|i| marks.right_eye[i] - marks.left_eye[i]);
            (dx * take.width as f32).hypot(dy * take.height as f32)
        };
        let mean = (0..take.frames).map(eyes).sum::<f32>() / take.frames as f32;
        Ok(Facts {
            tone: 1 + (looks.tone * 5.999) as u8,
            age: 1 + (looks.age * 2.999) as u8,
            light: match studio.lights.kind {
                Kind::Flat => "flat",
                Kind::Soft => "soft",
                Kind::Hard => "hard",
            },
            beard: match looks.beard {
                Beard::None => "none",
                Beard::Stubble => "stubble",
                _ => "beard",
            },
            cover: match looks.cover {
                Cover::None => "none",
                Cover::Beanie => "beanie",
                Cover::Scarf => "scarf",
            },
            glasses: match &looks.glasses {
                None => "none",
                Some(worn) if worn.clear < 1.0 => "dark",
                Some(_) => "clear",
            },
            held: studio.held,
            speaks: studio.performance.speaks(),
            still: studio.performance.still,
            yaw: most(&|f| studio.moment(f).yaw.to_degrees().abs()),
            pitch: most(&|f| studio.moment(f).pitch.to_degrees().abs()),
            eyes: mean,
        })
    }
}
