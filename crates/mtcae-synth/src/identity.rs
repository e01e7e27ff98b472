//! Who is shown: the proportions and the looks of a face.

use crate::action_units::{ActionUnit, ActionUnits};
use crate::seed::Draw;

/// A colour, each channel 0 to 1, as displayed (sRGB).
pub(crate) type Colour = [f32; 3];

/// `t` of the way from one colour to the other.
pub(crate) fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * t)
}

/// A colour made lighter or darker.
pub(crate) fn scaled(colour: Colour, by: f32) -> Colour {
    colour.map(|c| (c * by).clamp(0.0, 1.0))
}

/// How the hair is worn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HairStyle {
    Bald,
    Buzz,
    Short,
    SideParted,
    Curly,
    Bob,
    Long,
    Bun,
}

/// Hair on the face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beard {
    None,
    Stubble,
    Moustache,
    Goatee,
    Full,
}

/// A face's proportions and looks, all from one seed.
///
/// Lengths are in units of the face: about half of the distance from the hairline
/// to the chin.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub(crate) seed: u64,
    /// Half of the width at the cheekbones.
    pub(crate) width: f32,
    /// Half of the width at the corners of the jaw.
    pub(crate) jaw: f32,
    /// Half of the width of the chin.
    pub(crate) chin: f32,
    pub(crate) eye_x: f32,
    pub(crate) eye_y: f32,
    pub(crate) eye_width: f32,
    pub(crate) eye_height: f32,
    /// How much higher the outer corner of the eye is.
    pub(crate) eye_tilt: f32,
    pub(crate) iris: Colour,
    pub(crate) brow_lift: f32,
    pub(crate) brow_arch: f32,
    pub(crate) brow_thickness: f32,
    pub(crate) nose_y: f32,
    pub(crate) nose_width: f32,
    pub(crate) mouth_y: f32,
    pub(crate) mouth_width: f32,
    pub(crate) upper_lip: f32,
    pub(crate) lower_lip: f32,
    pub(crate) skin: Colour,
    pub(crate) lips: Colour,
    /// Depth of the folds at rest, 0 to 1.
    pub(crate) age: f32,
    pub(crate) hair: HairStyle,
    pub(crate) hair_colour: Colour,
    pub(crate) hairline: f32,
    pub(crate) beard: Beard,
    pub(crate) glasses: Option<Glasses>,
    pub(crate) ear: f32,
    pub(crate) clothes: Colour,
    /// Shape of the collar: 0 round, 1 pointed, 2 high.
    pub(crate) collar: usize,
    /// How strongly this face makes each action unit, about 1.
    pub(crate) habit: ActionUnits,
}

/// A pair of glasses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Glasses {
    pub round: bool,
    pub thickness: f32,
    pub colour: Colour,
}

/// Skin from light to dark, mid-tones in even light.
const SKIN: [Colour; 8] = [
    [0.98, 0.84, 0.76],
    [0.95, 0.79, 0.68],
    [0.91, 0.73, 0.60],
    [0.85, 0.66, 0.52],
    [0.76, 0.56, 0.42],
    [0.65, 0.46, 0.34],
    [0.53, 0.36, 0.26],
    [0.42, 0.28, 0.21],
];
const HAIR: [Colour; 9] = [
    [0.07, 0.06, 0.06],
    [0.13, 0.09, 0.07],
    [0.24, 0.15, 0.10],
    [0.36, 0.23, 0.14],
    [0.50, 0.34, 0.20],
    [0.72, 0.56, 0.34],
    [0.55, 0.25, 0.12],
    [0.55, 0.54, 0.53],
    [0.80, 0.79, 0.77],
];
const IRIS: [Colour; 6] = [
    [0.20, 0.12, 0.07],
    [0.28, 0.17, 0.09],
    [0.40, 0.28, 0.14],
    [0.32, 0.38, 0.22],
    [0.30, 0.45, 0.58],
    [0.42, 0.47, 0.50],
];

