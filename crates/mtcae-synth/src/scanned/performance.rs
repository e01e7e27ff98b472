//! What a face does in a take: which action units make an expression this time, speech, and
//! the small movements of a face that is never quite at rest.

use crate::action_units::{ActionUnit as Au, ActionUnits};
use crate::expression::{Expression, Intensity};
use crate::motion::{Moment, Wander, smooth};
use crate::seed::Draw;

/// A unit that takes part in an expression: with which probability, from and to which
/// strength.
type Role = (Au, f32, f32, f32);

/// Ways to make an expression, one of which a take draws: combinations of the coding
/// system's guide, with strengths chosen by eye on rendered faces.
const fn ways(expression: Expression) -> &'static [&'static [Role]] {
    use Au::*;
    match expression {
        Expression::Neutral => &[&[]],
        Expression::Calm => &[&[
            (EyesClosed, 1.0, 0.1, 0.35),
            (LipCornerPuller, 1.0, 0.1, 0.3),
        ]],
        Expression::Happy => &[
            // Lips closed.
            &[
                (LipCornerPuller, 1.0, 0.55, 1.0),
                (CheekRaiser, 0.85, 0.3, 1.0),
                (LidTightener, 0.7, 0.1, 0.6),
                (Dimpler, 0.5, 0.05, 0.4),
                (OuterBrowRaiser, 0.2, 0.05, 0.3),
            ],
            // Teeth shown, laughing.
            &[
                (LipCornerPuller, 1.0, 0.6, 1.0),
                (CheekRaiser, 0.9, 0.4, 1.1),
                (LidTightener, 0.7, 0.1, 0.7),
                (JawDrop, 1.0, 0.1, 0.7),
                (UpperLipRaiser, 1.0, 0.15, 0.6),
                (LowerLipDepressor, 0.6, 0.0, 0.4),
                (NoseWrinkler, 0.4, 0.05, 0.4),
                (OuterBrowRaiser, 0.25, 0.05, 0.3),
            ],
            &[
                (LipCornerPuller, 1.0, 0.6, 1.0),
                (CheekRaiser, 0.8, 0.2, 1.0),
                (LidTightener, 0.6, 0.1, 0.5),
                (NoseWrinkler, 0.3, 0.05, 0.3),
                (UpperLipRaiser, 1.0, 0.2, 0.55),
                (LipsPart, 1.0, 0.3, 0.8),
            ],
        ],
        Expression::Sad => &[
            &[
                (InnerBrowRaiser, 1.0, 0.5, 1.05),
                (BrowLowerer, 0.6, 0.1, 0.5),
                (LipCornerDepressor, 1.0, 0.4, 1.05),
                (ChinRaiser, 0.75, 0.15, 0.8),
                (EyesClosed, 0.55, 0.1, 0.4),
                (LidTightener, 0.4, 0.1, 0.4),
                (LipPresser, 0.3, 0.1, 0.4),
                (LowerLipDepressor, 0.25, 0.1, 0.3),
            ],
            // Near to tears.
            &[
                (InnerBrowRaiser, 1.0, 0.5, 1.1),
                (BrowLowerer, 0.8, 0.2, 0.6),
                (CheekRaiser, 0.7, 0.2, 0.6),
                (LidTightener, 0.6, 0.2, 0.6),
                (LipCornerDepressor, 1.0, 0.5, 1.1),
                (LipStretcher, 0.6, 0.1, 0.5),
                (ChinRaiser, 0.6, 0.2, 0.8),
                (LowerLipDepressor, 0.5, 0.1, 0.5),
                (JawDrop, 0.4, 0.05, 0.35),
                (EyesClosed, 0.5, 0.1, 0.6),
            ],
            // Weeping.
            &[
                (InnerBrowRaiser, 1.0, 0.3, 0.9),
                (BrowLowerer, 1.0, 0.4, 0.9),
                (CheekRaiser, 0.9, 0.4, 1.0),
                (LidTightener, 0.9, 0.3, 0.9),
                (NoseWrinkler, 0.6, 0.1, 0.4),
                (UpperLipRaiser, 0.6, 0.1, 0.5),
                (LipCornerDepressor, 1.0, 0.5, 1.1),
                (LipStretcher, 0.7, 0.2, 0.8),
                (ChinRaiser, 0.7, 0.2, 0.8),
                (EyesClosed, 0.7, 0.2, 0.9),
                (JawDrop, 0.5, 0.1, 0.5),
            ],
            // Pouting.
            &[
                (InnerBrowRaiser, 0.8, 0.3, 0.8),
                (BrowLowerer, 0.7, 0.2, 0.7),
                (LipCornerDepressor, 1.0, 0.5, 1.1),
                (ChinRaiser, 1.0, 0.5, 1.1),
                (LipPucker, 0.3, 0.1, 0.3),
                (EyesClosed, 0.5, 0.1, 0.4),
            ],
            // Downcast.
            &[
                (InnerBrowRaiser, 1.0, 0.45, 1.0),
                (LipCornerDepressor, 1.0, 0.3, 0.8),
                (EyesClosed, 1.0, 0.2, 0.5),
                (ChinRaiser, 0.4, 0.1, 0.4),
            ],
        ],
        Expression::Angry => &[
            // Lips pressed.
            &[
                (BrowLowerer, 1.0, 0.85, 1.2),
                (LidTightener, 0.85, 0.3, 0.9),
                (UpperLidRaiser, 0.3, 0.1, 0.4),
                (NoseWrinkler, 0.6, 0.1, 0.6),
                (LipPresser, 1.0, 0.3, 1.0),
                (LipTightener, 0.6, 0.2, 0.8),
                (ChinRaiser, 0.5, 0.1, 0.5),
                (LipCornerDepressor, 0.4, 0.1, 0.4),
                (JawThrust, 0.3, 0.1, 0.4),
            ],
            // Shouting, teeth shown.
            &[
                (BrowLowerer, 1.0, 0.85, 1.2),
                (LidTightener, 0.75, 0.3, 0.9),
                (UpperLidRaiser, 0.35, 0.1, 0.5),
                (NoseWrinkler, 0.8, 0.15, 0.7),
                (UpperLipRaiser, 0.8, 0.2, 0.8),
                (LowerLipDepressor, 1.0, 0.3, 0.9),
                (JawDrop, 1.0, 0.15, 1.0),
                (LipFunneler, 0.5, 0.1, 0.4),
                (LipStretcher, 0.4, 0.1, 0.3),
            ],
            // A dark look.
            &[
                (BrowLowerer, 1.0, 0.9, 1.2),
                (LidTightener, 0.85, 0.3, 0.9),
                (UpperLidRaiser, 0.3, 0.1, 0.5),
                (NoseWrinkler, 0.5, 0.1, 0.5),
                (LipTightener, 0.5, 0.1, 0.6),
                (LipCornerDepressor, 0.4, 0.1, 0.4),
            ],
        ],
        Expression::Fearful => &[
            &[
                (InnerBrowRaiser, 1.0, 0.6, 1.1),
                (OuterBrowRaiser, 0.8, 0.2, 0.7),
                (BrowLowerer, 0.8, 0.15, 0.6),
                (UpperLidRaiser, 1.0, 0.6, 1.15),
                (LipStretcher, 1.0, 0.4, 1.0),
                (JawDrop, 0.8, 0.1, 0.7),
                (LipsPart, 0.7, 0.3, 1.0),
                (LowerLipDepressor, 0.5, 0.1, 0.6),
                (LipCornerDepressor, 0.4, 0.1, 0.4),
            ],
            // A scream.
            &[
                (InnerBrowRaiser, 1.0, 0.6, 1.1),
                (OuterBrowRaiser, 0.6, 0.2, 0.6),
                (BrowLowerer, 0.9, 0.2, 0.7),
                (UpperLidRaiser, 1.0, 0.6, 1.1),
                (LipStretcher, 1.0, 0.5, 1.1),
                (JawDrop, 1.0, 0.5, 1.1),
                (LowerLipDepressor, 0.7, 0.2, 0.8),
                (UpperLipRaiser, 0.5, 0.1, 0.4),
            ],
        ],
        Expression::Disgust => &[
            &[
                (NoseWrinkler, 1.0, 0.75, 1.2),
                (BrowLowerer, 0.8, 0.15, 0.6),
                (LidTightener, 0.9, 0.3, 0.9),
                (CheekRaiser, 0.8, 0.2, 0.8),
                (UpperLipRaiser, 1.0, 0.5, 1.1),
                (LipCornerDepressor, 0.6, 0.1, 0.6),
                (ChinRaiser, 0.5, 0.1, 0.6),
                (LipsPart, 0.4, 0.2, 0.6),
                (JawDrop, 0.3, 0.1, 0.5),
            ],
            // The lip more than the nose, lips closed.
            &[
                (UpperLipRaiser, 1.0, 0.65, 1.15),
                (NoseWrinkler, 1.0, 0.5, 1.0),
                (LipCornerDepressor, 0.7, 0.2, 0.7),
                (ChinRaiser, 0.8, 0.2, 0.8),
                (BrowLowerer, 0.5, 0.1, 0.5),
                (LidTightener, 0.7, 0.2, 0.7),
            ],
            // Retching, the mouth open.
            &[
                (NoseWrinkler, 1.0, 0.75, 1.2),
                (UpperLipRaiser, 1.0, 0.6, 1.1),
                (LowerLipDepressor, 0.8, 0.2, 0.7),
                (JawDrop, 1.0, 0.2, 0.8),
                (BrowLowerer, 0.7, 0.15, 0.6),
                (LidTightener, 0.9, 0.4, 1.0),
                (EyesClosed, 0.3, 0.2, 0.7),
            ],
        ],
        Expression::Surprised => &[
            &[
                (InnerBrowRaiser, 1.0, 0.6, 1.1),
                (OuterBrowRaiser, 1.0, 0.6, 1.1),
                (UpperLidRaiser, 1.0, 0.3, 1.1),
                (JawDrop, 1.0, 0.4, 1.15),
                (MouthStretch, 0.5, 0.1, 0.9),
                (LipFunneler, 0.4, 0.1, 0.35),
            ],
            &[
                (InnerBrowRaiser, 1.0, 0.6, 1.1),
                (OuterBrowRaiser, 1.0, 0.6, 1.1),
                (UpperLidRaiser, 0.9, 0.3, 1.0),
                (JawDrop, 0.8, 0.15, 0.5),
                (LipsPart, 0.7, 0.2, 0.6),
                (LipPucker, 0.3, 0.05, 0.3),
            ],
        ],
    }
}

