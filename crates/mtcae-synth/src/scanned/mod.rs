//! Faces rendered from scans: people of a [`FaceModel`], who make an expression, speak, blink
//! and turn their heads in some light before a camera.
//!
//! The model's axes: x to the person's left, which is the viewer's right, y up, z to the
//! viewer; lengths in centimetres.

mod atlas;
mod facts;
mod hair;
mod light;
mod looks;
mod model;
mod noise;
mod obj;
mod performance;
mod person;
mod raster;
mod scene;
mod shade;
mod shapes;
mod skin;
mod studio;
mod veil;
mod wear;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

pub use facts::Facts;
pub use model::FaceModel;
use person::Person;
use studio::Studio;

use crate::error::Result;
use crate::take::Take;

/// People kept for the next take.
const KEPT: usize = 8;

/// Renders people of a face model.
///
/// It keeps the people last rendered: making one takes as long as some of its frames.
#[derive(Debug)]
pub struct Scanned {
    model: Arc<FaceModel>,
    people: Mutex<VecDeque<(u64, Arc<Person>)>>,
}

impl Scanned {
    /// Of a face model.
    pub fn new(model: Arc<FaceModel>) -> Self {
        Self {
            model,
            people: Mutex::default(),
        }
    }

    /// The model that its people are made of.
    pub fn model(&self) -> &FaceModel {
        &self.model
    }

    /// A take, ready to be rendered.
    pub(crate) fn stage(&self, take: &Take) -> Result<Studio<'_>> {
        Studio::new(self, take)
    }

    /// The person of a seed.
    fn person(&self, seed: u64) -> Arc<Person> {
        let kept = || self.people.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, person)) = kept().iter().find(|(s, _)| *s == seed) {
            return person.clone();
        }
        let person = Arc::new(Person::new(&self.model, seed));
        let mut people = kept();
        people.push_front((seed, person.clone()));
        people.truncate(KEPT);
        person
    }
}