impl Identity {
    /// The face of a seed. Faces of odd seeds have a man's proportions, those of
    /// even seeds a woman's, on average.
    pub fn new(seed: u64) -> Self {
        let male = seed & 1 == 1;
        let pick = |female: f32, man: f32| if male { man } else { female };
        let mut d = Draw::new(seed, "proportions");
        let width = d.within(0.70, 0.80) + pick(0.0, 0.02);
        let jaw = width * (d.within(0.76, 0.90) + pick(0.0, 0.05));
        let chin = width * (d.within(0.34, 0.46) + pick(0.0, 0.07));
        let eye_x = d.within(0.305, 0.36);
        let eye_width = d.within(0.140, 0.170) + pick(0.006, 0.0);
        let mouth_width = d.within(0.235, 0.295) + pick(0.0, 0.01);
        let mut looks = Draw::new(seed, "looks");
        let tone = looks.within(0.0, 6.99);
        let (t, f) = (tone as usize, tone.fract());
        let hue = [0, 1, 2].map(|_| looks.within(0.97, 1.03));
        let skin = mix(SKIN[t], SKIN[t + 1], f);
        let skin = [0, 1, 2].map(|i| (skin[i] * hue[i]).min(1.0));
        let flush = looks.within(0.45, 0.9) + pick(0.15, -0.1);
        let lips = mix(
            [skin[0] * 0.86, skin[1] * 0.66, skin[2] * 0.64],
            [0.66, 0.24, 0.26],
            (flush * 0.55).clamp(0.0, 1.0),
        );
        let age = looks.unit();
        // Dark skin seldom has fair hair; old hair is often grey.
        let hair_colour = match looks.unit() {
            u if age > 0.75 && u < 0.6 => HAIR[7 + looks.pick(2)],
            _ if tone > 3.5 => HAIR[looks.pick(3)],
            _ => HAIR[looks.pick(7)],
        };
        let hair_colour = scaled(hair_colour, looks.within(0.85, 1.2));
        let hair = match (male, looks.unit()) {
            (true, u) if u < 0.14 => HairStyle::Bald,
            (true, u) if u < 0.30 => HairStyle::Buzz,
            (true, u) if u < 0.58 => HairStyle::Short,
            (true, u) if u < 0.84 => HairStyle::SideParted,
            (true, _) => HairStyle::Curly,
            (false, u) if u < 0.34 => HairStyle::Long,
            (false, u) if u < 0.56 => HairStyle::Bob,
            (false, u) if u < 0.74 => HairStyle::Bun,
            (false, u) if u < 0.88 => HairStyle::Curly,
            (false, u) if u < 0.95 => HairStyle::Short,
            (false, _) => HairStyle::SideParted,
        };
        let beard = match looks.unit() {
            _ if !male => Beard::None,
            u if u < 0.50 => Beard::None,
            u if u < 0.70 => Beard::Stubble,
            u if u < 0.80 => Beard::Moustache,
            u if u < 0.90 => Beard::Goatee,
            _ => Beard::Full,
        };
        let glasses = looks.chance(0.2).then(|| Glasses {
            round: looks.chance(0.5),
            thickness: looks.within(0.014, 0.026),
            colour: [0, 1, 2].map(|_| looks.within(0.03, 0.3)),
        });
        let mut habits = Draw::new(seed, "habits");
        Self {
            seed,
            width,
            jaw,
            chin,
            eye_x,
            eye_y: d.within(-0.16, -0.10),
            eye_width,
            eye_height: d.within(0.056, 0.070) + pick(0.004, 0.0),
            eye_tilt: d.within(-0.015, 0.028),
            iris: IRIS[if tone > 4.0 {
                looks.pick(2)
            } else {
                looks.pick(6)
            }],
            brow_lift: d.within(0.185, 0.215) + pick(0.012, -0.008),
            brow_arch: d.within(0.03, 0.065) + pick(0.012, -0.008),
            brow_thickness: d.within(0.026, 0.042) + pick(-0.004, 0.008),
            nose_y: d.within(0.24, 0.31),
            nose_width: d.within(0.135, 0.180) + pick(0.0, 0.01),
            mouth_y: d.within(0.535, 0.58),
            mouth_width,
            upper_lip: d.within(0.036, 0.060) + pick(0.006, 0.0),
            lower_lip: d.within(0.052, 0.080) + pick(0.008, 0.0),
            skin,
            lips,
            age,
            hair,
            hair_colour,
            hairline: d.within(-0.86, -0.74) - pick(0.0, 0.03),
            beard,
            glasses,
            ear: d.within(0.85, 1.15),
            clothes: [0, 1, 2].map(|_| looks.within(0.08, 0.85)),
            collar: looks.pick(3),
            habit: ActionUnits::of(
                &ActionUnit::drawn()
                    .map(|unit| (unit, habits.within(0.87, 1.13)))
                    .collect::<Vec<_>>(),
            ),
        }
    }

    /// The seed it was made of.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_always_the_same_face_and_no_other() {
        let faces: Vec<Identity> = (0..60).map(Identity::new).collect();
        for (i, face) in faces.iter().enumerate() {
            assert_eq!(*face, Identity::new(i as u64));
            for other in &faces[i + 1..] {
                assert_ne!(face.width, other.width);
                assert_ne!(face.skin, other.skin);
            }
        }
        let styles = faces.iter().map(|f| f.hair as u8);
        assert_eq!(styles.collect::<std::collections::BTreeSet<_>>().len(), 8);
    }
}
