//! The eight expressions of RAVDESS as action units.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action_units::{ActionUnit, ActionUnits};
use ActionUnit::{
    BrowLowerer, CheekRaiser, ChinRaiser, EyesClosed, InnerBrowRaiser, JawDrop, LidTightener,
    LipCornerDepressor, LipCornerPuller, LipPresser, LipStretcher, LipTightener, LipsPart,
    MouthStretch, NoseWrinkler, OuterBrowRaiser, UpperLidRaiser, UpperLipRaiser,
};

/// An expression, with RAVDESS's number and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expression {
    /// 01: the face at rest.
    Neutral,
    /// 02: lids lowered, lips faintly drawn up.
    Calm,
    /// 03: a smile that reaches the eyes.
    Happy,
    /// 04: inner brows up, corners of the mouth down.
    Sad,
    /// 05: brows down, lids tight, lips pressed.
    Angry,
    /// 06: brows up and together, eyes wide, lips drawn apart.
    Fearful,
    /// 07: nose wrinkled, upper lip raised.
    Disgust,
    /// 08: brows up, eyes wide, jaw dropped.
    Surprised,
}

impl Expression {
    /// All of them, by number.
    pub const ALL: [Self; 8] = [
        Self::Neutral,
        Self::Calm,
        Self::Happy,
        Self::Sad,
        Self::Angry,
        Self::Fearful,
        Self::Disgust,
        Self::Surprised,
    ];

    /// RAVDESS's number, 1 to 8.
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The expression of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.code() == code)
    }

    /// RAVDESS's name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Neutral => "neutral",
            Self::Calm => "calm",
            Self::Happy => "happy",
            Self::Sad => "sad",
            Self::Angry => "angry",
            Self::Fearful => "fearful",
            Self::Disgust => "disgust",
            Self::Surprised => "surprised",
        }
    }

    /// The intensities that there are: neutral has only the first.
    pub const fn intensities(self) -> &'static [Intensity] {
        match self {
            Self::Neutral => &[Intensity::Low],
            _ => &Intensity::ALL,
        }
    }

    /// The action units at full strength. The combinations are those of the
    /// coding system's investigator's guide; the weights were chosen by eye on
    /// rendered faces.
    pub fn action_units(self) -> ActionUnits {
        ActionUnits::of(match self {
            Self::Neutral => &[],
            Self::Calm => &[(EyesClosed, 0.62), (LipCornerPuller, 0.32)],
            Self::Happy => &[
                (CheekRaiser, 0.9),
                (LidTightener, 0.2),
                (LipCornerPuller, 1.0),
                (LipsPart, 0.8),
                (JawDrop, 0.2),
            ],
            Self::Sad => &[
                (InnerBrowRaiser, 1.0),
                (BrowLowerer, 0.35),
                (LipCornerDepressor, 1.0),
                (ChinRaiser, 0.7),
                (EyesClosed, 0.22),
            ],
            Self::Angry => &[
                (BrowLowerer, 1.0),
                (UpperLidRaiser, 0.55),
                (LidTightener, 0.8),
                (ChinRaiser, 0.3),
                (LipTightener, 0.8),
                (LipPresser, 0.9),
            ],
            Self::Fearful => &[
                (InnerBrowRaiser, 1.0),
                (OuterBrowRaiser, 0.45),
                (BrowLowerer, 0.5),
                (UpperLidRaiser, 1.0),
                (LidTightener, 0.2),
                (LipStretcher, 1.0),
                (LipsPart, 0.8),
                (JawDrop, 0.3),
            ],
            Self::Disgust => &[
                (BrowLowerer, 0.6),
                (CheekRaiser, 0.4),
                (LidTightener, 0.6),
                (NoseWrinkler, 1.0),
                (UpperLipRaiser, 1.0),
                (LipCornerDepressor, 0.4),
                (ChinRaiser, 0.4),
                (LipsPart, 0.25),
            ],
            Self::Surprised => &[
                (InnerBrowRaiser, 1.0),
                (OuterBrowRaiser, 1.0),
                (UpperLidRaiser, 0.8),
                (LipsPart, 0.8),
                (JawDrop, 1.0),
                (MouthStretch, 0.6),
            ],
        })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How strong an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intensity {
    /// 01: half of the full strength.
    Low,
    /// 02: three quarters.
    Medium,
    /// 03: full.
    High,
}

impl Intensity {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Number, 1 to 3.
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The intensity of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|i| i.code() == code)
    }

    /// Share of an expression's full action units.
    pub const fn weight(self) -> f32 {
        match self {
            Self::Low => 0.5,
            Self::Medium => 0.75,
            Self::High => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_those_of_ravdess() {
        let names = [
            "neutral",
            "calm",
            "happy",
            "sad",
            "angry",
            "fearful",
            "disgust",
            "surprised",
        ];
        for (i, expression) in Expression::ALL.into_iter().enumerate() {
            assert_eq!(expression.code() as usize, i + 1);
            assert_eq!(Expression::from_code(i as u8 + 1), Some(expression));
            assert_eq!(expression.to_string(), names[i]);
        }
        assert_eq!(Expression::from_code(0), None);
        assert_eq!(Expression::from_code(9), None);
    }

    #[test]
    fn no_two_expressions_have_the_same_action_units() {
        for a in Expression::ALL {
            for b in Expression::ALL {
                assert_eq!(a == b, a.action_units() == b.action_units());
            }
        }
    }
}