/// Units that syllables move, and how far.
const SPEECH: [(Au, f32); 7] = [
    (Au::JawDrop, 0.6),
    (Au::LowerLipDepressor, 0.4),
    (Au::UpperLipRaiser, 0.2),
    (Au::LipFunneler, 0.4),
    (Au::LipPucker, 0.4),
    (Au::LipStretcher, 0.25),
    (Au::LipPresser, 0.25),
];

/// Units that move by themselves now and then.
const IDLE: [Au; 16] = [
    Au::InnerBrowRaiser,
    Au::OuterBrowRaiser,
    Au::BrowLowerer,
    Au::UpperLidRaiser,
    Au::CheekRaiser,
    Au::LidTightener,
    Au::UpperLipRaiser,
    Au::LipCornerPuller,
    Au::Dimpler,
    Au::LipCornerDepressor,
    Au::LowerLipDepressor,
    Au::ChinRaiser,
    Au::LipPucker,
    Au::LipTightener,
    Au::LipPresser,
    Au::JawDrop,
];

/// How an expression comes and goes within a take.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Course {
    /// As the take's motion says: onset, apex, offset.
    Whole,
    /// At its apex throughout, a little stronger and weaker.
    Held,
    /// From rest to the apex, which lasts.
    Onset([f32; 2]),
}

