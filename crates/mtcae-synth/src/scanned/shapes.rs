//! From action units to the blendshapes of a scanned face: one table.

use crate::action_units::{ActionUnit as Au, ActionUnits};
use crate::seed::Draw;

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

/// A face's own look at rest, which nobody makes: what it adds to a shape at most, and how
/// much of that age does. Brows that hang low or are drawn on high, hooded lids, corners of
/// the mouth that point down are no expression.
const REST: [(&str, f32, f32); 13] = [
    ("browDown", 0.65, 0.2),
    ("browInnerUp", 0.35, 0.0),
    ("browOuterUp", 0.35, 0.0),
    ("eyeBlink", 0.22, 0.5),
    ("eyeSquint", 0.45, 0.3),
    ("eyeWide", 0.3, 0.0),
    ("cheekSquint", 0.4, 0.2),
    ("noseSneer", 0.35, 0.2),
    ("mouthUpperUp", 0.25, 0.0),
    ("mouthFrown", 0.42, 0.5),
    ("mouthPress", 0.35, 0.2),
    ("mouthSmile", 0.22, 0.0),
    ("mouthShrugLower", 0.25, 0.2),
];

/// A person's face at rest, from their seed and age (0 to 1).
pub(super) fn rest(seed: u64, age: f32) -> Weights {
    let mut d = Draw::new(seed, "scan.rest");
    let mut rest = [[0f32; 2]; SHAPES.len()];
    for (name, most, aged) in REST {
        let (there, strength) = (d.chance(0.4), d.unit());
        let share = (1.0 - aged) + aged * age;
        let weight = &mut rest[place(name)];
        for side in weight {
            let uneven = d.within(0.85, 1.0);
            if there {
                *side = most * share * strength * uneven;
            }
        }
    }
    rest
}

/// The blendshapes of action units on the face's sides, and of what it looks like at rest:
/// the viewer's left, which is the person's right, first.
pub(super) fn weights(units: &[ActionUnits; 2], rest: &Weights) -> Weights {
    let mut weights = *rest;
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
    fn every_shape_that_is_spoken_of_is_moved() {
        let names = REST.map(|(name, ..)| name);
        let looked = [
            "eyeLookDown",
            "eyeLookUp",
            "jawOpen",
            "noseSneer",
            "cheekSquint",
        ];
        for name in names.into_iter().chain(looked) {
            assert!(SHAPES.contains(&name), "{name}");
        }
    }

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
