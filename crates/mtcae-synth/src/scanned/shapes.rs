//! From action units to the blendshapes of a scanned face: one table.

use crate::action_units::{ActionUnit as Au, ActionUnits};

/// Names of the blendshapes that are moved, without `_L` and `_R`.
pub(super) const SHAPES: [&str; 29] = [
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
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimple",
    "mouthFrown",
    "mouthFunnel",
    "mouthLowerDown",
    "mouthPress",
    "mouthPucker",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmile",
    "mouthStretch",
    "mouthUpperUp",
    "noseSneer",
];

/// What a unit at its full strength does.
const fn shapes(unit: Au) -> &'static [(&'static str, f32)] {
    match unit {
        Au::InnerBrowRaiser => &[("browInnerUp", 1.0)],
        Au::OuterBrowRaiser => &[("browOuterUp", 1.0)],
        // The model's own shapes are mild: a real frown, and real corners, go farther.
        Au::BrowLowerer => &[("browDown", 1.7)],
        Au::UpperLidRaiser => &[("eyeWide", 1.0)],
        Au::CheekRaiser => &[("cheekSquint", 1.0)],
        Au::LidTightener => &[("eyeSquint", 1.0)],
        Au::NoseWrinkler => &[("noseSneer", 1.0)],
        Au::UpperLipRaiser => &[("mouthUpperUp", 1.0)],
        Au::LipCornerPuller => &[("mouthSmile", 1.0)],
        Au::Dimpler => &[("mouthDimple", 1.0)],
        Au::LipCornerDepressor => &[("mouthFrown", 1.4)],
        Au::LowerLipDepressor => &[("mouthLowerDown", 1.0)],
        Au::ChinRaiser => &[("mouthShrugLower", 1.0), ("mouthShrugUpper", 0.25)],
        Au::LipPucker => &[("mouthPucker", 1.0)],
        Au::LipStretcher => &[("mouthStretch", 1.0)],
        Au::LipFunneler => &[("mouthFunnel", 1.0)],
        Au::LipTightener => &[
            ("mouthPress", 0.4),
            ("mouthRollUpper", 0.3),
            ("mouthRollLower", 0.4),
        ],
        Au::LipPresser => &[("mouthPress", 1.0)],
        Au::LipsPart => &[
            ("mouthLowerDown", 0.35),
            ("mouthUpperUp", 0.2),
            ("jawOpen", 0.05),
        ],
        Au::JawDrop => &[("jawOpen", 0.5)],
        Au::MouthStretch => &[("jawOpen", 0.45)],
        Au::LipSuck => &[("mouthRollLower", 1.0), ("mouthRollUpper", 0.7)],
        Au::JawThrust => &[("jawForward", 1.0)],
        Au::CheekPuffer => &[("cheekPuff", 1.0)],
        Au::EyesClosed => &[("eyeBlink", 1.0)],
    }
}

/// Weights of [`SHAPES`] on both sides of the face.
pub(super) type Weights = [[f32; 2]; SHAPES.len()];

/// The place of a blendshape in [`SHAPES`].
pub(super) fn place(name: &str) -> usize {
    SHAPES.iter().position(|s| *s == name).unwrap_or_default()
}

/// The blendshapes of action units on the face's sides: the viewer's left, which is
/// the person's right, first.
pub(super) fn weights(units: &[ActionUnits; 2]) -> Weights {
    let mut weights = [[0f32; 2]; SHAPES.len()];
    for unit in Au::ALL {
        for &(name, share) in shapes(unit) {
            let weight = &mut weights[place(name)];
            for side in [0, 1] {
                weight[side] += share * units[side].get(unit);
            }
        }
    }
    // Lids that close do not open wide.
    let (blink, wide) = (place("eyeBlink"), place("eyeWide"));
    for side in [0, 1] {
        weights[wide][side] *= 1.0 - weights[blink][side].clamp(0.0, 1.0);
        weights[blink][side] = weights[blink][side].min(1.0);
    }
    for weight in weights.iter_mut().flatten() {
        *weight = weight.clamp(0.0, 2.0);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_moves_shapes_that_there_are() {
        for unit in Au::ALL {
            assert!(!shapes(unit).is_empty());
            for (name, share) in shapes(unit) {
                assert!(SHAPES.contains(name), "{unit:?}: {name}");
                assert!((0.0..=2.0).contains(share));
            }
        }
    }
}