/// Speech: how loud, and the syllables' rate and phases.
struct Speech {
    strength: f32,
    rate: f32,
    phases: [f32; SPEECH.len()],
    pause: Wander,
}

/// What a face does in a take.
pub(super) struct Performance {
    apex: [ActionUnits; 2],
    /// Small movements of some units.
    idle: Vec<(Au, Wander, f32)>,
    speech: Option<Speech>,
    course: Course,
    /// Whether the whole take is one moment, as a photograph is.
    pub still: bool,
}

impl Performance {
    /// Of an expression, from a take's seed.
    pub fn new(seed: u64, expression: Expression, intensity: Intensity) -> Self {
        // All that does not depend on the expression comes from streams of its own.
        let mut d = Draw::new(seed, "scan.idle");
        let idle = (0..4).map(|_| {
            let unit = IDLE[d.pick(IDLE.len())];
            (unit, Wander::new(&mut d, 0.08, 0.10), d.within(0.5, 1.5))
        });
        let idle = idle.collect();
        let mut d = Draw::new(seed, "scan.speech");
        let speech = d.chance(0.4).then(|| Speech {
            strength: d.within(0.3, 1.0),
            rate: d.within(2.0, 4.5),
            phases: [(); SPEECH.len()].map(|()| d.unit()),
            pause: Wander::new(&mut d, 0.4, 0.8),
        });
        let mut d = Draw::new(seed, "scan.course");
        let course = match d.unit() {
            u if u < 0.35 => Course::Whole,
            u if u < 0.75 => Course::Held,
            _ => {
                let start = d.within(-0.1, 0.25);
                Course::Onset([start, start + d.within(0.15, 0.4)])
            }
        };
        let still = d.chance(0.15);
        Self {
            apex: apex(seed, expression, intensity),
            idle,
            speech,
            course,
            still,
        }
    }

