//! The parts of a person, each painted where a [`FaceShape`] says.

pub(crate) mod body;
pub(crate) mod eyes;
pub(crate) mod hair;
pub(crate) mod head;
pub(crate) mod mouth;

use crate::geometry::Projection;
use crate::identity::Identity;
use crate::paint::Layer;
use crate::shape::FaceShape;

/// What all parts are painted with.
pub(crate) struct Scene<'a> {
    pub who: &'a Identity,
    pub face: &'a FaceShape,
    pub pose: &'a Projection,
    /// Direction of the eyes, -1 to 1.
    pub gaze: [f32; 2],
}

/// Everything of the head that light falls on, from back to front.
pub(crate) fn head(layer: &mut Layer, scene: &Scene<'_>) {
    head::skin(layer, scene);
    head::folds(layer, scene);
    head::beard(layer, scene);
    head::nose(layer, scene);
    mouth::mouth(layer, scene);
    head::moustache(layer, scene);
    for side in [0, 1] {
        eyes::eye(layer, scene, side);
        eyes::brow(layer, scene, side);
    }
    hair::front(layer, scene);
}

/// -1 for the viewer's left, 1 for the right.
pub(crate) fn sign(side: usize) -> f32 {
    if side == 0 { -1.0 } else { 1.0 }
}
