//! The action units of the Facial Action Coding System (Ekman and Friesen, 1978;
//! Ekman, Friesen and Hager, 2002): what single muscles do to a face.

use serde::{Deserialize, Serialize};

/// A movement of the face. The drawn renderer knows eighteen of them, the scanned
/// one all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ActionUnit {
    /// AU1: inner brow raiser.
    InnerBrowRaiser,
    /// AU2: outer brow raiser.
    OuterBrowRaiser,
    /// AU4: brow lowerer.
    BrowLowerer,
    /// AU5: upper lid raiser.
    UpperLidRaiser,
    /// AU6: cheek raiser.
    CheekRaiser,
    /// AU7: lid tightener.
    LidTightener,
    /// AU9: nose wrinkler.
    NoseWrinkler,
    /// AU10: upper lip raiser.
    UpperLipRaiser,
    /// AU12: lip corner puller.
    LipCornerPuller,
    /// AU14: dimpler.
    Dimpler,
    /// AU15: lip corner depressor.
    LipCornerDepressor,
    /// AU16: lower lip depressor.
    LowerLipDepressor,
    /// AU17: chin raiser.
    ChinRaiser,
    /// AU18: lip pucker.
    LipPucker,
    /// AU20: lip stretcher.
    LipStretcher,
    /// AU22: lip funneler.
    LipFunneler,
    /// AU23: lip tightener.
    LipTightener,
    /// AU24: lip presser.
    LipPresser,
    /// AU25: lips part.
    LipsPart,
    /// AU26: jaw drop.
    JawDrop,
    /// AU27: mouth stretch.
    MouthStretch,
    /// AU28: lip suck.
    LipSuck,
    /// AU29: jaw thrust.
    JawThrust,
    /// AU34: puff.
    CheekPuffer,
    /// AU43: eyes closed.
    EyesClosed,
}

impl ActionUnit {
    /// All of them, by number.
    pub const ALL: [Self; 25] = [
        Self::InnerBrowRaiser,
        Self::OuterBrowRaiser,
        Self::BrowLowerer,
        Self::UpperLidRaiser,
        Self::CheekRaiser,
        Self::LidTightener,
        Self::NoseWrinkler,
        Self::UpperLipRaiser,
        Self::LipCornerPuller,
        Self::Dimpler,
        Self::LipCornerDepressor,
        Self::LowerLipDepressor,
        Self::ChinRaiser,
        Self::LipPucker,
        Self::LipStretcher,
        Self::LipFunneler,
        Self::LipTightener,
        Self::LipPresser,
        Self::LipsPart,
        Self::JawDrop,
        Self::MouthStretch,
        Self::LipSuck,
        Self::JawThrust,
        Self::CheekPuffer,
        Self::EyesClosed,
    ];

    /// Those that the drawn renderer draws; the scanned one has all.
    pub(crate) fn drawn() -> impl Iterator<Item = Self> {
        let more = [
            Self::Dimpler,
            Self::LowerLipDepressor,
            Self::LipPucker,
            Self::LipFunneler,
            Self::LipSuck,
            Self::JawThrust,
            Self::CheekPuffer,
        ];
        Self::ALL
            .into_iter()
            .filter(move |unit| !more.contains(unit))
    }

    /// Its number in the coding system.
    pub const fn number(self) -> u8 {
        const NUMBERS: [u8; 25] = [
            1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28, 29,
            34, 43,
        ];
        NUMBERS[self as usize]
    }

    /// `AU` and its number, as tables of the field have it.
    pub fn name(self) -> String {
        format!("AU{}", self.number())
    }
}

/// How strong each action unit is: 0 at rest, 1 at its full strength.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ActionUnits([f32; 25]);

impl ActionUnits {
    /// A face at rest.
    pub const REST: Self = Self([0.0; 25]);

    /// These strengths; all others are 0.
    pub fn of(weights: &[(ActionUnit, f32)]) -> Self {
        let mut units = Self::REST;
        for &(unit, weight) in weights {
            units.0[unit as usize] = weight;
        }
        units
    }

    /// Strength of a unit.
    pub const fn get(&self, unit: ActionUnit) -> f32 {
        self.0[unit as usize]
    }

    /// Sets the strength of a unit.
    pub fn set(&mut self, unit: ActionUnit, strength: f32) {
        self.0[unit as usize] = strength;
    }

    /// All strengths, in the order of [`ActionUnit::ALL`].
    pub const fn strengths(&self) -> &[f32; 25] {
        &self.0
    }

    /// The mean of both sides of a face.
    pub(crate) fn mean([left, right]: &[Self; 2]) -> Self {
        left.map(|unit, strength| (strength + right.get(unit)) / 2.0)
    }

    /// Each strength from its unit and value before.
    #[must_use]
    pub fn map(self, mut f: impl FnMut(ActionUnit, f32) -> f32) -> Self {
        let mut units = self;
        for unit in ActionUnit::ALL {
            units.0[unit as usize] = f(unit, self.get(unit));
        }
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_lie_at_their_own_places_in_the_order_of_their_numbers() {
        for (i, unit) in ActionUnit::ALL.into_iter().enumerate() {
            assert_eq!(unit as usize, i);
        }
        let numbers = ActionUnit::ALL.map(ActionUnit::number);
        assert!(numbers.is_sorted());
    }
}