    /// Whether the person speaks.
    pub fn speaks(&self) -> bool {
        self.speech.is_some()
    }

    /// Units at a moment, the viewer's left first, `share` of the take.
    pub fn units(&self, moment: &Moment, seconds: f32, share: f32) -> [ActionUnits; 2] {
        let course = match self.course {
            _ if self.still => 1.0,
            Course::Whole => moment.course,
            Course::Held => 0.92 + 0.08 * moment.course,
            Course::Onset([from, to]) => smooth(share, from, to),
        };
        let mut units = self
            .apex
            .map(|side| side.map(|_, strength| strength * course));
        let mut add = |unit: Au, more: [f32; 2]| {
            for (side, more) in units.iter_mut().zip(more) {
                side.set(unit, (side.get(unit) + more).clamp(0.0, 1.2));
            }
        };
        for (unit, wander, uneven) in &self.idle {
            let more = wander.at(seconds).max(0.0);
            add(*unit, [more, more * uneven]);
        }
        if let Some(speech) = &self.speech {
            let loud = speech.strength * smooth(speech.pause.at(seconds), -0.5, 0.2);
            for ((unit, reach), phase) in SPEECH.iter().zip(speech.phases) {
                let turn = seconds * speech.rate * (0.7 + 0.6 * phase) + phase;
                let wave = (std::f32::consts::TAU * turn).sin().max(0.0);
                // An expression leaves less room to the mouth.
                add(*unit, [loud * reach * wave * (1.0 - 0.4 * course); 2]);
            }
        }
        add(Au::EyesClosed, [moment.blink; 2]);
        units
    }
}

/// Strengths at the apex.
fn apex(seed: u64, expression: Expression, intensity: Intensity) -> [ActionUnits; 2] {
    let mut d = Draw::new(seed, "scan.strengths");
    let ways = ways(expression);
    let way = ways[d.pick(ways.len())];
    // Half to all of what people do when they are asked for it, and a little more.
    let share = 0.25 + 0.75 * intensity.weight() + d.within(-0.1, 0.2);
    let mut apex = [ActionUnits::REST; 2];
    for &(unit, probability, low, high) in way {
        let (there, strength) = (d.chance(probability), d.within(low, high));
        for side in &mut apex {
            let uneven = d.within(0.85, 1.1);
            if there {
                side.set(unit, strength * share * uneven);
            }
        }
    }
    if d.chance(0.12) {
        // One side weaker, as in many a smile or sneer.
        let side = d.pick(2);
        let share = d.within(0.5, 0.85);
        apex[side] = apex[side].map(|_, strength| strength * share);
    }
    apex
}
